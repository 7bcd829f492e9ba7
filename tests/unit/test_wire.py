"""Topics, payloads, chunks: what goes over the wire comes out the same, and anything else is refused in one line."""

from __future__ import annotations

import json
import random
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import WireError
from agent.records import Detection, Item, Meta
from agent.wire import (
    CHUNK_LIMIT,
    HEADER_LIMIT,
    META_LIMIT,
    Ack,
    BlockHeader,
    BlockRequest,
    Command,
    CommandState,
    DesiredConfig,
    NeedMap,
    Payload,
    Query,
    Receipt,
    Stats,
    Status,
    Topics,
    decode_block,
    decode_candidate,
    encode_block,
    encode_item,
    encode_part,
    fit_meta,
    packet_size,
    split,
)
from tests.fakes.items import an_item

TOPIC = Topics("tk/v1", "gate-north").candidate
CID = "0123456789abcdef" * 2


def test_topics_say_who_writes_and_who_reads() -> None:
    topics = Topics("tk/v1", "gate")
    assert topics.status == "tk/v1/gate/up/status"
    assert topics.candidate == "tk/v1/gate/up/c"
    assert topics.ack == "tk/v1/gate/dn/ack"
    assert topics.up("cmd", "7") == "tk/v1/gate/up/cmd/7"
    assert Topics.parse("tk/v1", "tk/v1/gate/up/cmd/7") == (topics, ("up", "cmd", "7"))


@pytest.mark.parametrize(
    "topic", ["", "tk/v1", "tk/v1/gate", "tk/v2/gate/up/c", "tk/v1/a.b/up/c", "tk/v1//up/c", "x" * 9999]
)
def test_a_foreign_topic_is_refused(topic: str) -> None:
    with pytest.raises(WireError):
        Topics.parse("tk/v1", topic)


def test_an_item_survives_the_wire_in_one_part() -> None:
    item = an_item(1, classes=("person", "bicycle"))
    header, body = decode_candidate(encode_item(item))
    assert (header.cid, header.sha256, header.size, header.n) == (item.cid, item.sha256, len(item.image), 1)
    assert header.meta == item.meta
    assert bytes(body) == item.image


@given(
    size=st.integers(10, 400_000),
    limit=st.integers(3_000, 200_000),
    chunk=st.integers(1_000, 64_000),
    rows=st.integers(0, 8),
)
def test_parts_fit_the_limit_and_join_up_to_the_image(size: int, limit: int, chunk: int, rows: int) -> None:
    item = an_item(size, size=size, classes=("person",) * rows)
    try:
        parts = split(item, TOPIC, limit, chunk)
    except WireError:
        assert size / 256 > limit - 1000 - 150 * rows
        return
    payloads = [encode_part(item, part) for part in parts]
    assert all(packet_size(TOPIC, len(payload)) <= limit for payload in payloads)
    decoded = [decode_candidate(payload) for payload in payloads]
    assert b"".join(body for _, body in decoded) == item.image
    assert [header.i for header, _ in decoded] == list(range(len(parts)))
    assert {header.n for header, _ in decoded} == {len(parts)}
    assert [header.meta is not None for header, _ in decoded] == [True] + [False] * (len(parts) - 1)
    assert all(len(body) > 0 for _, body in decoded)


def test_chunks_are_no_larger_than_asked_for() -> None:
    item = an_item(size=300_000)
    parts = split(item, TOPIC, 126_000, CHUNK_LIMIT)
    assert len(parts) == 5
    assert max(packet_size(TOPIC, len(encode_part(item, part))) for part in parts) <= CHUNK_LIMIT


def test_an_item_too_large_for_256_parts_is_refused() -> None:
    with pytest.raises(WireError, match="does not fit"):
        split(an_item(size=1_000_000), TOPIC, 4_096, 4_096)


def _meta_with_rows(served: int, unserved: int) -> Meta:
    rows = tuple(
        Detection(c=0, name="person", conf=round(0.9 - i / 1000, 3), xyxy=(1, 2, 3, 4), served=i < served)
        for i in range(served + unserved)
    )
    return an_item().meta.model_copy(update={"detections": rows})


def test_the_lowest_unserved_rows_are_left_out_first() -> None:
    meta = _meta_with_rows(served=40, unserved=260)
    fitted = fit_meta(meta, 12_000)
    assert len(fitted.model_dump_json()) <= 12_000
    assert fitted.rows_truncated == 300 - len(fitted.detections) > 0
    assert fitted.detections == meta.detections[: len(fitted.detections)]
    assert sum(row.served for row in fitted.detections) == 40


