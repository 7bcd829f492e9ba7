"""What a collector makes of a batch of messages: checked, put together, verified, stored, and answered."""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from agent.clock import Clock
from agent.collector.arrival import Incoming, Piece, Whole, agree, claimed_cid, join, piece
from agent.collector.jpeg import check_jpeg
from agent.collector.staging import Staging
from agent.collector.store import Store
from agent.errors import WireError
from agent.records import Item, Meta, content_id
from agent.wire import Ack, Query

log = logging.getLogger(__name__)

DAMAGED = "damaged"
CORRUPT_LIMIT = 3
"""Times that a candidate may arrive damaged before it is rejected."""


@dataclass(slots=True)
class Outcome:
    """What a batch came to: the acks that each device gets, in order."""

    acks: dict[str, dict[str, Ack]] = field(default_factory=lambda: defaultdict(dict))
    """By device, then cid."""
    bytes: Counter[str] = field(default_factory=Counter)
    """Stored, by device."""
    held: set[int] = field(default_factory=set)
    """Numbers of the messages that are to be given again, with those that come next: they lack parts."""

    def say(self, device: str, ack: Ack) -> None:
        self.acks[device][ack.cid] = ack

    def counts(self) -> dict[str, Counter[str]]:
        """By device, what its acks said, as the store's columns."""
        counts: dict[str, Counter[str]] = {}
        for device, acks in self.acks.items():
            counts[device] = Counter(ack.st for ack in acks.values() if ack.st != "unknown")
            if self.bytes[device]:
                counts[device]["bytes"] = self.bytes[device]
        return counts


def _fault(whole: Whole) -> str:
    """What is wrong with a candidate; empty when nothing is."""
    header, meta = whole.header, whole.meta
    if hashlib.sha256(whole.image).hexdigest() != header.sha256:
        return DAMAGED
    if header.cid != content_id(whole.device, meta.ts_ns, header.sha256) or meta.device != whole.device:
        return "the id does not belong to device, time and sha256"
    try:
        check_jpeg(whole.image, meta.image.w, meta.image.h)
    except WireError as error:
        return str(error)
    return ""


