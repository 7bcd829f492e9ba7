"""The connection against a real mosquitto: protocols, will and status, limits, refusals, back-off."""

from __future__ import annotations

import queue
import random
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from agent.broker import Broker, ConnectionCounter, Delivery, Down, Message, Presence, Up
from agent.clock import SystemClock
from agent.settings import BrokerSettings
from agent.wire import Status
from tests.fakes.mosquitto import Mosquitto
from tests.fakes.proxy import Link
from tests.integration.conftest import StartMosquitto
from tests.integration.delivery import PATIENCE_S, broker_settings, wait_until

STATUS = "tk/v1/gate/up/status"


class Client(Broker):
    """A broker client that remembers what it saw."""

    def __init__(self, settings: BrokerSettings, name: str = "watcher", *filters: str, **options: Any) -> None:
        super().__init__(settings, name, SystemClock(), random.Random(3), **options)
        self.messages: queue.Queue[Message] = queue.Queue()
        self.ends: list[Down] = []
        self.ups: list[Up] = []
        for topic_filter in filters:
            self.subscribe(topic_filter, self.messages.put)
        self.watch(lambda event: self.ups.append(event) if isinstance(event, Up) else self.ends.append(event))

    def __enter__(self) -> Client:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def connect(self) -> Client:
        wait_until(lambda: self.connected and bool(self.ups), "connected")
        return self

    def status(self) -> Status:
        return Status.decode(self.messages.get(timeout=PATIENCE_S).payload)


def fate(future: Future[Delivery]) -> str:
    return future.result(PATIENCE_S).fate


