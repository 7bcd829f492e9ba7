"""Both ends of a delivery, as tests start, stop and kill them."""

from __future__ import annotations

import queue
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.broker import Broker, ConnectionCounter, Message, Presence
from agent.clock import Clock, SystemClock
from agent.collector import CollectorService, listing
from agent.records import Item
from agent.settings import BrokerSettings, CollectorSettings, Settings, SpoolSettings, UplinkSettings
from agent.spool import Spool
from agent.uplink import Uplink
from agent.wire import Topics

PATIENCE_S = 30.0


def wait_until(holds: Callable[[], bool], what: str, timeout_s: float = PATIENCE_S) -> None:
    """Look again and again until it holds: for what nobody announces, such as rows in another one's database."""
    pause = threading.Event()
    for _ in range(int(timeout_s / 0.02)):
        if holds():
            return
        pause.wait(0.02)
    raise AssertionError(f"waited {timeout_s} s in vain: {what}")


def broker_settings(port: int, **changes: Any) -> BrokerSettings:
    quick = {"host": "127.0.0.1", "port": port, "tls": False, "reconnect_min_s": 0.05, "reconnect_max_s": 0.5}
    return BrokerSettings(**{**quick, **changes})


class Device:
    """Spool, uplink and broker of one device; what the watch does is `put`."""

    def __init__(
        self,
        folder: Path,
        broker: BrokerSettings,
        *,
        name: str = "gate-north",
        protocol: int = 5,
        uplink: dict[str, Any] | None = None,
        clock: Clock | None = None,
        spool: SpoolSettings | None = None,
        trace: Callable[[str], None] = lambda _: None,
    ) -> None:
        clock = clock or SystemClock()
        rng = random.Random(1)
        self.topics = Topics(broker.prefix, name)
        presence = Presence(self.topics.status, clock.boot(), ConnectionCounter(folder / "connections.json"))
        self.broker = Broker(broker, name, clock, rng, presence=presence, protocol=5 if protocol == 5 else 4)
        spool = spool or SpoolSettings(reserve_bytes=0)
        self.spool = Spool(folder / "spool", spool, clock, wake=self._wake, trace=trace)
        self.uplink = Uplink(
            self.spool,
            self.broker,
            self.topics,
            settings=UplinkSettings(**{"start_spread_s": 0, "receipt_timeout_s": 1.0, **(uplink or {})}),
            clock=clock,
            rng=rng,
            trace=trace,
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self.uplink.run, args=(self._stop, 1.0), name=f"uplink {name}")

    def __enter__(self) -> Device:
        self.spool.recover()
        self.broker.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self.uplink.wake()
        self._thread.join()
        self.broker.close()
        self.spool.close()

    def _wake(self) -> None:
        self.uplink.wake()

    def put(self, *items: Item) -> None:
        for item in items:
            self.spool.put(item)

    def wait_delivered(self) -> None:
        """Until the spool is empty: everything has its receipt, or is in quarantine."""
        wait_until(lambda: self.spool.stats().items == 0, f"spool empty, {self.spool.stats()}")


class Collector:
    """A collector service in a thread."""

    def __init__(
        self,
        store: Path,
        broker: BrokerSettings,
        *,
        protocol: int = 5,
        trace: Callable[[str], None] = lambda _: None,
        **settings: Any,
    ) -> None:
        self.store = store
        section = CollectorSettings(store=store, **settings)
        self.service = CollectorService(
            Settings(broker=broker, collector=section),
            SystemClock(),
            protocol=5 if protocol == 5 else 4,
            trace=trace,
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self.service.run, args=(self._stop,), name=section.client_id)

    def __enter__(self) -> Collector:
        self._thread.start()
        assert self.service.ready.wait(PATIENCE_S), self.service.broker.problem
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def cids(self) -> list[str]:
        return [row["cid"] for row in listing(self.store)]


class Spy(Broker):
    """Reads everything that goes through the broker."""

    def __init__(self, settings: BrokerSettings) -> None:
        super().__init__(settings, "spy", SystemClock(), random.Random(5))
        self._messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self.subscribe("#", self._messages.put)

    def __enter__(self) -> Spy:
        self.start()
        assert self.wait_connected(PATIENCE_S), self.problem
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def heard(self) -> list[Message]:
        """All messages so far, but those that were asked for before."""
        return [self._messages.get_nowait() for _ in range(self._messages.qsize())]
