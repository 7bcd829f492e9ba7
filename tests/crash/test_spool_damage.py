"""Damage found at a start: what is readable is delivered, what is not is in quarantine and counted."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from agent.errors import ItemError
from agent.records import Lane
from agent.settings import SpoolSettings
from agent.spool import Spool, listing
from tests.fakes.clock import FakeClock
from tests.fakes.items import an_item

LANED: tuple[tuple[Lane, tuple[str, ...]], ...] = (
    ("uncertain", ("person",)),
    ("rare", ("dög", "car")),
    ("canary", ()),
    ("manual", ()),
    ("uncertain", ()),
)
ITEMS = [
    an_item(number, score=float(number), lane=lane, classes=classes, size=400)
    for number, (lane, classes) in enumerate(LANED)
]
CIDS = {item.cid for item in ITEMS}


def a_spool(folder: Path) -> Spool:
    return Spool(folder, SpoolSettings(reserve_bytes=4096), FakeClock())


@pytest.fixture
def stopped(memory: Path) -> Path:
    """A spool with five items, one of them sent, as a killed service leaves it: part of the index is in its log."""
    spool = a_spool(memory / "running")
    spool.recover()
    for item in ITEMS:
        spool.put(item)
    spool.sent(spool.claim(2)[0].cid)
    spool.close()
    spool.recover()
    shutil.copytree(memory / "running", memory / "spool")
    spool.close()
    return memory / "spool"


def file_of(folder: Path, cid: str) -> Path:
    return folder / "items" / cid[0] / f"{cid}.tkc"


def drain(spool: Spool) -> set[str]:
    """Everything that can be delivered, loaded and forgotten."""
    delivered: set[str] = set()
    for entry in spool.waiting():
        spool.release(entry.cid)
    while claimed := spool.claim(4):
        for entry in claimed:
            try:
                item = spool.load(entry.cid)
            except ItemError:
                continue
            assert item in ITEMS
            delivered.add(item.cid)
            spool.forget(item.cid)
    return delivered


def start_and_drain(folder: Path) -> tuple[set[str], int]:
    """What a start with the damaged folder delivers, and how many things it has in quarantine."""
    spool = a_spool(folder)
    spool.recover()
    delivered = drain(spool)
    quarantined = spool.stats().quarantined
    assert spool.stats().items == 0
    spool.close()
    assert sum(entry.state == "quarantine" and bool(entry.reason) for entry in listing(folder)) == quarantined
    return delivered, quarantined


@pytest.mark.parametrize("cid", sorted(CIDS))
@pytest.mark.parametrize("keep_index", [True, False])
def test_one_missing_file_costs_one_item(stopped: Path, cid: str, keep_index: bool) -> None:
    file_of(stopped, cid).unlink()
    if not keep_index:
        (stopped / "index.sqlite").unlink()
    assert start_and_drain(stopped) == (CIDS - {cid}, 1 if keep_index else 0)


@pytest.mark.parametrize("keep_index", [True, False])
def test_a_file_cut_anywhere_costs_one_item(stopped: Path, memory: Path, keep_index: bool) -> None:
    cid = ITEMS[0].cid
    whole = file_of(stopped, cid).read_bytes()
    for length in (0, 1, 7, 8, 100, len(whole) - 400, len(whole) - 5, len(whole) - 1):
        copy = shutil.copytree(stopped, memory / f"cut{length}")
        file_of(copy, cid).write_bytes(whole[:length])
        if not keep_index:
            (copy / "index.sqlite").write_bytes(b"")
        assert start_and_drain(copy) == (CIDS - {cid}, 1), f"cut to {length} bytes"


def test_any_flipped_bit_of_a_file_costs_one_item(stopped: Path, memory: Path) -> None:
    chance = random.Random(4)
    cid = ITEMS[1].cid
    whole = file_of(stopped, cid).read_bytes()
    for turn in range(40):
        copy = shutil.copytree(stopped, memory / f"flip{turn}")
        damaged = bytearray(whole)
        damaged[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        file_of(copy, cid).write_bytes(damaged)
        if turn % 2:
            (copy / "index.sqlite").unlink()
        assert start_and_drain(copy) == (CIDS - {cid}, 1)


@pytest.mark.parametrize("name", ["index.sqlite", "index.sqlite-wal"])
def test_any_flipped_bit_of_the_index_costs_nothing(stopped: Path, memory: Path, name: str) -> None:
    chance = random.Random(5)
    size = (stopped / name).stat().st_size
    for turn in range(60):
        copy = shutil.copytree(stopped, memory / f"index{turn}")
        damaged = bytearray((copy / name).read_bytes())
        damaged[chance.randrange(size)] ^= 1 << chance.randrange(8)
        (copy / name).write_bytes(damaged)
        assert start_and_drain(copy) == (CIDS, 0)
        shutil.rmtree(copy)


@pytest.mark.parametrize("bit", range(8))
@pytest.mark.parametrize("offset", range(16, 24))
def test_a_flipped_bit_that_makes_the_index_look_read_only_or_newer_costs_nothing(
    stopped: Path, offset: int, bit: int
) -> None:
    damaged = bytearray((stopped / "index.sqlite").read_bytes())
    damaged[offset] ^= 1 << bit
    (stopped / "index.sqlite").write_bytes(damaged)
    assert start_and_drain(stopped) == (CIDS, 0)


@pytest.mark.parametrize("name", ["index.sqlite", "index.sqlite-wal", "index.sqlite-shm"])
@pytest.mark.parametrize("keep", [None, 0, 0.3, 0.9])
def test_an_index_cut_or_missing_costs_nothing(stopped: Path, name: str, keep: float | None) -> None:
    path = stopped / name
    if keep is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    assert start_and_drain(stopped) == (CIDS, 0)


def test_a_row_that_turns_bad_under_the_running_spool_is_healed_from_the_files(stopped: Path) -> None:
    spool = a_spool(stopped)
    spool.recover()
    with spool._table.use("test") as index:
        index.change("", "UPDATE item SET born = -1e12")
    with pytest.raises(Exception, match="a row is damaged"):
        spool.claim(4)
    assert drain(spool) == CIDS
    spool.close()


def test_what_was_set_aside_keeps_its_reason_when_the_same_item_is_put_again(stopped: Path) -> None:
    spool = a_spool(stopped)
    spool.recover()
    spool.quarantine(ITEMS[0].cid, "rejected")
    spool.put(ITEMS[0])
    spool.close()
    assert start_and_drain(stopped) == (CIDS, 1)
    assert [entry.reason for entry in listing(stopped)] == ["rejected"]


def test_stray_files_are_set_aside_and_not_deleted(stopped: Path) -> None:
    (stopped / "items" / "a").mkdir(exist_ok=True)
    (stopped / "items" / "a" / "notes.txt").write_text("mine")
    assert start_and_drain(stopped) == (CIDS, 1)
    assert (stopped / "quarantine" / "notes.txt").read_text() == "mine"
