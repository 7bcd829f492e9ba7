"""Bytes that reach the disk per byte of picture, from `put` to `forget`: ``python -m tests.bench.spool_writes`` (root).

Counted by the block device under an ext4 of its own, so the file system's journal is in it, and by the process.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from agent.records import Item
from agent.settings import SpoolSettings
from agent.spool import Spool
from tests.fakes.clock import FakeClock
from tests.fakes.disks import Ext4, ext4
from tests.fakes.items import an_item


@dataclass(frozen=True)
class Writes:
    """Per byte of picture: what the disk wrote, what the process wrote; and the median time of a put."""

    image_bytes: int
    pause_s: float
    offline: bool
    items: int
    disk: float
    process: float
    put_ms: float


def measure(disk: Ext4, size: int, items: int, pause_s: float, *, offline: bool = False) -> Writes:
    """Put, claim, load, send and forget items, `pause_s` of spool time between two of them and .2 s between the steps.

    `offline`: all are put before the first is sent.
    """
    clock = FakeClock()
    spool = Spool(disk.mounted / f"spool-{size}-{pause_s}-{offline}", SpoolSettings(), clock)
    spool.recover()
    pictures = [an_item(number, size=size) for number in range(items)]
    disk_before, process_before, took = disk.bytes_written(), _process_bytes(), []
    for item in pictures:
        began = time.perf_counter()
        spool.put(item)
        took.append(time.perf_counter() - began)
        if not offline:
            _deliver(spool, item, clock, 0.2)
        clock.advance(pause_s)
    for item in pictures if offline else ():
        _deliver(spool, item, clock, 0.002)
    spool.close()
    payload = size * items
    return Writes(
        image_bytes=size,
        pause_s=pause_s,
        offline=offline,
        items=items,
        disk=round((disk.bytes_written() - disk_before) / payload, 3),
        process=round((_process_bytes() - process_before) / payload, 3),
        put_ms=round(1000 * statistics.median(took), 1),
    )


def _deliver(spool: Spool, item: Item, clock: FakeClock, step_s: float) -> None:
    """Claim, load, send, forget."""
    for step in (lambda _: spool.claim(1), spool.load, spool.sent, spool.forget):
        clock.advance(step_s)
        step(item.cid)


def _process_bytes() -> int:
    lines = Path("/proc/self/io").read_text("ascii").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("write_bytes")))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=300)
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("run it as root: it mounts a disk of its own to count what is written to it")
    with tempfile.TemporaryDirectory() as folder, ext4(Path(folder), megabytes=400) as disk:
        for size in (60_000, 100_000, 300_000):
            for pause_s, offline in ((0.0, False), (60.0, False), (0.0, True), (60.0, True)):
                print(json.dumps(asdict(measure(disk, size, arguments.items, pause_s, offline=offline))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
