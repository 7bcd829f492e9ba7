"""A broker in the test's hand: what is published waits there until the test says what became of it."""

from __future__ import annotations

import queue
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import cast

from agent.broker import Broker, Delivery, Down, Message, Up
from agent.settings import BrokerSettings
from agent.wire import Ack, CandidateHeader, Query, Receipt, decode_candidate

PATIENCE_S = 10.0


@dataclass(frozen=True)
class Published:
    """A message that waits for the broker's word."""

    topic: str
    payload: bytes
    done: Future[Delivery]

    @property
    def header(self) -> CandidateHeader:
        return decode_candidate(self.payload)[0]

    def accept(self) -> None:
        self.done.set_result(Delivery("accepted"))

    def refuse(self, code: int, reason: str = "refused") -> None:
        self.done.set_result(Delivery("refused", reason, code))


class FakeBroker:
    """The part of `Broker` that an uplink uses."""

    def __init__(self) -> None:
        self.settings = BrokerSettings(host="fake")
        self.link: Up | None = None
        self.chunk = 64_000
        self.window = 8
        self.alerts: dict[str, str | None] = {}
        self.candidates: queue.Queue[Published] = queue.Queue()
        self.queries: queue.Queue[Query] = queue.Queue()
        self._flying: list[Published] = []
        self._listeners: list[Callable[[Up | Down], None]] = []
        self._on_ack: Callable[[Message], None] = lambda _: None

    def as_broker(self) -> Broker:
        return cast(Broker, self)

    # what the uplink calls

    def watch(self, listener: Callable[[Up | Down], None]) -> None:
        self._listeners.append(listener)

    def subscribe(self, topic_filter: str, handler: Callable[[Message], None]) -> None:
        assert topic_filter.endswith("/dn/ack")
        self._on_ack = handler

    @property
    def connected(self) -> bool:
        return self.link is not None

    def room(self, size: int) -> bool:
        return self.connected and size > 0 and sum(not item.done.done() for item in self._flying) < self.window

    def alert(self, subject: str, complaint: str | None) -> None:
        self.alerts[subject] = complaint

    def publish(self, topic: str, payload: bytes, *, bulk: bool = False) -> Future[Delivery]:
        done: Future[Delivery] = Future()
        if not self.connected:
            done.set_result(Delivery("lost"))
        elif bulk:
            self._flying.append(Published(topic, payload, done))
            self.candidates.put(self._flying[-1])
        else:
            self.queries.put(Query.decode(payload))
        return done

    # what the test says

    def up(self, max_packet: int = 126_000) -> None:
        self.link = Up(conn=1, protocol=5, session=False, max_packet=max_packet, flying=16)
        for listener in self._listeners:
            listener(self.link)

    def down(self, *, dropped: bool = False) -> None:
        self.link = None
        for item in self._flying:
            if not item.done.done():
                item.done.set_result(Delivery("lost"))
        while not self.candidates.empty():
            self.candidates.get()
        for listener in self._listeners:
            listener(Down("the test says so", dropped=dropped))

    def receipt(self, *acks: Ack, slow: bool = False) -> None:
        self.raw_receipt(Receipt(acks=acks, slow=slow or None).encode())

    def raw_receipt(self, payload: bytes) -> None:
        self._on_ack(Message("tk/v1/gate-north/dn/ack", payload, retain=False, mid=1, conn=1))

    def next(self) -> Published:
        """The next part, when it comes."""
        return self.candidates.get(timeout=PATIENCE_S)

    def next_query(self) -> tuple[str, ...]:
        return self.queries.get(timeout=PATIENCE_S).cids
