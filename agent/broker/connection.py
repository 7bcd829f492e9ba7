"""The owner thread: connects, keeps the connection up, and does for everybody what they queued."""

from __future__ import annotations

import contextlib
import logging
import random
import socket
import threading
import time
from collections import deque
from concurrent.futures import Future
from typing import Literal

from agent.broker.events import Delivery, Down, Handler, Listener, Message, Presence, Up
from agent.broker.session import SESSION_S, Outgoing, Session, Terms, tls_context
from agent.broker.throughput import WINDOW_PACKETS, Throughput
from agent.clock import Clock, rfc3339
from agent.errors import WireError
from agent.settings import BrokerSettings
from agent.wire import CHUNK_FLOOR, CHUNK_LIMIT, Status, packet_size

log = logging.getLogger(__name__)

RECEIVE_MAXIMUM = 16
RECEIVE_BYTES = 1_048_576
STABLE_ROUNDS = 20
"""Times `reconnect_min_s` that a connection must live before the back-off starts anew; where two clients have one id
none does."""
FIGHTS = 3
"""Short connections in a row that make another client with our id likely."""
UNSUPPORTED_PROTOCOL = 0x84
SESSION_TAKEN_OVER = 0x8E
DENIED = (0x85, 0x86, 0x87, 0x8A)
"""Client id, credentials or authorisation refused, banned: trying again soon is of no use."""


