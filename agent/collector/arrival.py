"""Messages as they arrive: whose they are, which part of which candidate, and candidates that came together whole.

Everything a device says is material to judge. The topic says whose message it is, since the broker's ACL guards it;
sizes and counts are bounded before anything is kept; ids are computed again and never used as they came.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from agent.errors import WireError
from agent.records import Meta, content_id
from agent.wire import CandidateHeader, decode_candidate

_CID = re.compile(rb'"cid"\s*:\s*"([0-9a-f]{32})"')


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message with its topic's device."""

    device: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Piece:
    """One part of a candidate, within the limits."""

    device: str
    header: CandidateHeader
    body: memoryview
    number: int
    """Of its message in the batch."""

    @property
    def cid(self) -> str:
        return self.header.cid


@dataclass(frozen=True, slots=True)
class Whole:
    """A candidate with nothing missing, not verified yet."""

    device: str
    header: CandidateHeader
    meta: Meta
    image: bytes


def piece(message: Incoming, number: int, max_image_bytes: int) -> Piece:
    """The part in a message; raises WireError for anything that is none, or is beyond the limits."""
    header, body = decode_candidate(message.payload)
    device, length = message.device, len(body)
    if header.size > max_image_bytes:
        raise WireError(f"image of {header.size} bytes", remedy=f"at most {max_image_bytes}")
    if not 0 < length <= header.size - header.off or header.i >= header.n:
        raise WireError(f"part {header.i} of {header.n}: {length} bytes at {header.off} of {header.size}")
    if header.n == 1 and length != header.size:
        raise WireError(f"one part of {length} bytes for an image of {header.size}")
    if header.i == 0:
        if header.meta is None or header.off:
            raise WireError("part 0 without metadata, or not at the beginning")
        if header.meta.device != device:
            raise WireError(f"metadata of device {header.meta.device}", remedy=f"the topic is {device}'s")
        if header.cid != content_id(device, header.meta.ts_ns, header.sha256):
            raise WireError("the id does not belong to device, time and sha256")
    return Piece(device, header, body, number)


def claimed_cid(message: Incoming) -> str | None:
    """The id that a message which is no part claims to be about, where it can be read."""
    found = _CID.search(message.payload, 0, 4096)
    return found[1].decode() if found else None


def agree(pieces: Sequence[Piece]) -> bool:
    """Whether parts with one id are of one device and one cut, so that they could be put together."""
    places: dict[int, tuple[int, int]] = {}
    cuts = {(one.device, one.header.n, one.header.size, one.header.sha256) for one in pieces}
    found = ((one.header.i, (one.header.off, len(one.body))) for one in pieces)
    return len(cuts) == 1 and all(places.setdefault(i, place) == place for i, place in found)


def join(pieces: Sequence[Piece]) -> Whole | None:
    """The candidate that parts which `agree` make up; None where one is missing or they do not join up."""
    by_number = {one.header.i: one for one in pieces}
    first = by_number.get(0)
    if first is None or first.header.meta is None or len(by_number) < first.header.n:
        return None
    image = b"".join(by_number[i].body for i in range(first.header.n))
    off = 0
    for i in range(first.header.n):
        if by_number[i].header.off != off:
            return None
        off += len(by_number[i].body)
    return Whole(first.device, first.header, first.header.meta, image) if off == first.header.size else None
