"""Streams a model to devices that can reach nothing but the broker."""

from __future__ import annotations

import queue
import threading
from pathlib import Path

from agent.bundle import MODEL_FILE, Manifest, read_bundle
from agent.errors import ModelError, WireError
from agent.fleet.link import Link
from agent.wire import BlockHeader, BlockRequest, encode_block


class BlockServer:
    """Answers ``up/blk`` from one bundle, in a thread of its own, as long as the link is open."""

    def __init__(self, link: Link, bundle: Path) -> None:
        """Made before the link is entered, with ``up/blk`` among its topics. Raises ModelError."""
        read = read_bundle(bundle)
        if read.manifest is None:
            raise ModelError(f"{bundle} is a bare ONNX", remedy="make a bundle with `tailkeeper model export`")
        self._content = read.onnx
        self._manifest: Manifest = read.manifest
        self._file = bundle / MODEL_FILE
        self._link = link
        self._asked: queue.SimpleQueue[tuple[str, bytes] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="model blocks", daemon=True)
        link.listen(self._heard)

    def __enter__(self) -> BlockServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._asked.put(None)
        self._thread.join()

    def _heard(self, device: str, levels: tuple[str, ...], payload: bytes) -> None:
        if levels == ("up", "blk"):
            self._asked.put((device, payload))

    def _serve(self) -> None:
        while (asked := self._asked.get()) is not None:
            device, payload = asked
            try:
                request = BlockRequest.decode(payload)
            except WireError:
                continue
            if request.model_id == self._manifest.model_id:
                self._answer(device, request)

    def _answer(self, device: str, request: BlockRequest) -> None:
        """What gets lost the device asks for again."""
        header = BlockHeader(
            model_id=request.model_id, off=request.off, size=self._manifest.size, sha256=self._manifest.sha256
        )
        body = self._content[request.off : request.off + request.len]
        self._link.broker.publish(self._link.topics(device).dn("blk"), encode_block(header, body))