def test_metadata_that_fits_is_left_alone() -> None:
    meta = _meta_with_rows(served=3, unserved=20)
    assert fit_meta(meta) is meta


def test_fitted_metadata_makes_a_header_within_the_limit() -> None:
    item = an_item()
    fitted = Item(item.cid, item.image, item.sha256, fit_meta(_meta_with_rows(300, 500)))
    assert len(encode_item(fitted)) - len(item.image) < META_LIMIT + 500 < HEADER_LIMIT


def test_metadata_that_can_not_fit_is_refused() -> None:
    with pytest.raises(WireError, match="without any row"):
        fit_meta(_meta_with_rows(1, 1), 100)


def test_a_block_survives_the_wire() -> None:
    header = BlockHeader(model_id="street-1", off=65_536, size=9_000_000, sha256="a" * 64)
    decoded, body = decode_block(encode_block(header, b"\x00weights"))
    assert decoded == header
    assert bytes(body) == b"\x00weights"


PAYLOADS: list[Payload] = [
    Status(state="offline", reason="stopped", boot="b", conn=3, ts="2026-01-01T00:00:00.000Z"),
    DesiredConfig(version=4, values={"selection": {"budget": 0.03}}),
    NeedMap(version=1, weights={"person": 2.0}),
    Command(cmd_id="c-1", op="purge", args={"expect": 3}, issued="i", expires="e", by="me"),
    CommandState(cmd_id="c-1", status="failed", reason="because"),
    Query(cids=(CID,)),
    Receipt(acks=(Ack(cid=CID, st="partial", missing=(0, 3)), Ack(cid=CID, st="rejected", why="no"))),
    BlockRequest(model_id="m", off=0, len=1000),
]


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: type(payload).__name__)
def test_payloads_survive_the_wire_and_ignore_what_is_new(payload: Payload) -> None:
    text = payload.encode()
    assert json.loads(text)["v"] == 1
    assert b"null" not in text
    newer = json.dumps({**json.loads(text), "added_later": 1}).encode()
    assert type(payload).decode(newer) == payload


def test_unknown_figures_are_null_and_not_left_out() -> None:
    stats = Stats.model_validate(
        {
            **{"ts": "t", "uptime_s": 1, "cameras": {}, "infer_ms": {"p50": None, "p95": None}, "cpu": None},
            **{"rss_mb": None, "temp_c": None, "throttled": None, "clock_synced": False, "disk_free_mb": None},
            "spool": {"items": 0, "bytes": 0, "oldest_s": None, "sent": 0, "quarantined": 0, "evicted": {}},
            **{"budget": {}, "drift": {}, "counters": {}},
        }
    )
    assert json.loads(stats.encode())["temp_c"] is None


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Receipt, b""),
        (Receipt, b"\xff\xfe"),
        (Receipt, b"[" * 10_000),
        (Receipt, b'{"v":2,"acks":[]}'),
        (Receipt, b'{"v":1,"acks":[{"cid":"../../etc/passwd","st":"stored"}]}'),
        (
            Receipt,
            b'{"v":1,"acks":[{"cid":"' + CID.encode() + b'","st":"partial","missing":' + b"[1" + b",1" * 300 + b"]}]}",
        ),
        (Query, json.dumps({"v": 1, "cids": [CID] * 101}).encode()),
        (DesiredConfig, json.dumps({"v": 1, "version": 1, "values": {"x": "y" * 300_000}}).encode()),
        (DesiredConfig, b'{"v":1,"version":1e999,"values":{}}'),
        (Command, b'{"v":1,"cmd_id":"a/b","op":"x","issued":"","expires":"","by":""}'),
    ],
    ids=string.ascii_lowercase[:10],
)
def test_what_breaks_the_protocol_is_refused_in_one_line(kind: type[Payload], text: bytes) -> None:
    with pytest.raises(WireError) as caught:
        kind.decode(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "payload", [b"", b"TKC1", b"TKC1\x00\x00\x00\x05{}", b"TKB1\x00\x00\x00\x02{}", b"TKC1\xff\xff\xff\xff{}"]
)
def test_a_broken_frame_is_no_candidate(payload: bytes) -> None:
    with pytest.raises(WireError):
        decode_candidate(payload)


def test_two_thousand_mutated_candidates_are_decoded_or_refused() -> None:
    rng = random.Random(7)
    good = encode_item(an_item(3, classes=("person", "dog")))
    for _ in range(2_000):
        broken = bytearray(good)
        for _ in range(rng.randint(1, 8)):
            broken[rng.randrange(min(len(broken), 900))] = rng.randrange(256)
        try:
            decode_candidate(bytes(broken[: rng.randint(0, len(broken))]))
        except WireError:
            continue