class Broker:
    """The connection of one client id, kept up until `close`."""

    def __init__(
        self,
        settings: BrokerSettings,
        client_id: str,
        clock: Clock,
        rng: random.Random,
        *,
        presence: Presence | None = None,
        receive_maximum: int = RECEIVE_MAXIMUM,
        receive_bytes: int = RECEIVE_BYTES,
        manual_ack: bool = False,
        session_s: int = SESSION_S,
        qos: Literal[0, 1] = 1,
        protocol: Literal[4, 5] | None = None,
    ) -> None:
        """With `manual_ack` a message counts as received when `ack` is called, not when its handler returns. The broker
        keeps subscriptions and messages for `session_s` after the connection ended; 0 suits who only asks something.
        `qos` of subscriptions: 0 spares a fleet's thousands of retained messages their acknowledgements.

        Raises ConfigError for certificates that cannot be used.
        """
        self.settings = settings
        self.client_id = client_id
        self._clock = clock
        self._rng = rng
        self._presence = presence
        self._limits = (receive_maximum, receive_bytes, manual_ack, session_s, qos)
        self._tls = tls_context(settings) if settings.tls else None
        self._newest: Literal[4, 5] = protocol or (4 if settings.protocol == "3.1.1" else 5)
        self._protocol = self._newest
        self._handlers: list[tuple[str, Handler]] = []
        self._listeners: list[Listener] = []
        self._lock = threading.Lock()
        self._queue: deque[Outgoing] = deque()
        self._acks: deque[tuple[int, int]] = deque()
        self._bulk_packets = self._bulk_bytes = 0
        self._waking: tuple[socket.socket, socket.socket] | None = None
        """What is written into the second interrupts the owner thread's wait on the first."""
        self._woken = False
        """Whether that was done since the owner thread last began to look at its queues."""
        self._stop = threading.Event()
        self._stop_by = 0.0
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"broker {client_id}", daemon=True)
        self._alerts: dict[str, str] = {}
        self._fights = 0
        """Connections in a row that the broker closed soon after they stood."""
        self._number = 0
        self._attempt = 0
        self.throughput = Throughput()
        self.link: Up | None = None
        """The connection that stands, if any."""
        self.problem = "not connected yet"
        """Why there is no connection, in one line; empty when there is one."""
        self.connections = 0
        self.handler_errors = 0
        if presence is not None:
            self.subscribe(presence.topic, self._on_own_status)

    def subscribe(self, topic_filter: str, handler: Handler) -> None:
        """Have messages handed to `handler`, in the owner thread: it only enqueues. Before `start` only."""
        self._handlers.append((topic_filter, handler))

    def watch(self, listener: Listener) -> None:
        """Be told of each connection and its end, in the owner thread. Before `start` only."""
        self._listeners.append(listener)

    def start(self) -> None:
        """Start to connect; returns at once."""
        self._waking = socket.socketpair()
        for end in self._waking:
            end.setblocking(False)
        self._thread.start()

    @property
    def connected(self) -> bool:
        return self._up.is_set()

    def wait_connected(self, timeout_s: float) -> bool:
        """Wait for a connection; False where none came in time."""
        return self._up.wait(timeout_s)

    @property
    def chunk(self) -> int:
        """Bytes of a chunk's packet: what the link carries in a quarter of the keepalive, within the limits."""
        return int(max(CHUNK_FLOOR, min(CHUNK_LIMIT, self.throughput.rate * self.settings.keepalive_s / 4)))

    def room(self, size: int) -> bool:
        """Whether a bulk packet of `size` bytes may be published now."""
        with self._lock:
            if self.link is None:
                return False
            if self._bulk_packets == 0:
                return True
            packets = min(WINDOW_PACKETS, self.link.flying - 1)  # one is kept for urgent messages
            return self._bulk_packets < packets and self._bulk_bytes + size <= self.throughput.window

    def publish(
        self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False, bulk: bool = False
    ) -> Future[Delivery]:
        """Hand a message over; the future tells what became of it, `lost` at once where there is no connection.

        QoS 0 counts as accepted when it is on its way. Futures complete in the owner thread: their callbacks only
        enqueue.
        """
        done: Future[Delivery] = Future()
        item = Outgoing(topic, payload, qos, retain, bulk, done, packet_size(topic, len(payload)))
        with self._lock:
            link = self.link
            if link is not None and item.size <= link.max_packet:
                self._queue.append(item)
                self._bulk_packets += bulk
                self._bulk_bytes += item.size * bulk
        if link is None:
            done.set_result(Delivery("lost", "no connection"))
        elif item.size > link.max_packet:
            done.set_result(Delivery("too large", f"{item.size} bytes and the broker takes {link.max_packet}"))
        else:
            self._wake()
        return done

    def ack(self, message: Message) -> None:
        """Tell the broker that a message is dealt with (`manual_ack` only)."""
        if message.mid:  # QoS 0 has none, and is not to be acknowledged
            self._acks.append((message.conn, message.mid))
            self._wake()

    def alert(self, subject: str, complaint: str | None) -> None:
        """Publish a complaint in the online status; None takes back what was said on this subject."""
        if complaint != self._alerts.get(subject):
            self._alerts.pop(subject, None)
            if complaint is not None:
                self._alerts[subject] = complaint
            self._say_online()

    def draining(self) -> None:
        """Publish that this client is about to leave."""
        self._say("draining")

    def close(self, timeout_s: float = 1.5) -> None:
        """Publish offline with the reason "stopped" and end; what was handed over before goes out first, in time."""
        if not self._thread.is_alive():
            return
        self.draining()
        self._say("offline", "stopped")
        self._stop_by = time.monotonic() + timeout_s
        self._stop.set()
        self._wake()
        self._thread.join(timeout_s + 1)

    def _say_online(self) -> None:
        self._say("online", "; ".join(list(self._alerts.values())) or None)

    def _say(self, state: Literal["online", "offline", "draining"], reason: str | None = None) -> None:
        if self._presence is not None and self.link is not None:
            self.publish(self._presence.topic, self._status(state, reason), retain=True)

    def _status(self, state: Literal["online", "offline", "draining"], reason: str | None) -> bytes:
        boot = self._presence.boot if self._presence else ""
        ts = rfc3339(self._clock.wall_ns())
        return Status(state=state, reason=reason, boot=boot, conn=self._number, ts=ts).encode()

    def _wake(self) -> None:
        """Have the owner thread look at its queues; call it when something was put there."""
        if self._waking is not None and not self._woken:
            self._woken = True
            with contextlib.suppress(OSError):  # full: the owner thread is awake anyway; closed: it is gone
                self._waking[1].send(b"\0")

    # From here on: the owner thread.

    def _run(self) -> None:
        read, write = self._waking or socket.socketpair()
        with read, write:
            while not self._stop.is_set():
                opened = time.monotonic()
                down = self._connect(read)
                stable = time.monotonic() - opened > STABLE_ROUNDS * self.settings.reconnect_min_s
                wait_s = self._pause_after(down, stable=stable)
                if not self._stop.is_set():
                    log.warning("broker away", extra={"reason": down.reason, "retry_s": round(wait_s, 1)})
                self._stop.wait(wait_s)

    def _connect(self, waking: socket.socket) -> Down:
        """One connection, from its first packet to its end."""
        if self._presence is not None:
            self._number = self._presence.count()
        session = Session(
            self.settings,
            self._terms(),
            conn=self.connections + 1,
            tls=self._tls,
            clock=self._clock,
            on_message=self._on_message,
            on_done=self._on_done,
        )
        try:
            session.open()
        except (OSError, ValueError) as error:
            return self._went_down(Down(f"{self.settings.host}:{self.settings.port}: {error}"))
        while session.down is None:
            session.step(waking, 0.5)
            self._woken = False
            if session.up is not None and self.link is None and session.down is None:
                self._came_up(session.up)
            self._work(session)
        return self._went_down(session.down)

    def _terms(self) -> Terms:
        will = None
        if self._presence is not None:
            will = (self._presence.topic, self._status("offline", "connection lost"))
        filters = tuple(dict.fromkeys(topic_filter for topic_filter, _ in self._handlers))
        return Terms(self.client_id, self._protocol, filters, will, *self._limits)

    def _came_up(self, up: Up) -> None:
        self.connections += 1
        self.problem = ""
        refused = ", ".join(up.refused)
        self.alert("subscriptions", f"the broker refuses {refused}; check its ACL" if refused else None)
        log.info("broker connected", extra={"protocol": up.protocol, "max_packet": up.max_packet})
        with self._lock:
            self.link = up
        self._say_online()
        self._up.set()
        self._tell(up)

    def _went_down(self, down: Down) -> Down:
        was_up, self.link = self.link is not None, None
        self._up.clear()
        with self._lock:
            queued = list(self._queue)
            self._queue.clear()
            if self._bulk_packets and was_up and not down.dropped:
                self.throughput.halve()
        for item in queued:
            self._on_done(item, Delivery("lost", down.reason))
        self.problem = down.reason
        self._tell(down)
        return down

    def _work(self, session: Session) -> None:
        """Acknowledge and send what is queued, within what the broker allows."""
        while self._acks:
            conn, mid = self._acks.popleft()
            if conn == session.conn and session.down is None:  # an older connection's are delivered again
                session.ack(mid)
        while self._queue and session.down is None and session.up and len(session.flying) < session.up.flying:
            item = self._queue.popleft()
            item.before = self.throughput.acknowledged
            session.send(item)
        session.flush()
        if self._stop.is_set() and session.down is None:
            done = not self._queue and not session.flying
            if done or session.up is None or time.monotonic() > self._stop_by:
                session.bye()

    def _on_done(self, item: Outgoing, delivery: Delivery) -> None:
        with self._lock:
            self._bulk_packets -= item.bulk
            self._bulk_bytes -= item.size * item.bulk
        if delivery.fate == "accepted" and item.bulk:
            self.throughput.learn(item.size, self._clock.mono_ns() - item.started_ns, item.before)
        item.done.set_result(delivery)

    def _on_message(self, message: Message) -> None:
        handlers = [handler for topic_filter, handler in self._handlers if matches(topic_filter, message.topic)]
        try:
            for handler in handlers:
                handler(message)
        except Exception:
            self.handler_errors += 1
            handlers = []
            log.exception("message dropped", extra={"topic": message.topic[:200]})
        if not handlers:  # nobody else will
            self.ack(message)

    def _on_own_status(self, message: Message) -> None:
        """A will of an earlier connection that was published late says offline while we are online: say it again."""
        try:
            status = Status.decode(message.payload)
        except WireError:
            return
        if not message.retain and status.state == "offline" and not self._stop.is_set():
            self._say_online()

    def _tell(self, event: Up | Down) -> None:
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:
                self.handler_errors += 1
                log.exception("connection event dropped")

    def _pause_after(self, down: Down, *, stable: bool) -> float:
        """Seconds until the next attempt, and in which protocol that is."""
        self._attempt = 1 if stable and down.code != SESSION_TAKEN_OVER else self._attempt + 1
        low, high = self.settings.reconnect_min_s, self.settings.reconnect_max_s
        if self._protocol == 5 and (down.code == UNSUPPORTED_PROTOCOL or down.mute):
            self._protocol = 4
            self._newest = 4 if down.code == UNSUPPORTED_PROTOCOL else 5
            return 0.0
        self._protocol = self._newest
        self._suspect_twin(down, stable=stable)
        if down.code in DENIED:
            self.problem = f"{down.reason}; check broker.username, the certificate and the broker's ACL"
            return high * self._rng.uniform(0.5, 1)
        return float(min(high, low * 2.0 ** min(self._attempt - 1, 30)) * self._rng.uniform(0.5, 1))

    def _suspect_twin(self, down: Down, *, stable: bool) -> None:
        """Two clients with one id throw each other out: MQTT 5 has a word for it, otherwise it is a guess."""
        if down.code == SESSION_TAKEN_OVER:
            self._fights = FIGHTS
        else:
            self._fights = self._fights + 1 if down.dropped and not stable and not down.mute else 0
        twin = f"the broker keeps closing the connection: another client may use the id {self.client_id}"
        self.alert("twin", twin if self._fights >= FIGHTS else None)
        if self._fights >= FIGHTS:
            self.problem = twin


def matches(topic_filter: str, topic: str) -> bool:
    """Whether a filter, shared (``$share/group/filter``) or not, takes a topic.

    paho's own function builds a tree for each call: with a fleet's thousands of retained messages that took seconds.
    """
    if topic_filter.startswith("$share/"):
        topic_filter = topic_filter.split("/", 2)[2]
    wanted, levels = topic_filter.split("/"), topic.split("/")
    if levels[0].startswith("$") and wanted[0] in ("+", "#"):
        return False
    if wanted[-1] == "#":
        wanted.pop()
        levels = levels[: len(wanted)]
    return len(wanted) == len(levels) and all(w in ("+", level) for w, level in zip(wanted, levels, strict=True))
