"""The collector's loop: messages in batches, stored durably, then acknowledged and receipted."""

from __future__ import annotations

import contextlib
import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from agent.broker import Broker, Message, Up
from agent.clock import Clock
from agent.collector.arrival import Incoming
from agent.collector.index import StoreError
from agent.collector.ingest import Ingest, Outcome
from agent.collector.staging import Staging
from agent.collector.store import Store
from agent.errors import ConfigError, WireError
from agent.settings import CollectorSettings, Settings
from agent.wire import HEADER_LIMIT, QUERY_LIMIT, Receipt, Topics

log = logging.getLogger(__name__)

BATCH = 32
"""Messages taken together at most, and unacknowledged at most: one commit serves them all."""
INBOX = 256
"""Messages that wait at most. QoS 1 never comes near it; what somebody sends beyond it with QoS 0 is dropped."""
RETRY_S = 1.0
RETRY_MAX_S = 30.0
SWEEP_S = 3600.0
SLOW_S = 2.0
"""A batch that took longer makes the receipts say `slow`."""
HELD = 16
HELD_BYTES = 4_194_304
HELD_S = 0.1
"""Parts of candidates that are not complete wait in memory, unacknowledged, and so does the acknowledgement of what
comes after them: while that is no more than this, and the next message comes within this time. Then they are staged.
On a fast link all parts of a candidate come together."""


@dataclass(frozen=True, slots=True)
class _Taken:
    """What became of a batch."""

    held: list[Message]
    """To come again with the next ones."""
    outcomes: list[Outcome]


def open_staging(mine: CollectorSettings, store: Path) -> Staging:
    """Where parts wait: in the store, or where collectors share it. Raises ConfigError."""
    if mine.staging:
        return Staging(Path(mine.staging), str(store.resolve()))
    return Staging(store / "staging.sqlite")


