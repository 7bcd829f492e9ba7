"""Item files: one immutable, self-describing file per item, ``items/aa/<cid>.tkc``.

A file is the item as it goes over the wire in one part (`wire.encode_item`: header JSON with the metadata, then the
JPEG) and a CRC-32 of everything before the JPEG. The header holds the JPEG's sha256, so no flipped bit goes unseen, and
the index can be rebuilt from the headers alone. What is damaged moves to ``quarantine/`` with a reason beside it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

from agent import durable, wire
from agent.errors import ItemError, WireError
from agent.records import Item, Meta, content_id
from agent.spool.entry import whole_blocks

SUFFIX = ".tkc"
_CID = re.compile(r"[0-9a-f]{32}")
_CRC_BYTES = 4
_HEAD_BYTES = 8 + wire.HEADER_LIMIT


def encode(item: Item) -> bytes:
    """The bytes of an item's file."""
    part = wire.encode_item(item)
    crc = zlib.crc32(memoryview(part)[: len(part) - len(item.image)])
    return part + crc.to_bytes(_CRC_BYTES, "big")


def decode(content: bytes, cid: str) -> Item:
    """The item in a file's bytes; raises ItemError saying what is wrong with it."""
    meta, size, sha256 = decode_head(content, len(content), content[-_CRC_BYTES:], cid)
    image = content[len(content) - _CRC_BYTES - size : -_CRC_BYTES]
    if hashlib.sha256(image).hexdigest() != sha256:
        raise ItemError("the image is damaged: its sha256 is another")
    return Item(cid, image, sha256, meta)


def decode_head(head: bytes, length: int, crc: bytes, cid: str) -> tuple[Meta, int, str]:
    """Metadata, image size and image sha256 from the first bytes of a file of `length` bytes that ends in `crc`."""
    try:
        header, body = wire.decode_candidate(head)
    except WireError as error:
        raise ItemError(f"the header is damaged: {error.what}") from None
    start = len(head) - len(body)
    if zlib.crc32(head[:start]).to_bytes(_CRC_BYTES, "big") != crc:
        raise ItemError("the header is damaged: its checksum is another, or the file is cut short")
    if start + header.size + _CRC_BYTES != length:
        raise ItemError(f"the file has {length} bytes and should have {start + header.size + _CRC_BYTES}")
    if header.meta is None or (header.i, header.n, header.off) != (0, 1, 0):
        raise ItemError("the file is not a whole item with its metadata")
    if header.cid != cid or content_id(header.meta.device, header.meta.ts_ns, header.sha256) != cid:
        raise ItemError("the id does not belong to the content")
    return header.meta, header.size, header.sha256


class ItemFiles:
    """The folders ``items`` and ``quarantine`` of one spool. Names come from ids, so nobody's path gets in."""

    def __init__(self, folder: Path) -> None:
        self.items = folder / "items"
        self.quarantine = folder / "quarantine"

    def path(self, cid: str, *, aside: bool = False) -> Path:
        """Where the item is, or where it is when it was set aside."""
        return (self.quarantine if aside else self.items / cid[:2]) / (cid + SUFFIX)

    def write(self, cid: str, content: bytes) -> None:
        """Durable when it returns; raises OSError."""
        path = self.path(cid)
        durable.make_folder(path.parent)
        durable.write(path, content)

    def read(self, cid: str, *, aside: bool = False) -> Item:
        """The verified item. Raises ItemError where the file is damaged or gone, OSError where it cannot be read."""
        try:
            content = self.path(cid, aside=aside).read_bytes()
        except FileNotFoundError:
            raise ItemError("the file is missing") from None
        return decode(content, cid)

    def read_meta(self, cid: str, *, aside: bool = False) -> tuple[Meta, int]:
        """Metadata and file size without reading the picture. Raises as `read`, but a damaged picture goes unseen."""
        try:
            with self.path(cid, aside=aside).open("rb") as file:
                head = file.read(_HEAD_BYTES)
                length = os.fstat(file.fileno()).st_size
                crc = os.pread(file.fileno(), _CRC_BYTES, max(length - _CRC_BYTES, 0))
        except FileNotFoundError:
            raise ItemError("the file is missing") from None
        return decode_head(head, length, crc, cid)[0], length

    def remove(self, cid: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.path(cid).unlink()

    def folders(self) -> Iterator[str]:
        """Names of the folders that there are under ``items``, in order."""
        with contextlib.suppress(FileNotFoundError):
            yield from sorted(entry.name for entry in os.scandir(self.items) if entry.is_dir(follow_symlinks=False))

    def names(self, folder: str) -> list[str]:
        """Names of everything in one folder under ``items``."""
        with os.scandir(self.items / folder) as found:
            return [entry.name for entry in found]

    def set_aside(self, path: Path, reason: str, name: str = "") -> None:
        """Move a file to the quarantine and write down why; a reason alone stays where there is no file any more."""
        name = name or path.name
        durable.make_folder(self.quarantine)
        note = json.dumps({"v": 1, "name": name, "reason": reason}).encode()
        with contextlib.suppress(OSError):  # on a full disk the file still goes, its reason is in the log
            durable.write(self.quarantine / (name.removesuffix(SUFFIX) + ".json"), note)
        with contextlib.suppress(FileNotFoundError):
            os.rename(path, self.quarantine / name)
        durable.sync_folder(self.quarantine)

    def size_aside(self, name: str) -> int:
        """Bytes of what was set aside under this name; 0 where only the reason is left."""
        with contextlib.suppress(OSError):
            return self.path(name, aside=True).stat().st_size
        return 0

    def trim_quarantine(self, limit: int) -> int:
        """Delete the oldest files in quarantine until they take `limit` bytes at most; returns how many items went."""
        aged = sorted((path.stat().st_mtime_ns, path) for path in self.quarantine.iterdir())
        taken, gone = self.quarantine_bytes(), 0
        for _, path in aged:
            if taken <= limit:
                break
            taken -= whole_blocks(path.stat().st_size)
            path.unlink()
            gone += path.suffix != ".json"
        return gone

    def quarantine_bytes(self) -> int:
        """Bytes that the files in quarantine take on the disk."""
        try:
            return sum(whole_blocks(found.stat().st_size) for found in os.scandir(self.quarantine))
        except FileNotFoundError:
            return 0

    def quarantined(self) -> dict[str, str]:
        """Reasons by name (the cid, where the file is an item's) of all that is in quarantine."""
        found: dict[str, str] = {}
        with contextlib.suppress(FileNotFoundError):
            for path in sorted(self.quarantine.iterdir()):
                if path.suffix in (SUFFIX, ".json"):
                    found[path.stem] = _reason(path.with_suffix(".json"))
        return found


def is_cid(text: str) -> bool:
    return _CID.fullmatch(text) is not None


def cid_of(name: str, folder: str) -> str | None:
    """The id that a file name in this folder stands for; None for a name that is no item's."""
    cid = name.removesuffix(SUFFIX)
    return cid if name.endswith(SUFFIX) and is_cid(cid) and cid.startswith(folder) else None


def _reason(path: Path) -> str:
    try:
        return str(json.loads(path.read_bytes())["reason"])
    except (OSError, ValueError, KeyError, TypeError):
        return "unknown"
