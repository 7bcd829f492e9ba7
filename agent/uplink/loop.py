"""The loop: one thread, and everything that happens elsewhere reaches it as an event in its inbox."""

from __future__ import annotations

import contextlib
import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TypeAlias

from agent.broker import Broker, Delivery, Down, Message, Up
from agent.clock import Clock
from agent.errors import ItemError, SpoolFullError, WireError
from agent.health import Counters, Pulse
from agent.records import Item
from agent.settings import UplinkSettings
from agent.spool import Spool
from agent.uplink.blame import HEADER_BYTES, LIMIT, Blame
from agent.uplink.pace import Pace
from agent.uplink.row import Row
from agent.wire import QUERY_LIMIT, Ack, Part, Query, Receipt, Topics, encode_part, packet_size, split

log = logging.getLogger(__name__)

ROWS = 4
"""Items without a receipt at most."""
AHEAD = 4
"""Items read before their turn, while nothing but receipts is waited for: on a slow link later ones may matter more."""
ASKS = 3
"""Questions without an answer before an item is sent again unasked."""
UNKNOWN_TRIES = 2
"""Times that an item was sent to no avail before the broker's ACL is suspected."""
PARTIALS = 3
"""Receipts that said partial before an item waits its turn again."""
IDLE_S = 1.0
"""Longest time without a look at the spool: its commits and age limit rely on being called."""
FOR_GOOD = (0x90, 0x95, 0x99)
"""Refusals that no second try can change: topic name invalid, packet too large, payload format invalid."""


