"""Fetching a model in blocks that survive a power cut: HTTP(S) ranges, or whatever else yields bytes at an offset."""

from __future__ import annotations

import hashlib
import http.client
import math
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO, TypeAlias

from agent import __version__, durable
from agent.bundle import MODEL_FILE
from agent.errors import ModelError, RetryError

Fetch: TypeAlias = Callable[[int, int], bytes]
"""Bytes of the model: (offset, length) -> exactly so many bytes. Raises RetryError where the link fails,
ModelError where it will never work."""

HTTP_BLOCK = 1_048_576
MQTT_BLOCK = 32_768
_FLUSH_BYTES = 1_048_576
"""Fetched bytes that a power cut may cost: fewer would wear the flash, more would be fetched again."""
_PROGRESS = "progress.json"
_LAYOUT = 1


class Download:
    """One model being fetched into a folder: the file, and a durable bitmap of the blocks that it holds."""

    def __init__(self, folder: Path, size: int, sha256: str, block: int, trace: Callable[[str], None]) -> None:
        """Take up what an earlier download of the very same file left in `folder`; raises OSError."""
        self._file = folder / MODEL_FILE
        self._progress = folder / _PROGRESS
        self._facts = {"size": size, "sha256": sha256, "block": block}
        self._size, self._sha256, self._block = size, sha256, block
        self._trace = trace
        self._have = bytearray(math.ceil(size / block))
        state = durable.load_state(self._progress, _LAYOUT)
        if state and {key: state.get(key) for key in self._facts} == self._facts and self._file.exists():
            done = bytes.fromhex(state["have"])
            self._have[: len(done)] = done
        else:
            self._start_afresh()

    @property
    def progress(self) -> float:
        """Share of the blocks that are there, 0 to 1."""
        return sum(self._have) / len(self._have)

    def run(self, fetch: Fetch, report: Callable[[float], None]) -> None:
        """Fetch what is missing and verify the whole; raises what `fetch` raises, OSError for the disk.

        ModelError where the complete file is another one than was announced: then all of it is given up.
        """
        with self._file.open("r+b") as file:
            try:
                self._fill(file, fetch, report)
            finally:
                self._save(file)  # also when the link broke: one that never holds for long still gets there
            digest = hashlib.sha256()
            file.seek(0)
            while chunk := file.read(_FLUSH_BYTES):
                digest.update(chunk)
        if digest.hexdigest() != self._sha256:
            self._start_afresh()
            raise ModelError(
                "the downloaded file has another sha256 than announced", remedy="check what the URL serves"
            )
        self._progress.unlink(missing_ok=True)

    def _fill(self, file: IO[bytes], fetch: Fetch, report: Callable[[float], None]) -> None:
        pending = 0
        for index in [i for i, have in enumerate(self._have) if not have]:
            pending += self._fetch_block(file, index, fetch)
            if pending >= _FLUSH_BYTES:
                self._save(file)
                report(self.progress)
                pending = 0

    def _fetch_block(self, file: IO[bytes], index: int, fetch: Fetch) -> int:
        offset = index * self._block
        length = min(self._block, self._size - offset)
        content = fetch(offset, length)
        if len(content) != length:
            raise ModelError(f"the model is truncated: {len(content)} of {length} bytes at {offset}")
        file.seek(offset)
        file.write(content)
        self._have[index] = 1
        self._trace("model.block")
        return length

    def _save(self, file: IO[bytes]) -> None:
        """First the blocks, then the note that they are there."""
        file.flush()
        os.fsync(file.fileno())
        self._trace("model.blocks written")
        durable.save_state(self._progress, _LAYOUT, {**self._facts, "have": self._have.hex()})
        self._trace("model.progress saved")

    def _start_afresh(self) -> None:
        self._have = bytearray(len(self._have))
        self._progress.unlink(missing_ok=True)
        self._file.unlink(missing_ok=True)
        with self._file.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, self._size)  # a full disk shows now, not at the last block
            os.fsync(file.fileno())
        durable.sync_folder(self._file.parent)


def http_fetch(url: str, *, timeout_s: float = 30.0) -> Fetch:
    """A fetch over HTTP or HTTPS; raises ModelError for another kind of URL.

    A server that knows no ranges answers with the whole file: what lies before the offset is read and dropped.
    """
    if not url.lower().startswith(("https://", "http://")):
        raise ModelError(f"{url[:60]!r} is no URL of a model", remedy="use https://")

    def fetch(offset: int, length: int) -> bytes:
        wanted = {"Range": f"bytes={offset}-{offset + length - 1}", "User-Agent": f"tailkeeper/{__version__}"}
        request = urllib.request.Request(url, headers=wanted)
        try:
            with urllib.request.urlopen(request, timeout=timeout_s) as answer:
                if answer.status != 206:
                    _skip(answer, offset)
                return _read(answer, length)
        except urllib.error.HTTPError as error:
            kind = RetryError if error.code >= 500 or error.code in (408, 429) else ModelError
            raise kind(f"the model's server answers {error.code} {error.reason}") from None
        except (OSError, http.client.HTTPException) as error:
            raise RetryError(f"the model's server cannot be reached: {error}") from None

    return fetch


def _skip(answer: http.client.HTTPResponse, count: int) -> None:
    while count > 0 and (chunk := answer.read(min(count, _FLUSH_BYTES))):
        count -= len(chunk)


def _read(answer: http.client.HTTPResponse, length: int) -> bytes:
    """At most `length` bytes; fewer only where the file ends there. Raises IncompleteRead where the link broke."""
    content = b""
    while len(content) < length and (chunk := answer.read(length - len(content))):
        content += chunk
    if len(content) < length and answer.length:
        raise http.client.IncompleteRead(content, answer.length)
    return content
