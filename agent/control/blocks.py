"""A model pulled over MQTT, block by block, where nothing but the broker can be reached."""

from __future__ import annotations

import queue
from collections.abc import Callable

from agent.errors import ModelError, RetryError, WireError
from agent.models import Fetch
from agent.wire import BlockRequest, ModelUpdate, decode_block

ANSWER_S = 20.0
"""A block of 32 KB takes 2 s at 16 kB/s."""


class BlockFetcher:
    """Asks on ``up/blk`` and waits for the answer on ``dn/blk``; one model at a time."""

    def __init__(self, publish: Callable[[bytes], None], *, answer_s: float = ANSWER_S) -> None:
        """`publish` sends a request; it raises RetryError while there is no connection."""
        self._publish = publish
        self._answer_s = answer_s
        self._answers: queue.Queue[bytes] = queue.Queue(maxsize=4)

    def arrived(self, payload: bytes) -> None:
        """A message on ``dn/blk``; called by the broker's thread. What nobody waits for is dropped."""
        if not self._answers.full():
            self._answers.put_nowait(payload)

    def fetch(self, update: ModelUpdate) -> Fetch:
        """A fetch of this model's blocks."""

        def fetch_block(offset: int, length: int) -> bytes:
            self._publish(BlockRequest(model_id=update.model_id, off=offset, len=length).encode())
            while True:
                try:
                    payload = self._answers.get(timeout=self._answer_s)
                except queue.Empty:
                    raise RetryError(f"no block at {offset} came within {self._answer_s:.0f} s") from None
                content = _content(payload, update, offset)
                if content is not None:
                    return content

        return fetch_block


def _content(payload: bytes, update: ModelUpdate, offset: int) -> bytes | None:
    """The bytes of the block that was asked for; None for what is another one, late or broken."""
    try:
        header, body = decode_block(payload)
    except WireError:
        return None
    if (header.model_id, header.off) != (update.model_id, offset):
        return None
    if (header.size, header.sha256) != (update.size, update.sha256):
        raise ModelError("the control side streams another model than it announced", remedy="start the roll-out again")
    return bytes(body)
