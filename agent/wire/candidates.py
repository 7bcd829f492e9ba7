"""Candidates on the wire and on the disk: header, chunks, and metadata that fits."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

from pydantic import Field, ValidationError

from agent.errors import WireError
from agent.records import Item, Meta, Record
from agent.wire.framing import first_error, frame, unframe
from agent.wire.payloads import PARTS_LIMIT, Cid

CANDIDATE_MAGIC = b"TKC1"
META_LIMIT = 32_768
"""Bytes of metadata JSON that a device puts into a candidate: part 0 stays small enough for any broker."""
CHUNK_LIMIT = 64_000
"""Bytes of a chunk's whole MQTT packet at most."""
CHUNK_FLOOR = 4_096
"""The smallest chunk worth sending: the header takes about 250 bytes of it."""


class CandidateHeader(Record):
    """Header of one part of a candidate: part `i` of `n`, from byte `off` of an image of `size` bytes."""

    v: Literal[1] = 1
    cid: Cid
    i: int = Field(ge=0, lt=PARTS_LIMIT)
    n: int = Field(ge=1, le=PARTS_LIMIT)
    off: int = Field(ge=0, lt=2**31)
    size: int = Field(gt=0, lt=2**31)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    ctype: Literal["image/jpeg"] = "image/jpeg"
    meta: Meta | None = None


def encode_candidate(header: CandidateHeader, body: bytes | memoryview) -> bytes:
    """``TKC1``, header length (u32 big-endian), header JSON, body bytes."""
    return frame(CANDIDATE_MAGIC, header.model_dump_json(exclude_none=header.meta is None).encode(), body)


def decode_candidate(payload: bytes) -> tuple[CandidateHeader, memoryview]:
    """Header and body (a view into `payload`) of one part; raises WireError for anything that is not one."""
    text, body = unframe(CANDIDATE_MAGIC, payload)
    try:
        return CandidateHeader.model_validate_json(text), body
    except ValidationError as error:
        raise WireError(f"candidate header: {first_error(error)}") from None


def encode_item(item: Item) -> bytes:
    """A whole item as one self-describing part: how it goes over the wire when it fits, and onto the disk."""
    return encode_part(item, Part(0, 1, 0, len(item.image)))


@dataclass(frozen=True, slots=True)
class Part:
    """Part `i` of `n` of an image: `length` bytes from `off` on."""

    i: int
    n: int
    off: int
    length: int


def encode_part(item: Item, part: Part) -> bytes:
    """One part of an item; the metadata travels with part 0."""
    header = CandidateHeader(
        cid=item.cid,
        i=part.i,
        n=part.n,
        off=part.off,
        size=len(item.image),
        sha256=item.sha256,
        meta=item.meta if part.i == 0 else None,
    )
    return encode_candidate(header, memoryview(item.image)[part.off : part.off + part.length])


def packet_size(topic: str, payload: int) -> int:
    """Bytes of a QoS 1 PUBLISH at most: fixed header 5, topic and its length, packet id 2, no properties 1."""
    return 5 + 2 + len(topic.encode()) + 2 + 1 + payload


def split(item: Item, topic: str, limit: int, chunk: int) -> tuple[Part, ...]:
    """Cut an item so that no PUBLISH to `topic` is larger than `limit` bytes.

    One part when the whole fits, and on a slow link (`chunk` below `CHUNK_LIMIT`) only when it fits a chunk.
    Otherwise parts whose packets have at most `chunk` bytes, or as much more as metadata (part 0) and the limit on
    the number of parts need. Raises WireError when even `limit` is too small.
    """
    size = len(item.image)
    first = packet_size(topic, len(encode_part(item, Part(0, PARTS_LIMIT, size, 0))))
    if first + size <= (limit if chunk >= CHUNK_LIMIT else min(limit, chunk)):
        return (Part(0, 1, 0, size),)
    later = packet_size(topic, len(encode_part(item, Part(PARTS_LIMIT - 1, PARTS_LIMIT, size, 0))))
    chunk = min(chunk, limit)
    head = chunk - first if chunk - first >= 256 else min(256, limit - first)
    room = max(chunk - later, -(-(size - head) // (PARTS_LIMIT - 1)))
    if head < 1 or room < 1 or room + later > limit:
        raise WireError(f"candidate {item.cid} of {size} bytes does not fit packets of {limit} bytes")
    cuts = [0, *range(head, size, room), size]
    return tuple(Part(i, len(cuts) - 1, off, end - off) for i, (off, end) in enumerate(itertools.pairwise(cuts)))


def fit_meta(meta: Meta, limit: int = META_LIMIT) -> Meta:
    """Leave out rows, the lowest unserved ones first, until the metadata's JSON has at most `limit` bytes.

    `rows_truncated` counts what was left out. Raises WireError where it is too large without any row.
    """
    excess = len(meta.model_dump_json().encode()) - limit
    if excess <= 0:
        return meta
    keep = set(range(len(meta.detections)))
    for index in sorted(keep, key=lambda i: (meta.detections[i].served, meta.detections[i].conf)):
        if excess <= -8:  # room for the digits of rows_truncated
            break
        keep.remove(index)
        excess -= len(meta.detections[index].model_dump_json().encode()) + 1
    kept = tuple(row for i, row in enumerate(meta.detections) if i in keep)
    left_out = meta.rows_truncated + len(meta.detections) - len(kept)
    fitted = meta.model_copy(update={"detections": kept, "rows_truncated": left_out})
    if len(fitted.model_dump_json().encode()) > limit:
        raise WireError(f"metadata of {limit + excess} bytes without any row", remedy=f"at most {limit}")
    return fitted
