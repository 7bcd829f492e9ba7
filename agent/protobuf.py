"""The wire format of Protocol Buffers, as far as ONNX files need it: no onnx package on the device.

Files are untrusted: what is no message raises ValueError, whatever it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

Content: TypeAlias = "memoryview | int"
"""Bytes of a string, of a message within or of a number of fixed width; or a varint."""


def fields(message: memoryview) -> Iterator[tuple[int, Content]]:
    """Fields of a message in their order, as (number, content)."""
    for number, content, _ in raw_fields(message):
        yield number, content


def raw_fields(message: memoryview) -> Iterator[tuple[int, Content, memoryview]]:
    """As `fields`, each with all of its bytes: joined, they are the message."""
    at = 0
    while (begin := at) < len(message):
        key, at = _varint(message, at)
        number, wire_type = key >> 3, key & 7
        if wire_type == 0:
            value, at = _varint(message, at)
            yield number, value, message[begin:at]
            continue
        if wire_type == 2:
            length, at = _varint(message, at)
        elif wire_type in (1, 5):
            length = 8 if wire_type == 1 else 4
        else:
            raise ValueError(f"wire type {wire_type}")
        if at + length > len(message):
            raise ValueError("cut off")
        yield number, message[at : at + length], message[begin : at + length]
        at += length


def varints(packed: memoryview) -> Iterator[int]:
    """The numbers of a packed field."""
    at = 0
    while at < len(packed):
        value, at = _varint(packed, at)
        yield value


def field(number: int, content: bytes | int) -> bytes:
    """One field with a varint, or with bytes: a string, or a message."""
    if isinstance(content, int):
        return _as_varint(number << 3) + _as_varint(content)
    return head(number, len(content)) + content


def head(number: int, length: int) -> bytes:
    """What stands before the bytes of a field with so many."""
    return _as_varint(number << 3 | 2) + _as_varint(length)


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    if at < len(message) and (value := message[at]) < 0x80:  # most are
        return value, at + 1
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            break
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("bad number")


def _as_varint(value: int) -> bytes:
    coded = bytearray()
    while value >= 0x80:
        coded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*coded, value))