class Ingest:
    """Turns batches of messages into stored candidates and acks. For one thread."""

    def __init__(
        self,
        store: Store,
        staging: Staging,
        clock: Clock,
        max_image_bytes: int,
        trace: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`trace` hears each step (crash tests)."""
        self._trace = trace
        self._store = store
        self._staging = staging
        self._clock = clock
        self._max_image_bytes = max_image_bytes
        self._judges = ThreadPoolExecutor(os.cpu_count() or 1, "judge")
        self.counters: Counter[str] = Counter()
        with staging.transaction():
            for cid, device in store.adopted.items():
                if not staging.own(cid, device):
                    store.remove(cid)

    def close(self) -> None:
        self._judges.shutdown()

    def candidates(self, messages: Sequence[Incoming], *, hold: bool = False) -> Outcome:
        """Take a batch of candidate messages; when this returns, what the acks say is durable.

        With `hold` parts of candidates that are not complete may be left for a later batch (`Outcome.held`); they are
        not staged then. Raises OSError or `StoreError` when the disk does not take it; the same batch may be given
        again.
        """
        outcome = Outcome()
        fresh = self._fresh(messages, outcome) if messages else []
        staged = self._staging.begun({one.cid for one in fresh})
        wholes = self._put_together(fresh, staged, outcome, hold=hold)
        self._trace("ingest.staged")
        items = self._verified(wholes, outcome)
        if items or outcome.acks:
            self._keep(items, staged, outcome)
        return outcome

    def _fresh(self, messages: Sequence[Incoming], outcome: Outcome) -> list[Piece]:
        """The parts of candidates that are not stored; of the others it is said so."""
        pieces = [one for number, message in enumerate(messages) if (one := self._piece(message, number, outcome))]
        known = self._known({one.cid for one in pieces})
        fresh = []
        for one in pieces:
            if known.get(one.cid) == one.device:
                outcome.say(one.device, Ack(cid=one.cid, st="duplicate"))
            elif one.cid in known:
                self._reject(outcome, one.device, one.cid, "the id belongs to another device")
            else:
                fresh.append(one)
        return fresh

    def query(self, message: Incoming) -> Outcome:
        """Answer which candidates are stored; another device's are as unknown as those that nobody sent."""
        outcome = Outcome()
        try:
            cids = Query.decode(message.payload).cids
        except WireError as error:
            self._complain("bad", message.device, str(error))
            return outcome
        known = self._known(cids)
        for cid in cids:
            outcome.say(message.device, Ack(cid=cid, st="stored" if known.get(cid) == message.device else "unknown"))
        return outcome

    def sweep(self) -> None:
        """Drop parts that nobody completed within a day."""
        self.counters["stale"] += self._staging.sweep(self._now())

    def _known(self, cids: Iterable[str]) -> dict[str, str]:
        wanted = list(cids)
        return self._staging.elsewhere(wanted) | self._store.have(wanted)

    def _now(self) -> float:
        return self._clock.wall_ns() / 1e9

    def _reject(self, outcome: Outcome, device: str, cid: str, why: str) -> None:
        self._complain("rejected", device, why)
        outcome.say(device, Ack(cid=cid, st="rejected", why=why[:500]))

    def _complain(self, what: str, device: str, why: str) -> None:
        """Count it, and say so the first, second, fourth, eighth... time: a flood must not fill the log as well."""
        self.counters[what] += 1
        times = self.counters[what]
        if times & (times - 1) == 0:
            log.warning("message refused", extra={"kind": what, "times": times, "device": device, "why": why})

    def _piece(self, message: Incoming, number: int, outcome: Outcome) -> Piece | None:
        """The part in a message; one that is not within the limits gets `rejected` where its id can be read."""
        try:
            return piece(message, number, self._max_image_bytes)
        except WireError as error:
            cid = claimed_cid(message)
            if cid is not None:
                self._reject(outcome, message.device, cid, str(error))
            self._complain("bad", message.device, str(error))
            return None

    def _put_together(self, pieces: Sequence[Piece], staged: set[str], outcome: Outcome, *, hold: bool) -> list[Whole]:
        """Candidates that are complete; what is left over is held, or staged and then added to `staged`.

        Parts that arrive together are never staged: that would cost as much as all else does.
        """
        by_cid: dict[str, list[Piece]] = defaultdict(list)
        for one in pieces:
            by_cid[one.cid].append(one)
        wholes, left = [], []
        for cid, some in by_cid.items():
            together = (cid not in staged or some[0].header.n == 1) and agree(some)
            whole = join(some) if together else None
            if whole is not None:
                wholes.append(whole)
            elif together and hold and len(some) < some[0].header.n:
                outcome.held.update(one.number for one in some)
            else:
                left += some
        if left:
            staged.update(one.cid for one in left)
            with self._staging.transaction():
                wholes += [whole for one in left if (whole := self._stage(one, outcome)) is not None]
        return wholes

    def _stage(self, one: Piece, outcome: Outcome) -> Whole | None:
        """Keep a part; the candidate where that was the last one missing."""
        device, header = one.device, one.header
        if not self._staging.room(device, len(one.body)):
            self._reject(outcome, device, header.cid, "too many bytes of unfinished candidates")
            return None
        if not self._staging.add(device, header, one.body, self._now()):
            self._reject(outcome, device, header.cid, "the id belongs to another device")
            return None
        found = self._staging.assemble(header.cid)
        if found is None:
            return None
        meta = Meta.model_validate_json(found.meta)
        return Whole(device, header.model_copy(update={"sha256": found.sha256}), meta, found.image)

    def _verified(self, wholes: Sequence[Whole], outcome: Outcome) -> list[Item]:
        """Those that are what they claim to be, each once; the pictures are judged side by side."""
        items: dict[str, Item] = {}
        others = self._judges.map(_fault, wholes[1:])
        for whole, fault in zip(wholes, itertools.chain(map(_fault, wholes[:1]), others), strict=True):
            if not fault:
                items[whole.header.cid] = Item(whole.header.cid, whole.image, whole.header.sha256, whole.meta)
            elif fault == DAMAGED:
                self._damaged(whole, outcome)
            else:
                with self._staging.transaction():
                    self._staging.drop(whole.header.cid)
                self._reject(outcome, whole.device, whole.header.cid, fault)
        return list(items.values())

    def _damaged(self, whole: Whole, outcome: Outcome) -> None:
        header, device = whole.header, whole.device
        with self._staging.transaction():
            times = self._staging.corrupt(device, header, self._now())
            if times >= CORRUPT_LIMIT:
                self._staging.drop(header.cid)
        self.counters["damaged"] += 1
        if times >= CORRUPT_LIMIT:
            self._reject(outcome, device, header.cid, f"arrived damaged {times} times")
        else:
            outcome.say(device, Ack(cid=header.cid, st="partial", missing=tuple(range(header.n)), why="damaged"))

    def _keep(self, items: Sequence[Item], staged: Set[str], outcome: Outcome) -> None:
        """Files, then the claim on the id, then the rows; after that the parts may go."""
        self._store.write(items)
        self._trace("ingest.written")
        ours = self._owned(items)
        self._trace("ingest.owned")
        mine = {item.cid for item in ours}
        for item in items:
            device = item.meta.device
            outcome.say(device, Ack(cid=item.cid, st="stored" if item.cid in mine else "duplicate"))
            outcome.bytes[device] += len(item.image) if item.cid in mine else 0
        self._store.add(ours, outcome.counts())
        self._trace("ingest.rows")
        for item in items:
            if item.cid not in mine:
                self._store.remove(item.cid)
        done = staged & {item.cid for item in items}
        if done:
            with self._staging.transaction():
                for cid in done:
                    self._staging.drop(cid)
        self._trace("ingest.dropped")
        self.counters["stored"] += len(ours)

    def _owned(self, items: Sequence[Item]) -> list[Item]:
        """Those that no other store of the group has."""
        if not self._staging.shared:
            return list(items)
        with self._staging.transaction():
            return [item for item in items if self._staging.own(item.cid, item.meta.device)]
