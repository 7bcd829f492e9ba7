"""Random actions on a real spool, next to a dictionary that says what must be in it."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agent.errors import ItemError, SpoolFullError
from agent.records import LANES, Item, Lane
from agent.settings import SpoolSettings
from agent.spool import Entry, Spool, listing
from tests.fakes.clock import FakeClock
from tests.fakes.items import an_item

MEMORY = Path("/dev/shm")
LIMIT = 4_000_000
EXAMPLES: tuple[tuple[str, ...], ...] = ((), ("person",), ("person", "car"), ("wheelchair",))


class SpoolMachine(RuleBasedStateMachine):
    """`held` has the state of every item that must be there; what is in `delivered` may come back after a crash."""

    @initialize(limit=st.sampled_from((4, 8, 1000)))
    def open_it(self, limit: int) -> None:
        self.root = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
        self.clock = FakeClock()
        self.limit = limit
        self.held: dict[str, str] = {}
        self.items: dict[str, Item] = {}
        self.delivered: set[str] = set()
        self.aside: set[str] = set()
        self.due: dict[str, float] = {}
        self.number = 0
        self.start()

    def start(self) -> None:
        limits = SpoolSettings(max_items=self.limit, reserve_bytes=4096, max_bytes=LIMIT)
        self.spool = Spool(self.root / "spool", limits, self.clock)
        self.recovery = self.spool.recover()

    def teardown(self) -> None:
        if hasattr(self, "spool"):
            self.spool.close()
            shutil.rmtree(self.root)

    def path(self, cid: str) -> Path:
        return self.root / "spool" / "items" / cid[0] / f"{cid}.tkc"

    def there(self) -> set[str]:
        return {path.stem for path in (self.root / "spool" / "items").rglob("*.tkc")}

    # What the two loops do

    @rule(
        lane=st.sampled_from(LANES),
        score=st.floats(0, 10),
        classes=st.sampled_from(EXAMPLES),
        size=st.sampled_from((100, 9000)),
    )
    def put(self, lane: Lane, score: float, classes: tuple[str, ...], size: int) -> None:
        self.number += 1
        item = an_item(self.number, lane=lane, score=score, classes=classes, size=size)
        self.items[item.cid] = item
        before = sum(self.spool.stats().evicted.values())
        try:
            assert self.spool.put(item)
            self.held[item.cid] = "ready"
        except SpoolFullError:
            assert len(self.held) >= self.limit
        given_up = sum(self.spool.stats().evicted.values()) - before
        gone = {cid for cid in self.held if not self.path(cid).exists()}
        assert len(gone) == given_up
        assert all(self.held[cid] == "ready" for cid in gone), "an item in flight was evicted"
        for cid in gone:
            del self.held[cid]

    @precondition(lambda self: self.held)
    @rule(pick=st.randoms(use_true_random=False))
    def put_again(self, pick: random.Random) -> None:
        assert not self.spool.put(self.items[pick.choice(sorted(self.held))])

    @rule(limit=st.integers(1, 5))
    def claim(self, limit: int) -> None:
        ready = {cid for cid, state in self.held.items() if state == "ready"}
        claimed = {entry.cid for entry in self.spool.claim(limit)}
        assert claimed <= ready
        assert len(claimed) == min(limit, len(ready - self.later()))
        for cid in claimed:
            self.held[cid] = "sending"
            assert self.spool.load(cid) == self.items[cid]

    def later(self) -> set[str]:
        return {cid for cid, state in self.held.items() if state == "ready" and self.due.get(cid, 0) > self.clock.mono}

    @precondition(lambda self: "sending" in self.held.values())
    @rule(pick=st.randoms(use_true_random=False))
    def sent(self, pick: random.Random) -> None:
        cid = self.one(pick, "sending")
        self.spool.sent(cid)
        self.held[cid] = "sent"

    @precondition(lambda self: bool({"sending", "sent"} & set(self.held.values())))
    @rule(pick=st.randoms(use_true_random=False), after_s=st.sampled_from((0.0, 5.0)))
    def release(self, pick: random.Random, after_s: float) -> None:
        cid = self.one(pick, "sending", "sent")
        self.spool.release(cid, after_s)
        self.held[cid] = "ready"
        self.due[cid] = self.clock.mono + after_s * 1e9

    @precondition(lambda self: self.held)
    @rule(pick=st.randoms(use_true_random=False))
    def forget(self, pick: random.Random) -> None:
        cid = self.one(pick, "ready", "sending", "sent")
        self.spool.forget(cid)
        del self.held[cid]
        self.delivered.add(cid)

    @precondition(lambda self: self.delivered)
    @rule(pick=st.randoms(use_true_random=False))
    def put_what_was_delivered(self, pick: random.Random) -> None:
        cid = pick.choice(sorted(self.delivered))
        if len(self.held) < self.limit:
            self.spool.put(self.items[cid])
            self.delivered.discard(cid)
            self.held[cid] = "ready"
            self.due.pop(cid, None)

    @precondition(lambda self: self.held)
    @rule(pick=st.randoms(use_true_random=False))
    def quarantine(self, pick: random.Random) -> None:
        cid = self.one(pick, "ready", "sending", "sent")
        assert self.spool.quarantine(cid, "rejected")
        del self.held[cid]
        self.aside.add(cid)

    @rule(seconds=st.sampled_from((0.1, 2.0, 10.0)))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def one(self, pick: random.Random, *states: str) -> str:
        return pick.choice(sorted(cid for cid, state in self.held.items() if state in states))

    # What goes wrong

    @rule(orderly=st.booleans(), reboot=st.booleans())
    def restart(self, orderly: bool, reboot: bool) -> None:
        if orderly:
            self.spool.close()
        else:
            self.spool._table.drop()
        if reboot:
            self.clock.reboot()
            self.due.clear()
            self.clock.advance(4000)
        self.start()
        self.after_a_start(exact=orderly)
        assert not self.recovery.rebuilt
        assert self.recovery.quarantined == 0

    @rule(pick=st.randoms(use_true_random=False))
    def damage_the_index_and_restart(self, pick: random.Random) -> None:
        self.spool.close()
        path = self.root / "spool" / "index.sqlite"
        content = bytearray(path.read_bytes())
        content[pick.randrange(len(content))] ^= 1 << pick.randrange(8)
        path.write_bytes(content)
        self.start()
        self.after_a_start(exact=False)

    @precondition(lambda self: self.held)
    @rule(pick=st.randoms(use_true_random=False), how=st.sampled_from(("cut", "flip", "remove")))
    def damage_a_file(self, pick: random.Random, how: str) -> None:
        cid = self.one(pick, "ready", "sending", "sent")
        content = bytearray(self.path(cid).read_bytes())
        if how == "cut":
            self.path(cid).write_bytes(content[: pick.randrange(len(content))])
        elif how == "flip":
            content[pick.randrange(len(content))] ^= 1 << pick.randrange(8)
            self.path(cid).write_bytes(content)
        else:
            self.path(cid).unlink()
        with pytest.raises(ItemError):
            self.spool.load(cid)
        del self.held[cid]
        self.aside.add(cid)

    def after_a_start(self, *, exact: bool) -> None:
        """What was held is there; what was delivered but not committed may be there once more."""
        back = self.there() - set(self.held)
        assert back <= self.delivered
        assert not (exact and back)
        self.delivered -= back
        states = {entry.cid: entry.state for entry in self.entries()}
        assert set(states) == set(self.held) | back
        for cid, state in states.items():
            assert state in ("ready", "sent")
            if exact:
                assert (state == "sent") == (self.held[cid] == "sent")
            self.held[cid] = state
        self.due.clear()
        self.clock.advance(4000)

    def entries(self) -> list[Entry]:
        self.clock.advance(2)
        self.spool.stats()
        return [entry for entry in listing(self.root / "spool") if entry.state != "quarantine"]

    # What is always so

    @invariant()
    def everything_held_has_its_file_and_its_count(self) -> None:
        stats = self.spool.stats()
        assert stats.items == len(self.held)
        assert set(self.held) <= self.there()
        assert stats.sent == Counter(self.held.values())["sent"]
        assert stats.quarantined == len(self.aside)
        taken = sum(path.stat().st_size for path in (self.root / "spool").rglob("*") if path.is_file())
        assert taken <= LIMIT


SpoolMachine.TestCase.settings = settings(
    max_examples=30, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestSpoolMachine = SpoolMachine.TestCase
