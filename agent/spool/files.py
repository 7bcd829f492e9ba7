"""Item files: one immutable, self-describing file per item, ``items/a/<cid>.tkc``.

A file is the item as it goes over the wire in one part (`wire.encode_item`: header JSON with the metadata, then the
JPEG) and a CRC-32 of everything before the JPEG. The header holds the JPEG's sha256, so no flipped bit goes unseen, and
the index can be rebuilt from the headers alone. What is damaged moves to ``quarantine/`` with a reason beside it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import zlib
from pathlib import Path

from agent import durable, wire
from agent.errors import ItemError, WireError
from agent.records import Item, Meta, content_id
from agent.spool.quarantine import Quarantine

SUFFIX = ".tkc"
FOLDERS = "0123456789abcdef"
"""Folders of items by the id's first digit: with few of them the disk's own bookkeeping is written less often."""
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
        self.quarantine = Quarantine(folder / "quarantine")

    def path(self, cid: str, *, aside: bool = False) -> Path:
        """Where the item is, or where it is when it was set aside. Raises ItemError for what is no id."""
        return Path(self._name(cid, aside=aside))

    def _name(self, cid: str, *, aside: bool = False) -> str:
        """As `path`, for every item that comes by: see `durable`."""
        if not is_cid(cid):
            raise ItemError(f"{cid!r} is not an item's id")
        return f"{self.quarantine.folder}/{cid}{SUFFIX}" if aside else f"{self.items}/{cid[0]}/{cid}{SUFFIX}"

    def write(self, cid: str, content: bytes) -> None:
        """Durable when it returns; raises OSError."""
        name = self._name(cid)
        durable.make_folder(self.items / cid[0])
        durable.write_new(name, content)

    def read(self, cid: str, *, aside: bool = False) -> Item:
        """The verified item. Raises ItemError where the file is damaged or gone, OSError where it cannot be read."""
        try:
            with open(self._name(cid, aside=aside), "rb") as file:
                content = file.read()
        except FileNotFoundError:
            raise ItemError("the file is missing") from None
        return decode(content, cid)

    def read_meta(self, cid: str, *, aside: bool = False) -> tuple[Meta, int]:
        """Metadata and file size without reading the picture. Raises as `read`, but a damaged picture goes unseen."""
        try:
            with open(self._name(cid, aside=aside), "rb") as file:
                head = file.read(_HEAD_BYTES)
                length = os.fstat(file.fileno()).st_size
                crc = os.pread(file.fileno(), _CRC_BYTES, max(length - _CRC_BYTES, 0))
        except FileNotFoundError:
            raise ItemError("the file is missing") from None
        return decode_head(head, length, crc, cid)[0], length

    def remove(self, cid: str) -> None:
        durable.remove(self._name(cid))

    def remove_empty_folders(self) -> None:
        """Give their inodes back; they are made again when they are needed."""
        for folder in FOLDERS:
            with contextlib.suppress(OSError):
                (self.items / folder).rmdir()

    def names(self, folder: str) -> list[str]:
        """Names of everything in one of the `FOLDERS`; raises OSError other than that the folder is not there."""
        try:
            with os.scandir(self.items / folder) as found:
                return [entry.name for entry in found]
        except FileNotFoundError:
            return []


def is_cid(text: str) -> bool:
    return _CID.fullmatch(text) is not None


def cid_of(name: str, folder: str) -> str | None:
    """The id that a file name in this folder stands for; None for a name that is no item's."""
    cid = name.removesuffix(SUFFIX)
    return cid if name.endswith(SUFFIX) and is_cid(cid) and cid.startswith(folder) else None
