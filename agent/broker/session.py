"""One connection: a paho client driven by hand, from CONNECT to its end."""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from agent.broker.events import Delivery, Down, Message, Up
from agent.clock import Clock
from agent.errors import ConfigError
from agent.settings import BrokerSettings

SESSION_S = 86_400
"""How long the broker keeps our subscriptions and what is addressed to us."""
CONNECT_S = 15.0
"""Seconds for the TCP connection and, again, for the broker's answers to CONNECT and SUBSCRIBE."""
FLYING = 16
"""QoS 1 messages of ours in flight at most."""
CLOSED = "the broker closed the connection"
READ_BYTES = 65_536


@dataclass(slots=True)
class Outgoing:
    """A publish on its way."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    bulk: bool
    done: Future[Delivery]
    size: int
    """Bytes of the whole packet."""
    started_ns: int = 0
    before: int = 0
    """Bytes acknowledged in total when it was started."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What we ask of the broker."""

    client_id: str
    protocol: Literal[4, 5]
    filters: Sequence[str]
    will: tuple[str, bytes] | None
    """Topic and payload."""
    receive_maximum: int
    receive_bytes: int
    manual_ack: bool
    session_s: int = SESSION_S
    """0: the broker forgets us when the connection ends."""
    qos: Literal[0, 1] = 1
    """Of the subscriptions."""


class _Client(Client):
    """paho reads a packet's first bytes one by one, each with a system call, for which Python's lock is let go and
    fought for again. Here they come from what one call brought. (An override of a private method: where paho renames
    it, only that is lost.)"""

    unread = memoryview(b"")
    """What the last call brought and paho has not asked for yet."""

    def _sock_recv(self, bufsize: int) -> bytes:
        if not self.unread:
            if bufsize >= READ_BYTES:
                return super()._sock_recv(bufsize)
            self.unread = memoryview(super()._sock_recv(READ_BYTES))
        some, self.unread = self.unread[:bufsize], self.unread[bufsize:]
        return bytes(some)


