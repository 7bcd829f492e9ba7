"""An operator's connection: everything that the fleet says, and what the control side retains, kept up to date."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterable
from types import TracebackType

from typing_extensions import Self

from agent.broker import Broker, Message
from agent.clock import Clock
from agent.errors import BrokerError, WireError
from agent.fleet.view import Device
from agent.settings import BrokerSettings
from agent.wire import Topics

SUMMARY = ("up/status", "up/info", "up/config", "up/stats")
"""What the table of a fleet is made of."""
CONFIG = ("up/status", "up/config", "dn/config")
EVERYTHING = (*SUMMARY, "up/cmd/+", "dn/config")
QUIET_S = 0.1
"""Some brokers send retained messages a little after the rest: so long a silence means that all of them are here."""
SETTLE_S = 10.0
CONNECT_S = 10.0


class Link:
    """Used as a context manager; inside, `devices` and `desired` fill up by themselves."""

    def __init__(
        self,
        settings: BrokerSettings,
        clock: Clock,
        rng: random.Random,
        *,
        device: str = "+",
        topics: Iterable[str] = SUMMARY,
        connect_s: float = CONNECT_S,
    ) -> None:
        """`device`: listen to this one only. `topics`: which of their topics, below the device's id."""
        self.settings = settings
        self.clock = clock
        self.rng = rng
        self.prefix = settings.prefix
        self.devices: dict[str, Device] = {}
        self.desired: dict[str, bytes] = {}
        """Retained desired configuration by owner: device id, ``_all`` or ``_g_<group>``."""
        self._changed = threading.Condition()
        self._last = 0.0
        self._connect_s = connect_s
        self._listeners: list[Callable[[str, tuple[str, ...], bytes], None]] = []
        name = f"ops-{os.getpid()}-{rng.randrange(16**6):06x}"
        self.broker = Broker(settings, name, clock, rng, session_s=0, qos=0)
        self._mark = f"{self.prefix}/{name}/dn/mark"
        self._marked = threading.Event()
        self.broker.subscribe(self._mark, self._mark_arrived)
        for topic in topics:
            owner = "+" if topic == "dn/config" else device
            self.broker.subscribe(f"{self.prefix}/{owner}/{topic}", self._arrived)

    def __enter__(self) -> Self:
        self.broker.start()
        if not self.broker.wait_connected(self._connect_s):
            problem = self.broker.problem
            self.broker.close(0.5)
            raise BrokerError(f"no connection to the broker: {problem}", remedy="see [broker] of the config file")
        self._settle()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.broker.close()

    def listen(self, listener: Callable[[str, tuple[str, ...], bytes], None]) -> None:
        """Be told (device, topic levels, payload) of each message, in the broker's thread, before anybody who waits."""
        self._listeners.append(listener)

    def topics(self, owner: str) -> Topics:
        return Topics(self.prefix, owner)

    def device(self, name: str) -> Device:
        """What is known of a device; empty for one that was never heard of."""
        with self._changed:
            return self.devices.setdefault(name, Device(name))

    def known(self) -> list[Device]:
        """Devices that have said anything, by id."""
        with self._changed:
            return sorted((d for d in self.devices.values() if d.raw or d.status), key=lambda device: device.id)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Hand a message to the broker and wait until it has it, over one lost connection too; raises BrokerError."""
        delivery = self.broker.publish(topic, payload, retain=retain).result(CONNECT_S)
        if delivery.fate == "lost" and self.broker.wait_connected(CONNECT_S):
            delivery = self.broker.publish(topic, payload, retain=retain).result(CONNECT_S)
        if delivery.fate != "accepted":
            raise BrokerError(f"{topic}: the broker did not take it: {delivery.fate} {delivery.reason}")

    def wait(self, holds: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until something that messages change holds; False where it does not in time."""
        with self._changed:
            return self._changed.wait_for(holds, timeout_s)

    def _settle(self) -> None:
        """Until all retained messages are here: a mark of our own comes after them, as brokers keep the order."""
        self.publish(self._mark, b"")
        self.wait(self._marked.is_set, SETTLE_S)
        while time.monotonic() - self._last < QUIET_S:
            self.wait(lambda: False, QUIET_S)

    def _mark_arrived(self, _: Message) -> None:
        with self._changed:
            self._marked.set()
            self._changed.notify_all()

    def _arrived(self, message: Message) -> None:
        try:
            owner, levels = Topics.parse(self.prefix, message.topic)
        except WireError:
            return
        for listener in self._listeners:
            listener(owner.device, levels, message.payload)
        with self._changed:
            if levels[0] == "up":
                self.devices.setdefault(owner.device, Device(owner.device)).take("/".join(levels[1:]), message.payload)
            else:
                self.desired[owner.device] = message.payload
            self._last = time.monotonic()
            self._changed.notify_all()
