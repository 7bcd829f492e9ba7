"""A process that works a spool until it is killed, and tells over a pipe what the spool has promised it so far."""

from __future__ import annotations

import logging
import multiprocessing
import os
import random
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from agent.errors import SpoolFullError
from agent.records import LANES
from agent.settings import SpoolSettings
from agent.spool import Recovery, Spool, listing, verify
from tests.fakes.clock import FakeClock
from tests.fakes.items import an_item

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["agent.spool", "tests.fakes.items"])

ROOMY = SpoolSettings(reserve_bytes=65_536, max_bytes=20_000_000)
"""Room for all that a victim leaves: nothing is evicted, so nothing at all may be gone."""
TIGHT = SpoolSettings(reserve_bytes=65_536, max_bytes=2_000_000, max_items=12)
"""So little that evictions happen all the time."""
_PLENTY = 40
"""Items with which a victim begins to upload more than it takes."""


@dataclass
class Promises:
    """What the outside world may rely on, over all lives of one spool."""

    accepted: set[str] = field(default_factory=set)
    """Ids for which `put` returned."""
    given_back: set[str] = field(default_factory=set)
    """Ids that the victim was about to forget or to quarantine."""
    evicted: int = 0
    """Accepted ids found gone, all counted as evictions."""

    def listen(self, pipe: Connection, most: int | None = None) -> int:
        """Take up to `most` messages, or all until the victim is dead; returns their number."""
        heard = 0
        with suppress(EOFError, ConnectionResetError):
            while heard != most:
                kind, cid = pipe.recv()
                (self.accepted if kind == "accepted" else self.given_back).add(cid)
                heard += 1
        return heard


class Victim:
    """The process; `kill_at` = (step, count) lets it kill itself when it comes to that step for that time."""

    def __init__(self, folder: Path, limits: SpoolSettings, life: int, kill_at: tuple[str, int] | None = None) -> None:
        self.pipe, theirs = _SERVER.Pipe(duplex=False)
        self.process: ForkServerProcess = _SERVER.Process(target=_live, args=(folder, limits, life, theirs, kill_at))
        self.process.start()
        theirs.close()

    def kill(self) -> None:
        self.process.kill()

    def bury(self) -> None:
        self.process.join()
        self.process.close()
        self.pipe.close()


def check(folder: Path, limits: SpoolSettings, promises: Promises) -> Recovery:
    """Recover, and hold the spool to its promises: nothing accepted is gone but what was given back or counted."""
    spool = Spool(folder, limits, FakeClock())
    recovery = spool.recover()
    evicted = sum(count for reason, count in spool.stats().evicted.items() if reason != "quarantine")
    held = {entry.cid for entry in listing(folder) if entry.state != "quarantine"}
    lost = promises.accepted - promises.given_back - held
    promises.evicted += len(lost)
    promises.accepted -= lost
    assert promises.evicted <= evicted, f"{promises.evicted} items are gone and {evicted} evictions were counted"
    assert not recovery.rebuilt
    assert recovery.items == len(held)
    assert {entry.state for entry in listing(folder)} <= {"ready", "sent", "quarantine"}
    found = verify(folder)
    assert (found.damaged, found.unlisted, found.missing) == ({}, (), ())
    assert not any("missing" in entry.reason for entry in listing(folder))
    spool.close()
    return recovery


def _live(folder: Path, limits: SpoolSettings, life: int, pipe: Connection, kill_at: tuple[str, int] | None) -> None:
    logging.disable()
    chance = random.Random(life)
    trace = _killer(*kill_at) if kill_at else None
    clock = FakeClock()
    spool = Spool(folder, limits, clock, trace=trace)
    if trace is not None:
        _trace_system_calls(trace)
    with suppress(SpoolFullError, BrokenPipeError):  # the disk was pulled, or the test is over
        spool.recover()
        for number in range(life * 100_000, life * 100_000 + 10_000):
            _put(spool, number, chance, pipe)
            _upload(spool, chance, pipe)
            clock.advance(0.3)


def _put(spool: Spool, number: int, chance: random.Random, pipe: Connection) -> None:
    classes = tuple(chance.sample(("person", "car", "dog"), chance.randrange(3)))
    lane = chance.choice(LANES)
    item = an_item(number, lane=lane, score=chance.random(), classes=classes, size=chance.randrange(200, 60_000))
    with suppress(SpoolFullError):
        spool.put(item)
        pipe.send(("accepted", item.cid))


def _upload(spool: Spool, chance: random.Random, pipe: Connection) -> None:
    plenty = spool.stats().items > _PLENTY
    for entry in spool.claim(chance.randrange(3) + 3 * plenty):
        spool.load(entry.cid)
        spool.sent(entry.cid)
        end = chance.choice(("receipt", "receipt", "no receipt", "rejected"))
        if end == "no receipt":
            continue
        pipe.send(("given back", entry.cid))
        if end == "receipt":
            spool.forget(entry.cid)
        else:
            spool.quarantine(entry.cid, "rejected")
    for entry in spool.waiting():
        spool.release(entry.cid)


def _killer(step: str, count: int) -> Callable[[str], None]:
    left = count

    def trace(name: str) -> None:
        nonlocal left
        if name == step:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return trace


def _trace_system_calls(trace: Callable[[str], None]) -> None:
    """Make steps of the system calls of the durable-write recipe, before and after each."""
    for name in ("fsync", "rename"):
        call = getattr(os, name)

        def traced(*args: object, _call: Callable[..., object] = call, _name: str = name) -> object:
            trace(f"before {_name}")
            result = _call(*args)
            trace(f"after {_name}")
            return result

        setattr(os, name, traced)