class Session:
    """Everything paho does happens inside `step`, `send` and the like, in the caller's thread."""

    def __init__(
        self,
        settings: BrokerSettings,
        terms: Terms,
        *,
        conn: int,
        tls: ssl.SSLContext | None,
        clock: Clock,
        on_message: Callable[[Message], None],
        on_done: Callable[[Outgoing, Delivery], None],
    ) -> None:
        self._settings = settings
        self._terms = terms
        self.conn = conn
        self._clock = clock
        self._on_message = on_message
        self._on_done = on_done
        self._opened_ns = clock.mono_ns()
        self._sessions: tuple[bool, int, int] = (False, 0, 0)
        self.flying: dict[int, Outgoing] = {}
        """QoS 1 messages without an answer, by packet id."""
        self._answered = False
        self.up: Up | None = None
        self.down: Down | None = None
        self._client = self._make_client(tls)

    def _make_client(self, tls: ssl.SSLContext | None) -> _Client:
        terms, five = self._terms, self._terms.protocol == 5
        client = _Client(
            CallbackAPIVersion.VERSION2,
            terms.client_id,
            clean_session=None if five else terms.session_s == 0,
            protocol=MQTTProtocolVersion(terms.protocol),
            reconnect_on_failure=False,
            manual_ack=terms.manual_ack,
        )
        client.connect_timeout = CONNECT_S
        client.max_inflight_messages_set(0)
        if tls is not None:
            client.tls_set_context(tls)
        if self._settings.username:
            client.username_pw_set(self._settings.username, self._settings.password or None)
        if terms.will is not None:
            topic, payload = terms.will
            client.will_set(topic, payload, qos=1, retain=True, properties=self._will_properties() if five else None)
        client.on_socket_register_write = lambda *_: None  # so that paho leaves writing to `step` and `flush`
        client.on_connect = self._connected
        client.on_disconnect = self._disconnected
        client.on_subscribe = self._subscribed
        client.on_publish = self._published
        client.on_message = self._arrived
        return client

    def _will_properties(self) -> Properties:
        properties = Properties(PacketTypes.WILLMESSAGE)  # type: ignore[no-untyped-call]
        properties.WillDelayInterval = self._settings.will_delay_s
        return properties

    def open(self) -> None:
        """Connect the socket and send CONNECT; the answer comes in a `step`. Raises OSError."""
        settings = self._settings
        if self._terms.protocol == 5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = self._terms.session_s
            properties.ReceiveMaximum = self._terms.receive_maximum
            properties.MaximumPacketSize = self._terms.receive_bytes
            self._client.connect(
                settings.host,
                settings.port,
                settings.keepalive_s,
                clean_start=self._terms.session_s == 0,
                properties=properties,
            )
        else:
            self._client.connect(settings.host, settings.port, settings.keepalive_s)
        self._set_option(socket.TCP_NODELAY, 1)

    def _set_option(self, option: int, value: int) -> None:
        """Every receipt and acknowledgement is small and waited for: neither we (Nagle's algorithm) nor, for want of a
        quick acknowledgement of ours, the broker shall hold one back for 40 ms. Halves the time of a candidate."""
        sock = self._client.socket()
        if isinstance(sock, socket.socket):
            sock.setsockopt(socket.IPPROTO_TCP, option, value)

    def step(self, wake: socket.socket, timeout_s: float) -> None:
        """Wait until the broker or somebody at `wake` wants something, and do what there is to do."""
        sock = self._client.socket()
        if sock is None:
            self._end(CLOSED, dropped=True)
            return
        poll = select.poll()
        poll.register(wake, select.POLLIN)
        poll.register(sock, select.POLLIN | (select.POLLOUT if self._client.want_write() else 0))
        pending = isinstance(sock, ssl.SSLSocket) and sock.pending() > 0
        ready = dict(poll.poll(0 if pending else timeout_s * 1000))
        if wake.fileno() in ready:
            while len(wake.recv(4096)) == 4096:
                pass
        events = ready.get(sock.fileno(), 0)
        if pending or events & ~select.POLLOUT:
            self._check(self._client.loop_read())
            while self._client.unread and self.down is None:
                self._check(self._client.loop_read())
            self._set_option(socket.TCP_QUICKACK, 1)
        if events & select.POLLOUT:
            self._check(self._client.loop_write())
        self._check(self._client.loop_misc())
        if self.up is None and self._clock.mono_ns() - self._opened_ns > CONNECT_S * 1e9:
            self.abort(f"no answer from the broker in {CONNECT_S:.0f} s", mute=not self._answered)

    def send(self, item: Outgoing) -> None:
        """Hand a message to paho; QoS 0 is done when that took it."""
        item.started_ns = self._clock.mono_ns()
        info = self._client.publish(item.topic, item.payload, item.qos, item.retain)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._on_done(item, Delivery("lost", info.rc.name))
            self._check(info.rc)
        elif item.qos == 0:
            self._on_done(item, Delivery("accepted"))
        else:
            self.flying[info.mid] = item

    def ack(self, mid: int) -> None:
        self._check(self._client.ack(mid, 1))

    def flush(self) -> None:
        """Write what was sent and acknowledged, as far as the socket takes it: in as few segments as may be, or the
        broker would wake up for each."""
        if self.down is None and self._client.want_write():
            self._set_option(socket.TCP_CORK, 1)
            self._check(self._client.loop_write())
            self._set_option(socket.TCP_CORK, 0)

    def bye(self) -> None:
        """Disconnect in an orderly way: the broker forgets the will."""
        self._client.disconnect()
        while self._client.want_write() and self._client.socket() is not None:
            if self._client.loop_write() != MQTTErrorCode.MQTT_ERR_SUCCESS:
                break
        self._end("closed by us")

    def abort(self, reason: str, *, mute: bool = False) -> None:
        """Leave without a word."""
        sock = self._client.socket()
        if sock is not None:
            sock.close()
        self._end(reason, mute=mute)

    def _check(self, rc: MQTTErrorCode) -> None:
        if rc == MQTTErrorCode.MQTT_ERR_SUCCESS:
            return
        if rc == MQTTErrorCode.MQTT_ERR_KEEPALIVE:
            self._end("nothing heard from the broker within the keepalive")
        else:
            self._end(CLOSED, dropped=True)

    def _end(self, reason: str, *, code: int = 0, dropped: bool = False, mute: bool = False) -> None:
        """The first reason is the true one, what follows are its consequences."""
        if self.down is None:
            self.down = Down(reason, code, dropped, mute=mute or (dropped and not self._answered))
            for item in self.flying.values():
                self._on_done(item, Delivery("lost", reason))
            self.flying.clear()

    # paho's callbacks: they run inside step, send and bye

    def _connected(
        self, _client: Client, _userdata: object, flags: ConnectFlags, reason: ReasonCode, got: Properties | None
    ) -> None:
        self._answered = True
        if reason.is_failure:
            self._end(f"the broker refused the connection: {reason}", code=reason.value, dropped=True)
            return
        max_packet = min(self._settings.max_packet_bytes, getattr(got, "MaximumPacketSize", 2**28))
        flying = min(FLYING, getattr(got, "ReceiveMaximum", 2**16))
        self._sessions = (flags.session_present, max_packet, flying)
        if self._terms.filters:
            self._client.subscribe([(topic_filter, int(self._terms.qos)) for topic_filter in self._terms.filters])
        else:
            self._set_up(())

    def _subscribed(
        self, _client: Client, _userdata: object, _mid: int, reasons: list[ReasonCode], _got: Properties | None
    ) -> None:
        self._set_up(tuple(f for f, code in zip(self._terms.filters, reasons, strict=False) if code.is_failure))

    def _set_up(self, refused: tuple[str, ...]) -> None:
        session, max_packet, flying = self._sessions
        self.up = Up(self.conn, self._terms.protocol, session, max_packet, flying, refused)

    def _disconnected(
        self, _client: Client, _userdata: object, flags: DisconnectFlags, reason: ReasonCode, _got: Properties | None
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self._end(f"the broker ended the connection: {reason}", code=reason.value, dropped=True)
        elif reason.getName() == "Keep alive timeout":
            self._end("nothing heard from the broker within the keepalive")
        else:
            self._end(CLOSED, dropped=True)

    def _published(
        self, _client: Client, _userdata: object, mid: int, reason: ReasonCode, _got: Properties | None
    ) -> None:
        item = self.flying.pop(mid, None)
        if item is None:
            return
        if reason.is_failure:
            self._on_done(item, Delivery("refused", str(reason), reason.value))
        else:
            self._on_done(item, Delivery("accepted"))

    def _arrived(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""  # matches no subscription, so it only gets acknowledged
        self._on_message(Message(topic, bytes(message.payload), message.retain, message.mid, self.conn))


def tls_context(settings: BrokerSettings) -> ssl.SSLContext:
    """Certificates and protocol as configured; raises ConfigError naming the file that cannot be used."""
    wrong = f"broker.ca_file {settings.ca_file!r}"
    try:
        context = ssl.create_default_context(cafile=settings.ca_file or None)
        if settings.cert_file:
            wrong = f"broker.cert_file {settings.cert_file!r} with key_file {settings.key_file!r}"
            context.load_cert_chain(settings.cert_file, settings.key_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"{wrong}: {error}", remedy="give PEM files that belong together and can be read") from None
    if settings.alpn:
        context.set_alpn_protocols([settings.alpn])
    return context
