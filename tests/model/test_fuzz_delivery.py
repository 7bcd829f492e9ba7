"""Mutated messages at both ends of a delivery: nothing breaks, nothing grows, what is bad is counted.

A seeded slice runs always; ``-m slow`` runs the 100,000.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.collector import image_path, listing
from agent.collector.arrival import Incoming
from agent.errors import WireError
from agent.wire import (
    Ack,
    BlockHeader,
    BlockRequest,
    Command,
    DesiredConfig,
    NeedMap,
    Query,
    Receipt,
    Status,
    Topics,
    decode_block,
    encode_block,
    encode_item,
    encode_part,
    split,
)
from tests.fakes.items import a_picture_item
from tests.unit.test_collector import Bench
from tests.unit.test_uplink import Running

GROWTH_KB = 40_000
"""Caches of SQLite and the allocator settle within this."""
WHOLE = a_picture_item(1, width=64, height=48)
LARGE = a_picture_item(2, width=160, height=120)
CIDS = (WHOLE.cid, LARGE.cid)
FRAMES = [encode_item(WHOLE), *(encode_part(LARGE, part) for part in split(LARGE, "t", 4_000, 4_000))]
ODD_VALUES: list[Any] = [
    *(None, True, -1, 0, 2**31, 2**64, 1e308),
    *("", "x" * 5_000, "../../../etc/passwd", "\u0000", [], {}, [[]] * 300),
]


def mutate(rng: random.Random, payload: bytes) -> bytes:
    """One of the ways in which messages go wrong, or are made to."""
    broken = bytearray(payload)
    match rng.randrange(6):
        case 0:
            for _ in range(rng.randint(1, 16)):
                broken[rng.randrange(len(broken))] ^= 1 << rng.randrange(8)
        case 1:
            del broken[rng.randrange(len(broken)) :]
        case 2:
            at = rng.randrange(len(broken))
            broken[at:at] = rng.randbytes(rng.randint(1, 64))
        case 3:
            start, end = sorted(rng.randrange(len(broken)) for _ in range(2))
            del broken[start:end]
        case 4:
            at = rng.randrange(len(broken))
            broken[at : at + 8] = rng.choice(FRAMES)[:8]
        case _:
            return _odd_value(rng, payload)
    return bytes(broken)


def _odd_value(rng: random.Random, payload: bytes) -> bytes:
    """Well-formed JSON with a value that nobody expects."""
    start = payload.find(b"{")
    with contextlib.suppress(ValueError):
        record, end = json.JSONDecoder().raw_decode(payload[start:].decode("latin-1"))
        inner = record
        while isinstance(inner, dict) and inner:
            key = rng.choice(list(inner))
            if not isinstance(inner[key], dict) or rng.random() < 0.5:
                inner[key] = rng.choice(ODD_VALUES)
                break
            inner = inner[key]
        text = json.dumps(record).encode()
        if payload[:3] in {b"TKC", b"TKB"}:
            return payload[:4] + len(text).to_bytes(4, "big") + text + payload[start + end :]
        return text
    return payload[::-1]


def peak_kb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def test_a_slice_of_mutated_uploads_breaks_no_collector(tmp_path: Path) -> None:
    fuzz_collector(tmp_path, 1_500)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_50000_mutated_uploads_break_no_collector(tmp_path: Path) -> None:
    fuzz_collector(tmp_path, 50_000)


def fuzz_collector(folder: Path, count: int) -> None:
    rng = random.Random(11)
    query = Query(cids=CIDS).encode()
    good = {CIDS[0]: WHOLE, CIDS[1]: LARGE}
    with Bench(folder) as bench:
        for number in range(count):
            if number == count // 10:
                before = peak_kb()
            batch = [Incoming("gate-north", mutate(rng, rng.choice(FRAMES))) for _ in range(rng.randint(0, 2))]
            outcome = bench.ingest.candidates(batch)
            for acks in outcome.acks.values():
                assert {ack.cid for ack in acks.values() if ack.st == "stored"} <= good.keys()
            bench.ingest.query(Incoming("gate-north", mutate(rng, query)))
        assert bench.ingest.counters["bad"] > count // 2
        assert peak_kb() - before < GROWTH_KB
    for row in listing(folder):
        stored = (folder / image_path(row["cid"])).read_bytes()
        assert hashlib.sha256(stored).hexdigest() == good[row["cid"]].sha256


def test_a_slice_of_mutated_receipts_breaks_no_uplink(tmp_path: Path) -> None:
    fuzz_uplink(tmp_path, 2_000)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_50000_mutated_receipts_break_no_uplink(tmp_path: Path) -> None:
    fuzz_uplink(tmp_path, 50_000)


def fuzz_uplink(folder: Path, count: int) -> None:
    rng = random.Random(12)
    acks = [
        Ack(cid=CIDS[0], st="partial", missing=(0, 3)),
        Ack(cid=CIDS[1], st="unknown", retry_after=3.0),
        Ack(cid=CIDS[0], st="partial"),
    ]
    with Running(folder) as running:
        running.put(WHOLE, LARGE)
        running.broker.up()
        before = peak_kb()
        for _ in range(count):
            receipt = Receipt(acks=tuple(rng.sample(acks, rng.randint(0, 3))), slow=rng.random() < 0.5)
            running.broker.raw_receipt(mutate(rng, receipt.encode()))
            while not running.broker.candidates.empty():
                running.broker.candidates.get().accept()
        running.settle()
        assert running.count("errors") == 0
        assert running.count("bad_receipts") > count // 2
        assert running.spool.stats().items == 2  # no mutation made it say stored
        assert peak_kb() - before < GROWTH_KB


DECODERS: list[tuple[Callable[[bytes], object], bytes]] = [
    (Command.decode, Command(cmd_id="c", op="purge", args={"expect": 3}, issued="i", expires="e", by="b").encode()),
    (DesiredConfig.decode, DesiredConfig(version=3, values={"selection": {"budget": 0.1}}).encode()),
    (NeedMap.decode, NeedMap(version=1, weights={"person": 1.5}).encode()),
    (BlockRequest.decode, BlockRequest(model_id="m", off=0, len=1024).encode()),
    (Status.decode, Status(state="online", boot="b", conn=1, ts="t").encode()),
    (decode_block, encode_block(BlockHeader(model_id="m", off=0, size=99, sha256="a" * 64), bytes(99))),
    (lambda payload: Topics.parse("tk/v1", payload.decode("latin-1")), b"tk/v1/gate-north/up/cmd/17"),
]


@pytest.mark.parametrize(("decode", "good"), DECODERS)
def test_mutated_payloads_are_understood_or_refused(decode: Callable[[bytes], object], good: bytes) -> None:
    rng = random.Random(13)
    decode(good)
    refused = 0
    for _ in range(1_500):
        try:
            decode(mutate(rng, good))
        except WireError:
            refused += 1
    assert refused > 300
