"""Disks that are full, out of inodes, read-only or broken: collection says so and goes on by itself when it can."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import SpoolFullError
from agent.settings import SpoolSettings
from agent.spool import Spool, listing, verify
from tests.bench.spool_writes import measure
from tests.fakes.clock import FakeClock
from tests.fakes.disks import ext4, needs_root, remount, tmpfs
from tests.fakes.items import an_item

pytestmark = [needs_root, pytest.mark.root]


@contextlib.contextmanager
def spool_on(folder: Path) -> Iterator[Spool]:
    spool = Spool(folder / "spool", SpoolSettings(), FakeClock())
    try:
        yield spool
    finally:
        spool.close()


def fill(folder: Path) -> Path:
    """Somebody else's file that takes all the room there is."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    return filler


def put_until_refused(spool: Spool, most: int = 1000, size: int = 50_000) -> tuple[list[str], SpoolFullError]:
    """Items of falling worth, so that none is given up for another."""
    accepted: list[str] = []
    for number in range(most):
        item = an_item(number, score=float(most - number), size=size)
        try:
            spool.put(item)
        except SpoolFullError as error:
            return accepted, error
        accepted.append(item.cid)
    raise AssertionError(f"{most} items fit")


def deliver_all(spool: Spool) -> set[str]:
    delivered = set()
    while claimed := spool.claim(4):
        for entry in claimed:
            assert spool.load(entry.cid).cid == entry.cid
            spool.sent(entry.cid)
            spool.forget(entry.cid)
            delivered.add(entry.cid)
    return delivered


def test_a_full_disk_refuses_items_keeps_delivering_and_takes_items_again(tmp_path: Path) -> None:
    with tmpfs(tmp_path, "size=4m") as disk, spool_on(disk) as spool:
        spool.recover()
        accepted, refusal = put_until_refused(spool)
        assert "No space left" in str(refusal)
        assert str(disk) in str(refusal)
        assert "No space left" in str(spool.stats().degraded)
        filler = fill(disk)
        assert deliver_all(spool) == set(accepted)
        filler.unlink()
        assert spool.put(an_item(5000, score=0.001, size=50_000))
        assert spool.stats().degraded is None
        spool.close()
        assert verify(disk / "spool").items == 1


def test_on_a_full_disk_a_better_item_takes_the_place_of_worse_ones(tmp_path: Path) -> None:
    with tmpfs(tmp_path, "size=4m") as disk, spool_on(disk) as spool:
        spool.recover()
        accepted, _ = put_until_refused(spool)
        fill(disk)
        best = an_item(5000, score=1e6, size=50_000)
        assert spool.put(best)
        held = {entry.cid for entry in listing(disk / "spool")}
        assert best.cid in held
        assert len(set(accepted) - held) == spool.stats().evicted["disk"] > 0


def test_the_index_gets_through_a_disk_that_others_filled_to_the_last_byte(tmp_path: Path) -> None:
    """Deleting a row takes room: the reserve gives it."""
    with ext4(tmp_path, megabytes=24) as disk, spool_on(disk.mounted) as spool:
        spool.recover()
        accepted = [an_item(number, size=20_000) for number in range(100)]
        for item in accepted:
            spool.put(item)
        fill(disk.mounted)
        assert deliver_all(spool) == {item.cid for item in accepted}
        spool.close()
        assert spool.recover().items == 0
        assert not verify(disk.mounted / "spool").damaged


def test_a_disk_without_inodes_refuses_items_and_loses_none(tmp_path: Path) -> None:
    with tmpfs(tmp_path, "size=50m,nr_inodes=60") as disk, spool_on(disk) as spool:
        spool.recover()
        accepted, refusal = put_until_refused(spool, size=1000)
        assert "No space left" in str(refusal)
        assert deliver_all(spool) == set(accepted)
        assert spool.put(an_item(5000, size=1000))


def test_a_read_only_disk_is_said_so_and_used_again_once_it_is_writable(tmp_path: Path) -> None:
    with tmpfs(tmp_path, "size=40m") as disk:
        with spool_on(disk) as spool:
            spool.recover()
            spool.put(an_item(1))
        remount(disk, "ro")
        with spool_on(disk) as spool:
            with pytest.raises(SpoolFullError, match=r"(?i)read-?only|unable to open"):
                spool.recover()
            with pytest.raises(SpoolFullError):
                spool.put(an_item(2))
            assert spool.stats().degraded
            assert [entry.cid for entry in listing(disk / "spool")] == [an_item(1).cid]
            remount(disk, "rw")
            assert spool.put(an_item(2))
            assert spool.stats().degraded is None
            assert deliver_all(spool) == {an_item(1).cid, an_item(2).cid}


def test_the_disk_writes_at_most_seven_tenths_more_than_the_pictures(tmp_path: Path) -> None:
    """With the file system's journal and the index; cards wear out by what is written."""
    with ext4(tmp_path) as disk:
        writes = measure(disk, size=100_000, items=60, pause_s=0.02)
    assert writes.process < 1.1
    assert writes.disk < 1.7


def test_a_disk_that_breaks_under_the_running_spool_corrupts_nothing(tmp_path: Path) -> None:
    with ext4(tmp_path) as disk:
        with spool_on(disk.mounted) as spool:
            spool.recover()
            for number in range(10):
                spool.put(an_item(number))
            (entry,) = spool.claim(1)
            disk.cut_power()
            with pytest.raises(SpoolFullError, match="Input/output error"):
                spool.put(an_item(100))
            with contextlib.suppress(SpoolFullError):
                spool.forget(entry.cid)
                spool.claim(4)
            assert spool.stats().degraded
        disk.unmount()
        disk.mount()
        with spool_on(disk.mounted) as spool:
            recovery = spool.recover()
            assert (recovery.quarantined, recovery.rebuilt) == (0, "")
            assert {item.cid for item in map(an_item, range(1, 10))} <= deliver_all(spool)
