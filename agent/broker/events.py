"""What the broker's users see: messages, what became of a publish, connections coming and going."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from agent import durable

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Message:
    """A message that arrived."""

    topic: str
    payload: bytes
    retain: bool
    """Whether it was waiting for us at the broker; False for one that was just published."""
    mid: int
    """Packet id; 0 for QoS 0."""
    conn: int
    """Which of our connections brought it (see `Up.conn`)."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of a publish. Accepted means taken over by the broker, and nothing more."""

    fate: Literal["accepted", "refused", "too large", "lost"]
    reason: str = ""
    code: int = 0
    """MQTT 5 reason code of a refusal."""


@dataclass(frozen=True, slots=True)
class Up:
    """The connection stands and the broker answered every subscription."""

    conn: int
    """Counts this client's connections since its start."""
    protocol: Literal[4, 5]
    """MQTT 3.1.1 or MQTT 5."""
    session: bool
    """Whether the broker still knew us."""
    max_packet: int
    """Bytes of the largest packet: ours or what the broker announced."""
    flying: int
    """QoS 1 messages in flight at most."""
    refused: tuple[str, ...] = ()
    """Subscriptions that the broker refused."""


@dataclass(frozen=True, slots=True)
class Down:
    """The connection ended, or did not come about."""

    reason: str
    code: int = 0
    """MQTT 5 reason code where the broker gave one."""
    dropped: bool = False
    """Whether the other side closed it; otherwise we did, or nothing was heard for too long."""
    mute: bool = False
    """Whether there was no answer at all: some brokers meet a protocol that they do not know like that."""


@dataclass(frozen=True, slots=True)
class Presence:
    """Where and for which boot a client publishes its status; `count` gives each connection a higher number."""

    topic: str
    boot: str
    count: Callable[[], int]


Handler: TypeAlias = Callable[[Message], None]
Listener: TypeAlias = "Callable[[Up | Down], None]"


class ConnectionCounter:
    """A number that grows for ever, over restarts and power cuts; the disk is written once per `step` numbers."""

    def __init__(self, path: Path, step: int = 100) -> None:
        self._path = path
        self._step = step
        self._next = self._reserved = int((durable.load_state(path, 1) or {}).get("reserved", 0))

    def __call__(self) -> int:
        """The next number. Where the disk refuses it still counts, in memory."""
        if self._next >= self._reserved:
            self._reserved = self._next + self._step
            try:
                durable.save_state(self._path, 1, {"reserved": self._reserved})
            except OSError as error:
                log.warning("connection counter not written", extra={"error": str(error)})
        self._next += 1
        return self._next