@pytest.fixture(params=[5, 4], ids=["mqtt5", "mqtt311"])
def protocol(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def a_presence(folder: Path, boot: str = "boot-1") -> Presence:
    return Presence(STATUS, boot, ConnectionCounter(folder / "connections.json"))


def test_a_message_arrives_and_is_accepted(mosquitto: Mosquitto, protocol: int) -> None:
    settings = broker_settings(mosquitto.port)
    with Client(settings, "a", "x/#", protocol=protocol) as one, Client(settings, "b", protocol=protocol) as other:
        one.connect()
        assert fate(other.connect().publish("x/y", b"hello")) == "accepted"
        assert one.messages.get(timeout=PATIENCE_S).payload == b"hello"
        assert one.ups[0].protocol == protocol


def test_nothing_published_without_a_connection_is_sent_later(mosquitto: Mosquitto) -> None:
    settings = broker_settings(mosquitto.port)
    with Client(settings, "a", "x") as one, Client(settings, "b") as other:
        one.connect()
        silent = Client(settings, "c")
        assert fate(silent.publish("x", b"too early")) == "lost"
        silent.start()
        silent.connect()
        assert fate(other.connect().publish("x", b"in time")) == "accepted"
        assert one.messages.get(timeout=PATIENCE_S).payload == b"in time"
        silent.close()


@pytest.mark.parametrize("old", ["refuses", "hangs up"])
def test_a_broker_that_knows_only_mqtt_311_is_spoken_to_in_it(mosquitto: Mosquitto, old: Any) -> None:
    with Link(mosquitto.port, old=old) as link, Client(broker_settings(link.port)) as client:
        client.connect()
        assert client.ups[0].protocol == 4
        assert link.protocols[-2:] == [5, 4]


def test_status_is_online_then_draining_then_offline_stopped(
    mosquitto: Mosquitto, tmp_path: Path, protocol: int
) -> None:
    settings = broker_settings(mosquitto.port)
    with Client(settings, "watcher", STATUS) as watcher:
        watcher.connect()
        with Client(settings, "gate", presence=a_presence(tmp_path), protocol=protocol):
            online = watcher.status()
            assert (online.state, online.boot, online.conn) == ("online", "boot-1", 1)
        assert watcher.status().state == "draining"
        last = watcher.status()
        assert (last.state, last.reason, last.conn) == ("offline", "stopped", 1)


def test_the_broker_publishes_the_will_of_a_device_that_is_gone(
    mosquitto: Mosquitto, tmp_path: Path, protocol: int
) -> None:
    settings = broker_settings(mosquitto.port, will_delay_s=0)
    with Client(settings, "watcher", STATUS) as watcher, Link(mosquitto.port) as link:
        watcher.connect()
        through = broker_settings(link.port, will_delay_s=0, reconnect_min_s=60, reconnect_max_s=60)
        with Client(through, "gate", presence=a_presence(tmp_path), protocol=protocol) as device:
            device.connect()
            assert watcher.status().state == "online"
            link.cut()
            will = watcher.status()
            assert (will.state, will.reason, will.conn) == ("offline", "connection lost", 1)


def test_a_device_that_reads_of_its_own_end_says_that_it_is_online(mosquitto: Mosquitto, tmp_path: Path) -> None:
    settings = broker_settings(mosquitto.port)
    with (
        Client(settings, "watcher", STATUS) as watcher,
        Client(settings, "gate", presence=a_presence(tmp_path)) as device,
    ):
        watcher.connect()
        device.connect()
        late_will = Status(state="offline", boot="boot-0", conn=7, ts="2026-01-01T00:00:00.000Z")
        watcher.publish(STATUS, late_will.encode(), retain=True)
        seen = [watcher.status() for _ in range(2)]
        while seen[-1].state != "online" or seen[-2].state != "offline":
            seen.append(watcher.status())
        assert seen[-2].boot == "boot-0"
        assert seen[-1].boot == "boot-1"


def test_each_connection_has_a_higher_number_also_after_a_restart(mosquitto: Mosquitto, tmp_path: Path) -> None:
    settings = broker_settings(mosquitto.port)
    numbers = []
    with Client(settings, "watcher", STATUS) as watcher:
        watcher.connect()
        for _ in range(3):
            with Client(settings, "gate", presence=a_presence(tmp_path)) as device:
                device.connect()
                numbers.append(watcher.status().conn)
            assert [watcher.status().state, watcher.status().state] == ["draining", "offline"]
    assert numbers == sorted(set(numbers))


def test_it_comes_back_when_the_broker_does(mosquitto: Mosquitto, protocol: int) -> None:
    with Client(broker_settings(mosquitto.port), "a", "x", protocol=protocol) as client:
        client.connect()
        mosquitto.kill()
        wait_until(lambda: not client.connected, "disconnected")
        mosquitto.start()
        client.connect()
        assert fate(client.publish("x", b"again")) == "accepted"
        assert client.messages.get(timeout=PATIENCE_S).payload == b"again"
        assert client.connections == 2
        assert client.ends[0].dropped


def test_a_broker_that_falls_silent_is_left_within_two_keepalives(mosquitto: Mosquitto) -> None:
    with Client(broker_settings(mosquitto.port, keepalive_s=5, reconnect_max_s=0.5)) as client:
        client.connect()
        mosquitto.freeze()
        wait_until(lambda: bool(client.ends), "the silence is noticed")
        mosquitto.thaw()
        assert not client.ends[0].dropped
        client.connect()


def test_refused_credentials_are_reported_and_not_hammered(start_mosquitto: StartMosquitto, protocol: int) -> None:
    broker = start_mosquitto("allow_anonymous false")
    settings = broker_settings(broker.port, reconnect_max_s=30)
    with Client(settings, protocol=protocol) as client:
        wait_until(lambda: "check broker.username" in client.problem, "a problem")
        assert len(client.ends) == 1


def test_two_clients_with_one_id_back_off_and_say_so(
    mosquitto: Mosquitto, protocol: int, caplog: pytest.LogCaptureFixture
) -> None:
    settings = broker_settings(mosquitto.port, reconnect_min_s=0.1, reconnect_max_s=60)

    def waits() -> list[float]:
        return [record.retry_s for record in caplog.records if hasattr(record, "retry_s")]

    with Client(settings, "gate", protocol=protocol) as one, Client(settings, "gate", protocol=protocol) as other:
        wait_until(lambda: max(waits(), default=0) > 1, "the pauses between their fights grow")
        assert one.connections + other.connections <= 14
        assert any("another client may use the id gate" in client.problem for client in (one, other))


def test_a_packet_above_the_announced_limit_is_never_sent(start_mosquitto: StartMosquitto) -> None:
    broker = start_mosquitto("max_packet_size 70000")
    with Client(broker_settings(broker.port)) as client:
        assert fate(client.connect().publish("x", bytes(70_001))) == "too large"
        assert fate(client.publish("x", bytes(69_000))) == "accepted"
        assert client.connections == 1


def test_a_refused_publish_is_told_with_its_reason(start_mosquitto: StartMosquitto, tmp_path: Path) -> None:
    acl = tmp_path / "acl"
    acl.write_text("topic read #\ntopic write allowed/#\n")
    broker = start_mosquitto(f"acl_file {acl}")
    with Client(broker_settings(broker.port)) as client:
        done = client.connect().publish("forbidden", b"")
        assert (done.result(PATIENCE_S).fate, done.result().code) == ("refused", 0x87)
        assert fate(client.publish("allowed/x", b"")) == "accepted"


def test_urgent_messages_pass_a_full_window(mosquitto: Mosquitto) -> None:
    with (
        Link(mosquitto.port, bytes_per_s=50_000) as link,
        Client(broker_settings(link.port), "gate") as client,
        Client(broker_settings(mosquitto.port), "watcher", "status") as watcher,
    ):
        watcher.connect()
        client.connect()
        bulk: list[Future[Delivery]] = []
        while client.room(20_000):
            bulk.append(client.publish("bulk", bytes(20_000), bulk=True))
        assert 1 <= len(bulk) <= 8
        client.publish("status", b"urgent")
        assert watcher.messages.get(timeout=PATIENCE_S).payload == b"urgent"
        assert {fate(future) for future in bulk} == {"accepted"}
        assert client.room(20_000)


def test_what_was_handed_over_before_close_still_goes_out(mosquitto: Mosquitto) -> None:
    settings = broker_settings(mosquitto.port)
    with Client(settings, "watcher", "x") as watcher:
        watcher.connect()
        with Client(settings, "gate") as client:
            client.connect()
            futures = [client.publish("x", str(i).encode()) for i in range(50)]
        assert {fate(future) for future in futures} == {"accepted"}
        assert [int(watcher.messages.get(timeout=PATIENCE_S).payload) for _ in range(50)] == list(range(50))


def test_a_message_that_was_not_acknowledged_is_delivered_again(mosquitto: Mosquitto, protocol: int) -> None:
    settings = broker_settings(mosquitto.port)
    options: dict[str, Any] = {"manual_ack": True, "protocol": protocol}
    with Client(settings, "sender") as sender:
        with Client(settings, "taker", "x", **options) as taker:
            taker.connect()
            sender.connect().publish("x", b"one")
            taker.messages.get(timeout=PATIENCE_S)
        with Client(settings, "taker", "x", **options) as taker:
            again = taker.messages.get(timeout=PATIENCE_S)
            taker.ack(again)
            assert again.payload == b"one"
            assert taker.connect().ups[0].session


def _never(_: Message) -> None:
    raise RuntimeError("a handler with a mistake in it")


def test_a_mistake_in_a_handler_does_not_end_the_connection(
    mosquitto: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    client = Client(broker_settings(mosquitto.port), "a", "x")
    client.subscribe("x", _never)
    with client:
        client.connect().publish("x", b"1")
        client.publish("x", b"2")
        assert [client.messages.get(timeout=PATIENCE_S).payload for _ in range(2)] == [b"1", b"2"]
        wait_until(lambda: client.handler_errors == 2, "both are counted")
        assert client.connections == 1
    assert "message dropped" in caplog.text


@pytest.fixture(autouse=True)
def _no_thread_left() -> Iterator[None]:
    yield
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("broker")]
