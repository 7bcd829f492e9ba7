"""What a collector makes of a batch of messages: checked, staged, verified, stored, and answered.

Everything a device says is material to judge. The topic says whose message it is, since the broker's ACL guards it;
sizes and counts are bounded before anything is kept; ids are computed again and never used as they came.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from agent.clock import Clock
from agent.collector.jpeg import check_jpeg
from agent.collector.staging import Staging
from agent.collector.store import Store
from agent.errors import WireError
from agent.records import Item, Meta, content_id
from agent.wire import Ack, CandidateHeader, Query, decode_candidate

log = logging.getLogger(__name__)

DAMAGED = "damaged"
CORRUPT_LIMIT = 3
"""Times that a candidate may arrive damaged before it is rejected."""
_CID = re.compile(rb'"cid"\s*:\s*"([0-9a-f]{32})"')


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message with its topic's device."""

    device: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class _Whole:
    """A candidate with nothing missing, not verified yet."""

    device: str
    header: CandidateHeader
    meta: Meta
    image: bytes


@dataclass(slots=True)
class Outcome:
    """What a batch came to: the acks that each device gets, in order."""

    acks: dict[str, dict[str, Ack]] = field(default_factory=lambda: defaultdict(dict))
    """By device, then cid."""
    bytes: Counter[str] = field(default_factory=Counter)
    """Stored, by device."""

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


def _fault(whole: _Whole) -> str:
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

    def candidates(self, messages: Sequence[Incoming]) -> Outcome:
        """Take a batch of candidate messages; when this returns, what the acks say is durable.

        Raises OSError or `StoreError` when the disk does not take it; the same batch may be given again.
        """
        outcome = Outcome()
        if not messages:
            return outcome
        parts = [part for message in messages for part in self._parse(message, outcome)]
        known = self._known({header.cid for _, header, _ in parts})
        fresh = []
        for device, header, body in parts:
            if known.get(header.cid) == device:
                outcome.say(device, Ack(cid=header.cid, st="duplicate"))
            elif header.cid in known:
                self._reject(outcome, device, header.cid, "the id belongs to another device")
            else:
                fresh.append((device, header, body))
        wholes = [whole for part in fresh if (whole := self._single(*part)) is not None]
        with self._staging.transaction():
            for part in fresh:
                if part[1].n > 1 and (found := self._stage(*part, outcome)) is not None:
                    wholes.append(found)
        self._trace("ingest.staged")
        self._keep(self._verified(wholes, outcome), outcome)
        return outcome

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

    def _parse(self, message: Incoming, outcome: Outcome) -> list[tuple[str, CandidateHeader, memoryview]]:
        """The part in a message, within the limits; one that is not gets `rejected` where its id can be read."""
        try:
            header, body = decode_candidate(message.payload)
            self._check_limits(message.device, header, len(body))
        except WireError as error:
            found = _CID.search(message.payload, 0, 4096)
            if found:
                self._reject(outcome, message.device, found[1].decode(), str(error))
            self._complain("bad", message.device, str(error))
            return []
        return [(message.device, header, body)]

    def _check_limits(self, device: str, header: CandidateHeader, length: int) -> None:
        if header.size > self._max_image_bytes:
            raise WireError(f"image of {header.size} bytes", remedy=f"at most {self._max_image_bytes}")
        if not 0 < length <= header.size - header.off or header.i >= header.n:
            raise WireError(f"part {header.i} of {header.n}: {length} bytes at {header.off} of {header.size}")
        if header.n == 1 and length != header.size:
            raise WireError(f"one part of {length} bytes for an image of {header.size}")
        if header.i == 0:
            if header.meta is None or header.off:
                raise WireError("part 0 without metadata, or not at the beginning")
            if header.meta.device != device:
                raise WireError(f"metadata of device {header.meta.device}", remedy=f"the topic is {device}'s")
            if header.cid != content_id(device, header.meta.ts_ns, header.sha256):
                raise WireError("the id does not belong to device, time and sha256")

    @staticmethod
    def _single(device: str, header: CandidateHeader, body: memoryview) -> _Whole | None:
        if header.n > 1 or header.meta is None:
            return None
        return _Whole(device, header, header.meta, bytes(body))

    def _stage(self, device: str, header: CandidateHeader, body: memoryview, outcome: Outcome) -> _Whole | None:
        """Keep a part; the candidate where that was the last one missing."""
        if not self._staging.room(device, len(body)):
            self._reject(outcome, device, header.cid, "too many bytes of unfinished candidates")
            return None
        if not self._staging.add(device, header, body, self._now()):
            self._reject(outcome, device, header.cid, "the id belongs to another device")
            return None
        found = self._staging.assemble(header.cid)
        if found is None:
            return None
        meta = Meta.model_validate_json(found.meta)
        return _Whole(device, header.model_copy(update={"sha256": found.sha256}), meta, found.image)

    def _verified(self, wholes: Sequence[_Whole], outcome: Outcome) -> list[Item]:
        """Those that are what they claim to be, each once; the pictures are judged side by side."""
        items: dict[str, Item] = {}
        judged = self._judges.map(_fault, wholes) if len(wholes) > 1 else map(_fault, wholes)
        for whole, fault in zip(wholes, judged, strict=True):
            if not fault:
                items[whole.header.cid] = Item(whole.header.cid, whole.image, whole.header.sha256, whole.meta)
            elif fault == DAMAGED:
                self._damaged(whole, outcome)
            else:
                with self._staging.transaction():
                    self._staging.drop(whole.header.cid)
                self._reject(outcome, whole.device, whole.header.cid, fault)
        return list(items.values())

    def _damaged(self, whole: _Whole, outcome: Outcome) -> None:
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

    def _keep(self, items: Sequence[Item], outcome: Outcome) -> None:
        """Files, then the claim on the id, then the rows; after that the parts may go."""
        self._store.write(items)
        self._trace("ingest.written")
        with self._staging.transaction():
            ours = [item for item in items if self._staging.own(item.cid, item.meta.device)]
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
        with self._staging.transaction():
            for item in items:
                self._staging.drop(item.cid)
        self._trace("ingest.dropped")
        self.counters["stored"] += len(ours)