class CollectorService:
    """Receives candidates and keeps them. Everything happens in `run`, so it may be one thread among others."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        *,
        protocol: Literal[4, 5] | None = None,
        trace: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`trace` hears each step (crash tests). Raises ConfigError for settings that cannot work."""
        mine = settings.collector
        if mine.store is None:
            raise ConfigError("collector.store is not set", remedy="name the folder for the data set")
        self.settings = settings
        self._folder: Path = mine.store
        self._clock = clock
        self._trace = trace
        self.ready = threading.Event()
        """Set while the broker has our subscriptions."""
        self._inbox: queue.Queue[Message] = queue.Queue(INBOX)
        self.ingest: Ingest | None = None
        """There while `run` is."""
        self.broker = Broker(
            settings.broker,
            mine.client_id,
            clock,
            random.Random(),
            receive_maximum=BATCH,
            receive_bytes=mine.max_image_bytes + HEADER_LIMIT + 4096,
            manual_ack=True,
            protocol=protocol,
        )
        for level in ("c", "q"):
            topic_filter = Topics(settings.broker.prefix, "+").up(level)
            shared = f"$share/{mine.share_group}/{topic_filter}" if mine.share_group else topic_filter
            self.broker.subscribe(shared, self._arrived)

    def run(self, stop: threading.Event, started: Callable[[], None] = lambda: None) -> None:
        """Until `stop` is set; `started` is called when the store is open. Raises ConfigError where it cannot be."""
        mine = self.settings.collector
        store = Store(self._folder, self._clock)
        staging = open_staging(mine, self._folder)
        self.ingest = Ingest(store, staging, self._clock, mine.max_image_bytes, self._trace)
        log.info("store open", extra={"store": str(self._folder), "adopted": len(store.adopted)})
        self.broker.watch(lambda event: self.ready.set() if isinstance(event, Up) else self.ready.clear())
        self.broker.start()
        started()
        try:
            self._loop(self.ingest, stop)
        finally:
            self.ready.clear()
            self.broker.close()
            self.ingest.close()
            staging.close()
            store.close()

    def _arrived(self, message: Message) -> None:
        with contextlib.suppress(queue.Full):
            self._inbox.put_nowait(message)

    def _loop(self, ingest: Ingest, stop: threading.Event) -> None:
        swept = -SWEEP_S
        unacknowledged: list[Message] = []
        """In order of arrival, in which the broker wants to hear of them (MQTT 5, 4.6)."""
        held: list[Message] = []
        while not stop.is_set():
            if time.monotonic() - swept > SWEEP_S:
                ingest.sweep()
                swept = time.monotonic()
            fresh = self._batch(HELD_S if held else 0.5)
            unacknowledged += fresh
            if not unacknowledged:
                continue
            started = time.monotonic()
            hold = bool(fresh) and not self.settings.collector.staging and _few(unacknowledged)
            taken = self._take(ingest, held + fresh, stop, hold=hold)
            if taken is None:
                continue
            held = taken.held
            while unacknowledged and not (held and unacknowledged[0] is held[0]):
                self.broker.ack(unacknowledged.pop(0))
            self._trace("collector.acknowledged")
            for outcome in taken.outcomes:
                self._answer(outcome, slow=time.monotonic() - started > SLOW_S)
            self._trace("collector.answered")

    def _batch(self, wait_s: float) -> list[Message]:
        """What has arrived, at most `BATCH`; waits for the first."""
        batch: list[Message] = []
        with contextlib.suppress(queue.Empty):
            batch.append(self._inbox.get(timeout=wait_s))
            while len(batch) < BATCH:
                batch.append(self._inbox.get_nowait())
        return batch

    def _take(
        self, ingest: Ingest, batch: Sequence[Message], stop: threading.Event, *, hold: bool = False
    ) -> _Taken | None:
        """Store a batch, again and again where the disk refuses: until it is acknowledged the broker sends no more.

        None when `stop` came first.
        """
        candidates, queries = self._sort(batch)
        wait_s = RETRY_S
        while True:
            try:
                stored = ingest.candidates([incoming for _, incoming in candidates], hold=hold)
                outcomes = [stored, *(ingest.query(query) for query in queries)]
            except (OSError, StoreError) as error:
                log.error("store refuses", extra={"error": str(error), "retry_s": wait_s})
            except Exception:
                log.exception("batch taken apart", extra={"messages": len(batch)})
                return self._take_apart(ingest, batch, stop)
            else:
                return _Taken([candidates[number][0] for number in sorted(stored.held)], outcomes)
            if stop.wait(wait_s):
                return None
            wait_s = min(2 * wait_s, RETRY_MAX_S)

    def _take_apart(self, ingest: Ingest, batch: Sequence[Message], stop: threading.Event) -> _Taken | None:
        """A mistake of ours in dealing with some message must not cost the others: each alone, and that one dropped."""
        if len(batch) == 1:
            ingest.counters["failed"] += 1
            return _Taken([], [])
        outcomes: list[Outcome] = []
        for message in batch:
            some = self._take(ingest, [message], stop)
            if some is None:
                return None
            outcomes += some.outcomes
        return _Taken([], outcomes)

    def _sort(self, batch: Sequence[Message]) -> tuple[list[tuple[Message, Incoming]], list[Incoming]]:
        """Candidates and queries, each in order of arrival."""
        candidates: list[tuple[Message, Incoming]] = []
        queries: list[Incoming] = []
        for message in batch:
            try:
                topics, levels = Topics.parse(self.settings.broker.prefix, message.topic)
            except WireError as error:
                log.warning("message dropped", extra={"error": str(error)})
                continue
            incoming = Incoming(topics.device, message.payload)
            if levels == ("up", "c"):
                candidates.append((message, incoming))
            else:
                queries.append(incoming)
        return candidates, queries

    def _answer(self, outcome: Outcome, *, slow: bool) -> None:
        for device, by_cid in outcome.acks.items():
            acks = tuple(by_cid.values())
            topics = Topics(self.settings.broker.prefix, device)
            for start in range(0, len(acks), QUERY_LIMIT):
                receipt = Receipt(acks=acks[start : start + QUERY_LIMIT], slow=slow or None)
                self.broker.publish(topics.ack, receipt.encode())


def _few(messages: Sequence[Message]) -> bool:
    """Whether there are so few without an acknowledgement that parts among them may wait."""
    return len(messages) <= HELD and sum(len(message.payload) for message in messages) <= HELD_BYTES
