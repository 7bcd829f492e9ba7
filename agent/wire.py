"""Protocol ``tk/v1``: topics and payloads, encode and decode. The only place that knows how messages look."""

from __future__ import annotations

import struct
from typing import Literal

from pydantic import Field, ValidationError

from agent.errors import WireError
from agent.records import Item, Meta, Record

CANDIDATE_MAGIC = b"TKC1"
HEADER_LIMIT = 65_536
"""Bytes of header JSON that a receiver accepts at most."""
PARTS_LIMIT = 256
_LENGTH = struct.Struct(">I")


class CandidateHeader(Record):
    """Header of one part of a candidate: part `i` of `n`, bytes ``off`` onwards of an image of `size` bytes."""

    v: Literal[1] = 1
    cid: str = Field(pattern=r"^[0-9a-f]{32}$")
    i: int = Field(ge=0)
    n: int = Field(ge=1, le=PARTS_LIMIT)
    off: int = Field(ge=0)
    size: int = Field(gt=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    ctype: Literal["image/jpeg"] = "image/jpeg"
    meta: Meta | None = None


def encode_candidate(header: CandidateHeader, body: bytes | memoryview) -> bytes:
    """``TKC1``, header length (u32 big-endian), header JSON, body bytes."""
    text = header.model_dump_json(exclude_none=header.meta is None).encode()
    return b"".join((CANDIDATE_MAGIC, _LENGTH.pack(len(text)), text, body))


def decode_candidate(payload: bytes) -> tuple[CandidateHeader, memoryview]:
    """Header and body (a view into `payload`) of one part; raises WireError for anything that is not one."""
    if payload[:4] != CANDIDATE_MAGIC or len(payload) < 8:
        raise WireError("not a candidate", remedy="a payload starts with TKC1 and the length of its header")
    (length,) = _LENGTH.unpack_from(payload, 4)
    if length > HEADER_LIMIT or 8 + length > len(payload):
        raise WireError(f"candidate header of {length} bytes", remedy=f"at most {HEADER_LIMIT}, and all of it there")
    try:
        header = CandidateHeader.model_validate_json(payload[8 : 8 + length])
    except ValidationError as error:
        raise WireError(f"candidate header: {first_error(error)}") from None
    return header, memoryview(payload)[8 + length :]


def encode_item(item: Item) -> bytes:
    """A whole item as one self-describing candidate part: how it goes over the wire when it fits, and onto the disk."""
    header = CandidateHeader(
        cid=item.cid, i=0, n=1, off=0, size=len(item.image), sha256=item.sha256, meta=item.meta
    )
    return encode_candidate(header, item.image)


def first_error(error: ValidationError) -> str:
    """The first complaint of a validation, as ``key.path: what is wrong``."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return f"{'.'.join(str(part) for part in first['loc']) or 'value'}: {first['msg']}"
