"""How binary payloads are framed: magic, header length, header JSON, body."""

from __future__ import annotations

import struct

from pydantic import ValidationError

from agent.errors import WireError

HEADER_LIMIT = 65_536
"""Bytes of header JSON that a receiver accepts at most."""
_LENGTH = struct.Struct(">I")


def frame(magic: bytes, header: bytes, body: bytes | memoryview) -> bytes:
    """Four bytes of magic, header length (u32 big-endian), header, body."""
    return b"".join((magic, _LENGTH.pack(len(header)), header, body))


def unframe(magic: bytes, payload: bytes) -> tuple[bytes, memoryview]:
    """Header and body (a view into `payload`); raises WireError where the frame is not whole."""
    if payload[:4] != magic or len(payload) < 8:
        raise WireError(f"not a {magic.decode()} payload", remedy="it starts with that and its header's length")
    (length,) = _LENGTH.unpack_from(payload, 4)
    if length > HEADER_LIMIT or 8 + length > len(payload):
        raise WireError(f"header of {length} bytes", remedy=f"at most {HEADER_LIMIT}, and all of it there")
    return payload[8 : 8 + length], memoryview(payload)[8 + length :]


def first_error(error: ValidationError) -> str:
    """The first complaint of a validation, as ``key.path: what is wrong``."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return f"{'.'.join(str(part) for part in first['loc']) or 'value'}: {first['msg']}"