@dataclass(frozen=True, slots=True)
class _Done:
    """The broker's word on one part."""

    row: Row
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
        self._clock = clock
        self._trace = trace
        self._pace = Pace(settings, clock, rng)
        self._blame = Blame()
        self._inbox: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        self._rows: dict[str, Row] = {}
        self._interrupted: dict[str, Row] = {}
        """Rows that a disconnect stopped half-way: what the broker has of them is not sent again at once."""
        self._looked_ns = -(10**18)
        """When the spool's age limit was last looked at."""
        self._slow = False
        self._resumed = False
        self.pulse = Pulse(clock)
        """Beats with every round of the loop."""
        self.paused = False
        """An operator's pause, beside the configured one: nothing is sent."""
        self.counters = counters or Counters()
        broker.watch(self._inbox.put)
        broker.subscribe(topics.ack, self._on_ack)

    def run(self, stop: threading.Event, finish_s: float = 2.0) -> None:
        """Until `stop` is set; then what is in flight has `finish_s` seconds to get its receipt."""
        while not stop.is_set():
            self._round(claiming=True)
        deadline = time.monotonic() + finish_s
        while self._rows and self._broker.connected and time.monotonic() < deadline:
            self._round(claiming=False)
        with contextlib.suppress(SpoolFullError):
            self._release_sending()

    def wake(self) -> None:
        """Look at the spool now: something new is in it. Any thread may call."""
        self._inbox.put(None)

    def flush(self) -> None:
        """Upload without waiting for a start delay, or a hold after a refusal, to pass."""
        self._pace.flush()
        self.wake()

    def apply(self, settings: UplinkSettings) -> None:
        """Go on with other settings."""
        self._pace.settings = settings
        self.wake()

    # One round: what happened, what is overdue, what can be sent

    def _round(self, *, claiming: bool) -> None:
        self.pulse.beat()
        try:
            self._hear(self._wait_s())
            self._expire()
            if not self._resumed:
                self._resume_sent()
            if not self._broker.connected:
                return
            self._chase()
            if self._open():
                self._pump()  # what is at hand goes out before more is read
                if claiming and self._claim():
                    self._pump()
        except SpoolFullError as error:  # it mends itself; what could not be written down meanwhile is asked for then
            self._resumed = False
            self._pace.hold(str(error))
        except Exception:
            self.counters.add("uplink_errors")
            log.exception("uplink round failed")
            self._pace.hold("internal error")

    def _expire(self) -> None:
        now = self._clock.mono_ns()
        if now - self._looked_ns >= IDLE_S * 1e9:
            self._looked_ns = now
            self._spool.expire()

    def _open(self) -> bool:
        return not self.paused and self._pace.wait_s() == 0.0

    def _wait_s(self) -> float:
        """Seconds until something is due, unless an event comes first."""
        if not self._broker.connected:
            return IDLE_S
        now = self._clock.mono_ns()
        waits = [(row.due_ns - now) / 1e9 for row in self._rows.values() if row.due_ns is not None]
        return max(0.0, min([IDLE_S, *waits, self._pace.wait_s() or IDLE_S]))

    def _hear(self, timeout_s: float) -> None:
        """Wait for an event and deal with all that are there."""
        with contextlib.suppress(queue.Empty):
            event = self._inbox.get(timeout=timeout_s)
            while True:
                self._deal_with(event)
                event = self._inbox.get_nowait()

    def _deal_with(self, event: _Event) -> None:
        match event:
            case _Done(row, index, delivery):
                self._on_part(row, index, delivery)
            case Receipt():
                self._broker.alert("receipts", None)
                self._slow = bool(event.slow)
                for ack in event.acks:
                    self._on_receipt(ack)
            case Up():
                self._pace.connected()
                self._resume_sent()
                unreceipted = [row for row in self._rows.values() if row.due_ns is not None]
                for row in unreceipted:
                    row.asks = 0
                self._ask(unreceipted)
            case Down():
                if event.dropped:
                    self._judge(event.reason)
                self._release_sending()

    # Sending

    def _claim(self) -> bool:
        """Take what there is room for; whether there was anything."""
        begun = [row for row in self._rows.values() if row.begun]
        waiting = len(begun) >= ROWS and not any(row.todo for row in begun)
        wanted = self._window + AHEAD * waiting - len(self._rows)
        claimed = self._spool.claim(wanted) if wanted > 0 else []
        for entry in claimed:
            self._trace("uplink.claimed")
            row = self._interrupted.pop(entry.cid, None)
            if row is None or row.widest + HEADER_BYTES > self._limit():
                row = Row(entry)
            row.entry = entry
            self._rows[entry.cid] = row
            self._load(row)
        return bool(claimed)

    @property
    def _window(self) -> int:
        """Items without a receipt at most, now."""
        return 1 if self._slow else ROWS

    def _load(self, row: Row) -> None:
        """Read the item and cut it into parts; where that cannot be done it goes to quarantine."""
        try:
            row.item = self._spool.load(row.cid)
            if not row.parts:
                row.cut(split(row.item, self._topics.candidate, self._limit(), self._broker.chunk))
        except ItemError:  # the spool set it aside
            self._drop(row)
            self.counters.add("uplink_damaged")
        except WireError as error:
            self._quarantine(row.cid, f"too large at the smallest chunk: {error.what}")

    def _limit(self) -> int:
        """Bytes of a packet at most."""
        link = self._broker.link
        announced = link.max_packet if link else self._broker.settings.max_packet_bytes
        return min(announced, self._blame.ceiling or announced)

    def _pump(self) -> None:
        """Hand parts over while the window has room: one row after the other, a suspect only when it is alone."""
        suspects = self._blame.suspects
        for row in sorted(self._rows.values(), key=lambda row: row.cid in suspects):
            suspect = row.cid in suspects
            if not row.begun and sum(other.begun for other in self._rows.values()) >= self._window:
                continue
            while row.todo and row.item is not None:
                part = row.parts[row.todo[0]]
                if suspect and any(other.flying for other in self._rows.values()):
                    return
                if not self._open() or not self._broker.room(part.length + HEADER_BYTES):
                    return
                self._hand_over(row, row.item, part)
            if suspect and row.flying:
                return

    def _hand_over(self, row: Row, item: Item, part: Part) -> None:
        payload = encode_part(item, part)
        size = packet_size(self._topics.candidate, len(payload))
        self._pace.pay(size)
        row.todo.popleft()
        row.flying.add(part.i)
        row.begun = True
        self.counters.add("uplink_parts")
        self.counters.add("uplink_bytes", size)

        def done(future: Future[Delivery]) -> None:
            self._inbox.put(_Done(row, part.i, future.result()))

        self._broker.publish(self._topics.candidate, payload, bulk=True).add_done_callback(done)
        self._trace("uplink.part")

    def _on_part(self, row: Row, index: int, delivery: Delivery) -> None:
        if delivery.fate == "lost":
            return  # the end of the connection is told next, and is judged with what was flying
        row.flying.discard(index)
        if delivery.fate == "accepted":
            row.accepted.add(index)
            row.progress = True
            self._blame.accepted(row.cid)
            self._pace.accepted()
            self._broker.alert("uploads", None)
        if self._rows.get(row.cid) is not row:
            return  # it went its way meanwhile
        if delivery.fate != "accepted":
            self._refused(row, delivery)
        elif not row.todo and not row.flying and row.due_ns is None:
            self._spool.sent(row.cid)
            self._trace("uplink.sent")
            self.counters.add("uplink_sent")
            row.sent()
            self._expect(row)

    def _refused(self, row: Row, delivery: Delivery) -> None:
        self.counters.add("uplink_refused")
        if delivery.code in FOR_GOOD:
            self._quarantine(row.cid, f"refused by the broker: {delivery.reason}")
            return
        self._release(row)
        if delivery.fate == "refused":
            self._pace.hold(delivery.reason)
            self._broker.alert("uploads", f"uploads refused: {delivery.reason}; check the broker's ACL and quota")

    # Receipts

    def _on_ack(self, message: Message) -> None:
        """In the broker's thread."""
        try:
            self._inbox.put(Receipt.decode(message.payload))
        except WireError as error:
            self.counters.add("uplink_bad_receipts")
            log.debug("receipt dropped", extra={"error": str(error)})

    def _on_receipt(self, ack: Ack) -> None:
        self.counters.add(f"uplink_{ack.st}")
        row = self._rows.get(ack.cid)
        if ack.st in {"stored", "duplicate"}:
            self._drop(row)
            self._broker.alert("lost", None)
            self._interrupted.pop(ack.cid, None)
            self._spool.forget(ack.cid)
            self._trace("uplink.forgotten")
        elif ack.st == "rejected":
            self._quarantine(ack.cid, f"rejected by the collector: {ack.why or 'no reason given'}")
        elif row is None or (ack.st == "unknown" and row.due_ns is None):
            return  # not ours, or not sent to its end yet
        elif ack.st == "unknown" and row.entry.tries >= UNKNOWN_TRIES:
            self._broker.alert("lost", "the broker accepts uploads that the collector never sees; check its ACL")
            self._release(row, ack.retry_after or 0.0)
        elif ack.st == "partial" and not ack.retry_after and row.partials < PARTIALS:
            row.repeat(ack.missing)
            if row.item is None:
                self._load(row)
        else:
            self._release(row, ack.retry_after or (self._pace.settings.receipt_timeout_s if row.partials else 0.0))

    def _expect(self, row: Row) -> None:
        """Wait for the receipt, longer with each try and each question before."""
        row.due_ns = self._pace.receipt_ns(max(row.entry.tries - 1, 0) + row.asks)
        row.begun = True

    def _chase(self) -> None:
        """Ask for what is overdue; what was asked for in vain often enough is sent again."""
        now = self._clock.mono_ns()
        overdue = [row for row in self._rows.values() if row.due_ns is not None and row.due_ns <= now]
        if not overdue:
            return
        self.counters.add("uplink_overdue", len(overdue))
        if all(row.asks for row in overdue):
            self._broker.alert(
                "receipts", "no receipts: the collector is away, or the broker's ACL drops uploads or receipts"
            )
        for row in overdue:
            if row.asks >= ASKS:
                self._release(row)
        self._ask([row for row in overdue if row.asks < ASKS])

    def _ask(self, rows: Sequence[Row]) -> None:
        """Ask the collector which of these it has."""
        for start in range(0, len(rows), QUERY_LIMIT):
            some = rows[start : start + QUERY_LIMIT]
            self._broker.publish(self._topics.query, Query(cids=tuple(row.cid for row in some)).encode())
            self._trace("uplink.asked")
            self.counters.add("uplink_queries")
            for row in some:
                row.asks += 1
                self._expect(row)

    # Ends

    def _resume_sent(self) -> None:
        """Take up what the spool calls sent and is unknown here: of an earlier run, or its receipt found no room."""
        for entry in self._spool.waiting():
            if entry.cid not in self._rows:
                self._rows[entry.cid] = row = Row(entry)
                self._expect(row)
        self._resumed = True

    def _judge(self, reason: str) -> None:
        """The broker closed the connection: what that means for whoever was under way."""
        verdict, row = self._blame.judge([row for row in self._rows.values() if row.due_ns is None])
        if row is None:
            return
        log.warning("disconnect judged", extra={"cid": row.cid, "verdict": verdict, "reason": reason})
        if verdict == "poison":
            self._quarantine(row.cid, f"{LIMIT} disconnects blamed on it, the last: {reason}")
            return
        row.cut(())
        self._release(row, blamed=verdict == "blamed")
        if verdict == "all dropped":
            self._broker.alert("uploads", f"the broker drops every upload: {reason}")
            self._pace.hold(reason)

    def _release_sending(self) -> None:
        """Disconnected: what was being sent is ready again, and goes on where it stopped."""
        for row in [row for row in self._rows.values() if row.due_ns is None]:
            row.interrupt()
            self._release(row)
            if row.accepted and row.todo:
                self._interrupted = {row.cid: row, **dict(list(self._interrupted.items())[: ROWS - 1])}
            self.counters.add("uplink_interrupted")

    def _release(self, row: Row, after_s: float = 0.0, *, blamed: bool = False) -> None:
        self._drop(row)
        self._spool.release(row.cid, after_s, blamed=blamed)
        self._trace("uplink.released")

    def _quarantine(self, cid: str, reason: str) -> None:
        self._drop(self._rows.get(cid))
        if self._spool.quarantine(cid, reason):
            self.counters.add("uplink_quarantined")
            self._trace("uplink.quarantined")

    def _drop(self, row: Row | None) -> None:
        if row is not None:
            self._rows.pop(row.cid, None)
            row.item = None
