"""Loop 2: spool -> broker -> receipt; retry, back-off, quarantine.

It never knows cameras; the spool is where it meets the watch. One thread runs the loop, and everything that happens
elsewhere (a connection, an acknowledgement, a receipt) reaches it as an event in its inbox.

    READY -> SENDING      claimed, parts handed to the broker
    SENDING -> SENT       the broker accepted every part
    SENT -> forgotten     receipt: stored or duplicate; nothing else lets an item go
    SENDING -> READY      disconnected
    SENT -> READY         no receipt: the collector is asked first, and says unknown or nothing at all
    SENT -> SENDING       receipt: partial
    any -> QUARANTINE     receipt: rejected; refused for good; too large; three disconnects blamed on it
"""

from __future__ import annotations

import dataclasses
import logging
import queue
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TypeAlias

from agent.broker import Broker, Delivery, Down, Message, Up
from agent.clock import Clock
from agent.errors import ItemError, SpoolFullError, WireError
from agent.health import Counters
from agent.records import Item
from agent.settings import UplinkSettings, parse_schedule
from agent.spool import Entry, Spool
from agent.wire import (
    CHUNK_FLOOR,
    QUERY_LIMIT,
    Ack,
    Part,
    Query,
    Receipt,
    Topics,
    encode_part,
    packet_size,
    split,
)

log = logging.getLogger(__name__)

ROWS = 4
"""Items without a receipt at most."""
BLAMED_LIMIT = 3
"""Disconnects blamed on one item before it is set aside."""
ASKS = 3
"""Questions without an answer before an item is sent again unasked."""
HOLD_S = 1.0
"""First pause after the broker refused an upload, or the disk a change; doubles to `receipt_timeout_max_s`."""
IDLE_S = 1.0
HEADER_BYTES = 600
"""About what header, topic and framing add to a part's body."""
FOR_GOOD = (0x90, 0x95, 0x99)
"""Refusals that no second try can change: topic name invalid, packet too large, payload format invalid."""


@dataclass(slots=True)
class _Row:
    """An item that has no receipt yet."""

    entry: Entry
    item: Item | None = None
    """Loaded while parts are to be sent."""
    parts: tuple[Part, ...] = ()
    todo: deque[int] = field(default_factory=deque)
    flying: set[int] = field(default_factory=set)
    accepted: set[int] = field(default_factory=set)
    progress: bool = False
    """Whether the broker accepted a part of it over this connection."""
    due_ns: int | None = None
    """When the receipt is overdue; None while it is being sent."""
    asks: int = 0
    partials: int = 0


@dataclass(frozen=True, slots=True)
class _Done:
    """The broker's word on one part."""

    row: _Row
    index: int
    delivery: Delivery


_Event: TypeAlias = "Up | Down | Receipt | _Done | None"


