"""The wire format is read as protobuf writes it, and written as protobuf reads it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from agent.protobuf import field, fields, raw_fields, varints

CONTENTS = st.one_of(st.binary(max_size=300), st.integers(0, 2**64 - 1))


@given(st.lists(st.tuples(st.integers(1, 2**29 - 1), CONTENTS), max_size=8))
def test_what_is_written_is_read(written: list[tuple[int, bytes | int]]) -> None:
    message = b"".join(field(number, content) for number, content in written)
    assert [(number, content) for number, content in fields(memoryview(message))] == written
    assert b"".join(raw for _, _, raw in raw_fields(memoryview(message))) == message


def test_protobuf_reads_what_is_written() -> None:
    tensor = TensorProto.FromString(field(1, 300) + field(1, 2) + field(8, b"weight") + field(9, bytes(1000)))
    assert (list(tensor.dims), tensor.name, len(tensor.raw_data)) == ([300, 2], "weight", 1000)


def test_numbers_may_be_packed() -> None:
    packed = dict(fields(memoryview(TensorProto(int64_data=[1, 300, 2**40]).SerializeToString())))[7]
    assert isinstance(packed, memoryview)
    assert list(varints(packed)) == [1, 300, 2**40]


@pytest.mark.parametrize("junk", [b"\x80", b"\x0a\x05abc", b"\x0b", b"\x09abc", b"\x08" + b"\xff" * 11])
def test_what_is_no_message_is_refused(junk: bytes) -> None:
    with pytest.raises(ValueError, match=r"bad number|cut off|wire type"):
        list(fields(memoryview(junk)))