class Uplink:
    """Uploads what the spool holds, highest value first, until the collector has it."""

    def __init__(
        self,
        spool: Spool,
        broker: Broker,
        topics: Topics,
        *,
        settings: UplinkSettings,
        clock: Clock,
        rng: random.Random,
        counters: Counters | None = None,
        trace: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Subscribes to receipts, so it is made before the broker starts. `trace` hears each step (crash tests)."""
        self._spool = spool
        self._broker = broker
        self._topics = topics
        self._settings = settings
        self._clock = clock
        self._rng = rng
        self._trace = trace
        self.counters = counters or Counters()
        self.paused = False
        """An operator's pause, beside the configured one: nothing new is sent."""
        self._inbox: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        self._rows: dict[str, _Row] = {}
        self._interrupted: dict[str, _Row] = {}
        """Rows that a disconnect stopped half-way: the parts that the broker has are not sent again at once."""
        self._suspects: set[str] = set()
        """Rows that were under way when the broker closed the connection: each is tried alone."""
        self._ceiling: int | None = None
        """Packet size that the broker seems to take, where it announces none."""
        self._condemned = 0
        """Rows quarantined for disconnects since the broker last accepted anything."""
        self._hold_ns = 0
        self._holds = 0
        self._paid_ns = 0
        self._slow = False
        broker.watch(self._inbox.put)
        broker.subscribe(topics.ack, self._on_ack)

    def run(self, stop: threading.Event, finish_s: float = 2.0) -> None:
        """Until `stop` is set; then what is in flight has `finish_s` seconds to get its receipt."""
        self._resume_sent()
        while not stop.is_set():
            self._round(claiming=True)
        deadline = time.monotonic() + finish_s
        while self._rows and self._broker.connected and time.monotonic() < deadline:
            self._round(claiming=False)
        self._release_sending("stopped")

    def wake(self) -> None:
        """Look at the spool now: something new is in it. Any thread may call."""
        self._inbox.put(None)

    def flush(self) -> None:
        """Upload without waiting any longer for a start delay or a pause after a refusal."""
        self._hold_ns = self._paid_ns = 0
        self.wake()

    def apply(self, settings: UplinkSettings) -> None:
        """Go on with other settings."""
        self._settings = settings
        self.wake()

    # One round: what happened, what is overdue, what can be sent

    def _round(self, *, claiming: bool) -> None:
        try:
            self._hear(self._wait_s())
            self._chase()
            if self._may_send():
                if claiming:
                    self._claim()
                self._pump()
        except SpoolFullError as error:  # the spool says it once and mends itself
            self._hold(str(error))
        except Exception:
            self.counters.add("uplink_errors")
            log.exception("uplink round failed")
            self._hold("internal error")

    def _wait_s(self) -> float:
        """Seconds until something is due, unless an event comes first."""
        now = self._clock.mono_ns()
        due = [row.due_ns for row in self._rows.values() if row.due_ns is not None]
        due += [moment for moment in (self._hold_ns, self._paid_ns) if moment > now]
        return max(0.0, min([IDLE_S, *((moment - now) / 1e9 for moment in due)]))

    def _hear(self, timeout_s: float) -> None:
        """Wait for an event and deal with all that are there."""
        try:
            event = self._inbox.get(timeout=timeout_s)
            while True:
                self._deal_with(event)
                event = self._inbox.get_nowait()
        except queue.Empty:
            pass

    def _deal_with(self, event: _Event) -> None:
        match event:
            case _Done(row, index, delivery):
                self._on_part(row, index, delivery)
            case Receipt():
                self._slow = bool(event.slow)
                for ack in event.acks:
                    self._on_receipt(ack)
            case Up():
                spread = self._rng.uniform(0, self._settings.start_spread_s)
                self._hold_ns = max(self._hold_ns, self._clock.mono_ns() + int(spread * 1e9))
                unreceipted = [row for row in self._rows.values() if row.due_ns is not None]
                for row in unreceipted:
                    row.asks = 0
                self._ask(unreceipted)
            case Down():
                self._blame(event)
                self._release_sending(event.reason)

    def _may_send(self) -> bool:
        if not self._broker.connected or self.paused or self._settings.paused:
            return False
        return self._clock.mono_ns() >= max(self._hold_ns, self._paid_ns) and not self._quiet()

    def _quiet(self) -> bool:
        spans = parse_schedule(self._settings.quiet_hours)
        now = time.localtime(self._clock.wall_ns() // 1_000_000_000)
        return any(span.covers(now.tm_wday, now.tm_hour * 60 + now.tm_min) for span in spans)

    def _hold(self, reason: str) -> None:
        """Send nothing for a while, each time longer until something is accepted."""
        seconds = min(self._settings.receipt_timeout_max_s, HOLD_S * 2.0 ** min(self._holds, 30))
        self._holds += 1
        self._hold_ns = self._clock.mono_ns() + int(seconds * self._rng.uniform(0.5, 1) * 1e9)
        log.warning("uploads held", extra={"reason": reason, "seconds": round(seconds, 1)})

    # Sending

    def _claim(self) -> None:
        wanted = (1 if self._slow else ROWS) - len(self._rows)
        for entry in self._spool.claim(wanted) if wanted > 0 else ():
            self._trace("uplink.claimed")
            row = self._interrupted.pop(entry.cid, None)
            if row is None or max(part.length for part in row.parts) + HEADER_BYTES > self._limit():
                row = _Row(entry)
            row.entry = entry
            if self._load(row):
                self._rows[entry.cid] = row

    def _load(self, row: _Row) -> bool:
        """Read the item and cut it into parts; False where that cannot be done, and then it is in quarantine."""
        cid = row.entry.cid
        try:
            row.item = self._spool.load(cid)
            if not row.parts:
                row.parts = split(row.item, self._topics.candidate, self._limit(), self._broker.chunk)
                row.todo = deque(range(len(row.parts)))
        except ItemError:  # the spool set it aside
            self.counters.add("uplink_damaged")
            return False
        except WireError as error:
            self._quarantine(cid, f"too large at the smallest chunk: {error.what}")
            return False
        return True

    def _limit(self) -> int:
        """Bytes of a packet at most."""
        link = self._broker.link
        announced = link.max_packet if link else self._broker.settings.max_packet_bytes
        return min(announced, self._ceiling or announced)

    def _pump(self) -> None:
        """Hand parts over while the window has room; one row after the other, a suspect only when it is alone."""
        for row in sorted(self._rows.values(), key=lambda row: row.entry.cid in self._suspects):
            alone = row.entry.cid in self._suspects
            while row.todo and row.item is not None:
                others = any(other.flying for other in self._rows.values() if other is not row)
                part = row.parts[row.todo[0]]
                if (alone and (others or row.flying)) or not self._broker.room(part.length + HEADER_BYTES):
                    return
                self._hand_over(row, row.item, part)
                if not self._may_send():
                    return
            if alone and row.flying:
                return

    def _hand_over(self, row: _Row, item: Item, part: Part) -> None:
        payload = encode_part(item, part)
        size = packet_size(self._topics.candidate, len(payload))
        if self._settings.bytes_per_s:
            now = max(self._paid_ns, self._clock.mono_ns())
            self._paid_ns = now + size * 1_000_000_000 // self._settings.bytes_per_s
        row.todo.popleft()
        row.flying.add(part.i)
        self._trace("uplink.part")
        self.counters.add("uplink_parts")
        self.counters.add("uplink_bytes", size)

        def done(future: Future[Delivery]) -> None:
            self._inbox.put(_Done(row, part.i, future.result()))

        self._broker.publish(self._topics.candidate, payload, bulk=True).add_done_callback(done)

    def _on_part(self, row: _Row, index: int, delivery: Delivery) -> None:
        row.flying.discard(index)
        if delivery.fate == "accepted":
            row.accepted.add(index)
            row.progress = True
            self._suspects.discard(row.entry.cid)
            self._holds = self._condemned = 0
        if self._rows.get(row.entry.cid) is not row or delivery.fate == "lost":
            return  # released, or about to be: the disconnect follows
        if delivery.fate != "accepted":
            self._refused(row, delivery)
        elif not row.todo and not row.flying:
            self._spool.sent(row.entry.cid)
            self._trace("uplink.sent")
            self.counters.add("uplink_sent")
            row.item = None
            row.entry = dataclasses.replace(row.entry, tries=row.entry.tries + 1)
            self._expect(row)

    def _refused(self, row: _Row, delivery: Delivery) -> None:
        self.counters.add("uplink_refused")
        if delivery.code in FOR_GOOD:
            self._drop(row)
            self._quarantine(row.entry.cid, f"refused by the broker: {delivery.reason}")
            return
        self._release(row)
        if delivery.fate == "refused":
            self._hold(delivery.reason)
            self._broker.alert(f"uploads refused: {delivery.reason}")

    # Receipts

    def _on_ack(self, message: Message) -> None:
        """In the broker's thread."""
        try:
            self._inbox.put(Receipt.decode(message.payload))
        except WireError as error:
            self.counters.add("uplink_bad_receipts")
            log.warning("receipt dropped", extra={"error": str(error)})

    def _on_receipt(self, ack: Ack) -> None:
        self.counters.add(f"uplink_{ack.st}")
        row = self._rows.get(ack.cid)
        self._broker.alert(None)
        if ack.st in {"stored", "duplicate"}:
            self._drop(row)
            self._interrupted.pop(ack.cid, None)
            self._spool.forget(ack.cid)
            self._trace("uplink.forgotten")
        elif ack.st == "rejected":
            self._drop(row)
            self._quarantine(ack.cid, f"rejected by the collector: {ack.why or 'no reason given'}")
        elif row is None or (ack.st == "unknown" and row.due_ns is None):
            return  # not sent to the end yet, or not ours
        elif ack.st == "unknown" or ack.retry_after or row.partials >= BLAMED_LIMIT:
            self._release(row, ack.retry_after or 0.0)
        else:
            self._send_again(row, ack.missing)

    def _send_again(self, row: _Row, missing: Sequence[int] | None) -> None:
        """Parts arrived damaged or not at all."""
        known = [i for i in missing or () if i < len(row.parts)]
        row.partials += 1
        row.due_ns = None
        if row.parts:
            row.todo = deque(i for i in known or range(len(row.parts)) if i not in row.flying)
            row.accepted.difference_update(row.todo)
        if row.item is None and not self._load(row):
            self._drop(row)

    def _expect(self, row: _Row) -> None:
        """Wait for the receipt: `receipt_timeout_s`, doubled by each try and each question before."""
        times = max(row.entry.tries - 1, 0) + row.asks
        base, top = self._settings.receipt_timeout_s, self._settings.receipt_timeout_max_s
        seconds = min(top, base * 2.0 ** min(times, 30)) * self._rng.uniform(0.5, 1)
        row.due_ns = self._clock.mono_ns() + int(seconds * 1e9)

    def _chase(self) -> None:
        """Ask for what is overdue; what was asked for in vain often enough is sent again."""
        now = self._clock.mono_ns()
        overdue = [row for row in self._rows.values() if row.due_ns is not None and row.due_ns <= now]
        if not overdue or not self._broker.connected:
            return
        self.counters.add("uplink_overdue", len(overdue))
        if all(row.asks for row in overdue):
            self._broker.alert("no receipts: the collector is away, or the broker's ACL drops uploads or receipts")
        for row in [row for row in overdue if row.asks >= ASKS]:
            self._release(row)
        self._ask([row for row in overdue if row.asks < ASKS])

    def _ask(self, rows: Sequence[_Row]) -> None:
        """ "Which of these do you have?" """
        for start in range(0, len(rows), QUERY_LIMIT):
            some = rows[start : start + QUERY_LIMIT]
            query = Query(cids=tuple(row.entry.cid for row in some))
            self._broker.publish(self._topics.query, query.encode())
            self.counters.add("uplink_queries")
            self._trace("uplink.asked")
            for row in some:
                row.asks += 1
                self._expect(row)

    # Ends

    def _resume_sent(self) -> None:
        """Items that an earlier run sent and that have no receipt yet: the collector is asked on connect."""
        try:
            waiting = self._spool.waiting()
        except SpoolFullError:
            return
        for entry in waiting:
            row = _Row(entry)
            self._rows[entry.cid] = row
            self._expect(row)

    def _blame(self, down: Down) -> None:
        """Whose fault is a connection that the broker closed? Whoever was under way without any progress is suspect.

        A suspect is sent alone; when the broker closes the connection again then the packet is too large for it
        (where it never said how much it takes), or the item is poison.
        """
        flying = [row for row in self._rows.values() if row.flying and not row.progress]
        if not down.dropped or not flying:
            return
        row, cid = flying[0], flying[0].entry.cid
        if len(flying) > 1 or cid not in self._suspects:
            self._suspects.update(row.entry.cid for row in flying)
            return
        size = max(row.parts[i].length for i in row.flying) + HEADER_BYTES
        if size > 2 * CHUNK_FLOOR:
            self._ceiling = size // 2
            row.parts = ()
            log.warning("smaller packets", extra={"cid": cid, "bytes": self._ceiling, "reason": down.reason})
            return
        blamed = row.entry.blamed + 1
        log.warning("disconnect blamed", extra={"cid": cid, "times": blamed, "reason": down.reason})
        if blamed < BLAMED_LIMIT or self._condemned:
            self._release(row, blamed=True)
            if self._condemned:
                self._broker.alert(f"the broker drops every upload: {down.reason}")
                self._hold(down.reason)
        else:
            self._condemned += 1
            self._ceiling = None
            self._drop(row)
            self._quarantine(cid, f"{blamed} disconnects blamed on it, the last: {down.reason}")

    def _release_sending(self, reason: str) -> None:
        """Disconnected: what was being sent is ready again, and goes on where it stopped."""
        for row in [row for row in self._rows.values() if row.due_ns is None]:
            row.todo = deque(i for i in range(len(row.parts)) if i not in row.accepted)
            row.flying, row.item, row.progress = set(), None, False
            self._release(row)
            if row.accepted and row.todo:
                self._interrupted = {row.entry.cid: row, **dict(list(self._interrupted.items())[: ROWS - 1])}
            log.info("upload interrupted", extra={"cid": row.entry.cid, "reason": reason})

    def _release(self, row: _Row, after_s: float = 0.0, *, blamed: bool = False) -> None:
        self._drop(row)
        self._spool.release(row.entry.cid, after_s, blamed=blamed)
        self._trace("uplink.released")

    def _drop(self, row: _Row | None) -> None:
        if row is not None:
            self._rows.pop(row.entry.cid, None)

    def _quarantine(self, cid: str, reason: str) -> None:
        if self._spool.quarantine(cid, reason):
            self.counters.add("uplink_quarantined")
        self._suspects.discard(cid)
