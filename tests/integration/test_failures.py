"""The failure table of the protocol, a test per row, against a real mosquitto in MQTT 5 and in 3.1.1.

The remaining rows: a retained command delivered again (test_control), the same client id twice and silence
(test_broker), killed processes (tests/crash).
"""

from __future__ import annotations

import queue
import random
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.broker import Broker, Message
from agent.clock import SystemClock
from agent.collector import listing
from agent.records import Item
from agent.settings import BrokerSettings
from agent.wire import (
    Ack,
    Query,
    Receipt,
    Status,
    Topics,
    decode_candidate,
    encode_candidate,
    encode_item,
    encode_part,
    split,
)
from tests.fakes.clock import RunningClock
from tests.fakes.items import a_picture_item
from tests.fakes.mosquitto import Mosquitto
from tests.fakes.proxy import Link
from tests.integration.conftest import StartMosquitto
from tests.integration.delivery import PATIENCE_S, Collector, Device, broker_settings, wait_until

TOPICS = Topics("tk/v1", "gate-north")


@pytest.fixture(params=[5, 4], ids=["mqtt5", "mqtt311"])
def protocol(request: pytest.FixtureRequest) -> int:
    return int(request.param)


class Bystander(Broker):
    """Somebody else at the broker: sees messages of one topic, says whatever a test wants said."""

    def __init__(self, settings: BrokerSettings, topic_filter: str) -> None:
        super().__init__(settings, "bystander", SystemClock(), random.Random(5))
        self.messages: queue.Queue[Message] = queue.Queue()
        self.subscribe(topic_filter, self.messages.put)

    def __enter__(self) -> Bystander:
        self.start()
        assert self.wait_connected(PATIENCE_S)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def next(self) -> bytes:
        return self.messages.get(timeout=PATIENCE_S).payload

    def next_ack(self) -> Ack:
        return Receipt.decode(self.next()).acks[0]


def test_a_broker_that_dies_with_its_queue_loses_nothing(tmp_path: Path, mosquitto: Mosquitto, protocol: int) -> None:
    items = [a_picture_item(number) for number in range(6)]
    broker = broker_settings(mosquitto.port)
    with Collector(tmp_path / "store", broker, protocol=protocol):
        pass  # its session stays at the broker, which queues for it
    with Device(tmp_path / "device", broker, protocol=protocol) as device:
        device.put(*items)
        wait_until(lambda: device.spool.stats().sent > 0, "the broker accepted something")
        mosquitto.kill()
        mosquitto.start()
        with Collector(tmp_path / "store", broker, protocol=protocol) as collector:
            device.wait_delivered()
            assert sorted(collector.cids()) == sorted(item.cid for item in items)


def test_while_the_collector_is_away_a_few_are_sent_and_the_rest_waits(
    tmp_path: Path, mosquitto: Mosquitto, protocol: int
) -> None:
    items = [a_picture_item(number) for number in range(10)]
    broker = broker_settings(mosquitto.port)
    with (
        Bystander(broker, TOPICS.query) as bystander,
        Device(tmp_path / "device", broker, protocol=protocol, uplink={"receipt_timeout_s": 0.3}) as device,
    ):
        device.put(*items)
        assert Query.decode(bystander.next()).cids
        assert device.uplink.counters["uplink_sent"] == 4
        assert device.spool.stats().items == 10
        with Collector(tmp_path / "store", broker, protocol=protocol) as collector:
            device.wait_delivered()
            assert sorted(collector.cids()) == sorted(item.cid for item in items)


def test_a_lost_receipt_is_healed_by_asking(start_mosquitto: StartMosquitto, tmp_path: Path, protocol: int) -> None:
    acl = tmp_path / "acl"
    acl.write_text("topic readwrite #\ntopic deny tk/v1/gate-north/dn/ack\n")
    mosquitto = start_mosquitto(f"acl_file {acl}")
    broker = broker_settings(mosquitto.port)
    with (
        Collector(tmp_path / "store", broker, protocol=protocol) as collector,
        Device(tmp_path / "device", broker, protocol=protocol) as device,
    ):
        device.put(a_picture_item())
        wait_until(lambda: collector.cids() != [], "stored, and the receipt dropped by the broker")
        acl.write_text("topic readwrite #\n")
        mosquitto.signal(signal.SIGHUP)
        device.wait_delivered()
        assert device.uplink.counters["uplink_parts"] == 1
        assert device.uplink.counters["uplink_stored"] == 1


def test_what_is_sent_again_is_a_duplicate(tmp_path: Path, mosquitto: Mosquitto, protocol: int) -> None:
    item = a_picture_item()
    broker = broker_settings(mosquitto.port)
    with Collector(tmp_path / "store", broker, protocol=protocol) as collector, Bystander(broker, TOPICS.ack) as device:
        device.publish(TOPICS.candidate, encode_item(item))
        assert device.next_ack() == Ack(cid=item.cid, st="stored")
        device.publish(TOPICS.candidate, encode_item(item))
        assert device.next_ack() == Ack(cid=item.cid, st="duplicate")
        assert collector.cids() == [item.cid]


def test_a_candidate_sent_with_qos_0_is_taken_as_well(tmp_path: Path, mosquitto: Mosquitto, protocol: int) -> None:
    item = a_picture_item()
    broker = broker_settings(mosquitto.port)
    with Collector(tmp_path / "store", broker, protocol=protocol) as collector, Bystander(broker, TOPICS.ack) as device:
        device.publish(TOPICS.candidate, encode_item(item), qos=0)
        assert device.next_ack().st == "stored"
        device.publish(TOPICS.candidate, encode_item(item))
        assert device.next_ack().st == "duplicate"
        assert collector.service.broker.connections == 1


def test_parts_staged_before_the_device_died_do_no_harm(tmp_path: Path, mosquitto: Mosquitto, protocol: int) -> None:
    item = a_picture_item(width=1024, height=768)
    broker = broker_settings(mosquitto.port)
    with Collector(tmp_path / "store", broker, protocol=protocol) as collector:
        with Bystander(broker, TOPICS.ack) as earlier_life:
            for part in split(item, TOPICS.candidate, 126_000, 20_000)[:4]:
                earlier_life.publish(TOPICS.candidate, encode_part(item, part))
        with Device(tmp_path / "device", broker, protocol=protocol) as device:
            device.put(item)
            device.wait_delivered()
        assert collector.cids() == [item.cid]
        assert device.uplink.counters["uplink_quarantined"] == 0


def test_two_collectors_that_get_every_chunk_keep_one_copy(tmp_path: Path, mosquitto: Mosquitto, protocol: int) -> None:
    items = [a_picture_item(number, width=640, height=480) for number in range(8)]
    broker = broker_settings(mosquitto.port)
    shared: dict[str, Any] = {"staging": str(tmp_path / "staging.sqlite"), "protocol": protocol}
    with (
        Collector(tmp_path / "one", broker, client_id="one", **shared) as one,
        Collector(tmp_path / "two", broker, client_id="two", **shared) as two,
        Device(tmp_path / "device", broker, protocol=protocol) as device,
    ):
        device.put(*items)
        device.wait_delivered()
    assert sorted(one.cids() + two.cids()) == sorted(item.cid for item in items)
    images = [path.stem for store in (one.store, two.store) for path in store.glob("images/*/*.jpg")]
    assert sorted(images) == sorted(item.cid for item in items)


def test_collectors_of_a_group_share_the_chunks_of_an_image(
    tmp_path: Path, mosquitto: Mosquitto, protocol: int
) -> None:
    items = [a_picture_item(number, width=1024, height=768) for number in range(4)]
    broker = broker_settings(mosquitto.port)
    shared: dict[str, Any] = {"staging": str(tmp_path / "staging.sqlite"), "share_group": "g", "protocol": protocol}
    with (
        Collector(tmp_path / "one", broker, client_id="one", **shared) as one,
        Collector(tmp_path / "two", broker, client_id="two", **shared) as two,
        Device(tmp_path / "device", broker, protocol=protocol) as device,
    ):
        device.put(*items)
        device.wait_delivered()
    assert sorted(one.cids() + two.cids()) == sorted(item.cid for item in items)


def test_an_image_that_keeps_arriving_damaged_is_rejected_the_third_time(
    tmp_path: Path, mosquitto: Mosquitto, protocol: int
) -> None:
    item = a_picture_item()
    header, body = decode_candidate(encode_item(item))
    damaged = encode_candidate(header, bytes(body[:-9]) + b"damaged\xff\xd9")
    broker = broker_settings(mosquitto.port)
    with Collector(tmp_path / "store", broker, protocol=protocol), Bystander(broker, TOPICS.ack) as device:
        answers = []
        for _ in range(3):
            device.publish(TOPICS.candidate, damaged)
            answers.append(device.next_ack())
        device.publish(TOPICS.candidate, encode_item(item))
        answers.append(device.next_ack())
    assert [answer.st for answer in answers] == ["partial", "partial", "rejected", "stored"]
    assert answers[0].missing == (0,)


def test_a_damaged_chunk_makes_the_device_send_all_of_it_again(
    tmp_path: Path, mosquitto: Mosquitto, protocol: int
) -> None:
    """The damage is done by somebody who replaces a chunk on its way: here, before it is sent."""
    item = a_picture_item(width=1024, height=768)
    broker = broker_settings(mosquitto.port)
    with Collector(tmp_path / "store", broker, protocol=protocol) as collector:
        with Bystander(broker, TOPICS.ack) as device:
            parts = split(item, TOPICS.candidate, 126_000, 64_000)
            for part in parts:
                header, body = decode_candidate(encode_part(item, part))
                device.publish(TOPICS.candidate, encode_candidate(header, bytes(len(body)) if part.i == 1 else body))
            answer = device.next_ack()
            assert (answer.st, answer.missing) == ("partial", tuple(range(len(parts))))
            for part in parts:
                device.publish(TOPICS.candidate, encode_part(item, part))
            assert device.next_ack().st == "stored"
        assert collector.cids() == [item.cid]


def test_everything_arrives_through_a_broker_that_takes_70000_bytes(
    tmp_path: Path, start_mosquitto: StartMosquitto, protocol: int
) -> None:
    mosquitto = start_mosquitto("max_packet_size 70000")
    broker = broker_settings(mosquitto.port)
    items = [a_picture_item(1), *(a_picture_item(2 + number, width=640, height=400) for number in range(3))]
    assert 70_000 < len(items[-1].image) < 126_000
    with (
        Collector(tmp_path / "store", broker, protocol=protocol) as collector,
        Device(tmp_path / "device", broker, protocol=protocol) as device,
    ):
        device.put(*items)
        device.wait_delivered()
        assert sorted(collector.cids()) == sorted(item.cid for item in items)
        if protocol == 5:
            assert device.broker.connections == 1


def test_what_no_chunk_is_small_enough_for_goes_to_quarantine_and_the_rest_arrives(
    tmp_path: Path, start_mosquitto: StartMosquitto, protocol: int
) -> None:
    mosquitto = start_mosquitto("max_packet_size 5000")
    broker = broker_settings(mosquitto.port, max_packet_bytes=8192)
    wide = a_picture_item(1).meta
    wide = wide.model_copy(update={"reasons": tuple("x" * 100 for _ in range(60))})
    good, poison = a_picture_item(0, width=64, height=64), a_picture_item(1)
    poison = Item(poison.cid, poison.image, poison.sha256, wide)
    with (
        Collector(tmp_path / "store", broker, protocol=protocol) as collector,
        Device(tmp_path / "device", broker, protocol=protocol) as device,
    ):
        device.put(poison)
        wait_until(lambda: device.spool.stats().quarantined == 1, "quarantined")
        device.put(good)
        device.wait_delivered()
        assert collector.cids() == [good.cid]
        connections = device.broker.connections
        assert connections <= 8
        device.broker.wait_connected(PATIENCE_S)
        assert device.broker.connections == connections


def test_uploads_that_the_acl_drops_show_in_status(
    tmp_path: Path, start_mosquitto: StartMosquitto, protocol: int
) -> None:
    acl = tmp_path / "acl"
    acl.write_text("topic readwrite #\ntopic deny tk/v1/gate-north/up/c\n")
    mosquitto = start_mosquitto(f"acl_file {acl}")
    broker = broker_settings(mosquitto.port)
    with (
        Collector(tmp_path / "store", broker, protocol=protocol),
        Bystander(broker, TOPICS.status) as bystander,
        Device(tmp_path / "device", broker, protocol=protocol, uplink={"receipt_timeout_s": 0.2}) as device,
    ):
        device.put(a_picture_item())
        while not (reason := Status.decode(bystander.next()).reason):
            pass
        assert "ACL" in reason
        assert device.spool.stats().items == 1
        acl.write_text("topic readwrite #\n")
        mosquitto.signal(signal.SIGHUP)
        device.uplink.flush()
        device.wait_delivered()
        while Status.decode(bystander.next()).reason:
            pass


def test_a_wrong_clock_delays_nothing(tmp_path: Path, mosquitto: Mosquitto, protocol: int) -> None:
    clock = RunningClock(3600)  # an hour into 1970
    item = a_picture_item()
    early = item.meta.model_copy(update={"ts": "1970-01-01T01:00:00.000Z", "clock_synced": False})
    broker = broker_settings(mosquitto.port)
    with (
        Collector(tmp_path / "store", broker, protocol=protocol) as collector,
        Device(tmp_path / "device", broker, protocol=protocol, clock=clock) as device,
    ):
        device.put(Item(item.cid, item.image, item.sha256, early))
        device.wait_delivered()
        clock.jump(1_700_000_000)
        device.put(a_picture_item(2))
        device.wait_delivered()
        rows = list(listing(collector.store))
    assert rows[0]["ts"].startswith("1970")
    assert rows[0]["received"] > "2020"
    assert len(rows) == 2


def test_a_slow_link_makes_progress_without_losing_its_connection(
    tmp_path: Path, mosquitto: Mosquitto, protocol: int
) -> None:
    item = a_picture_item(width=640, height=400)
    with Link(mosquitto.port, bytes_per_s=16_000) as link:
        slow = broker_settings(link.port, keepalive_s=5)
        with (
            Collector(tmp_path / "store", broker_settings(mosquitto.port), protocol=protocol) as collector,
            Device(tmp_path / "device", slow, protocol=protocol, uplink={"receipt_timeout_s": 20}) as device,
        ):
            device.put(item)
            device.wait_delivered()
            assert collector.cids() == [item.cid]
            assert device.broker.connections == 1
            assert device.uplink.counters["uplink_parts"] > 1


def test_an_upload_goes_on_where_a_broken_link_stopped_it(tmp_path: Path, mosquitto: Mosquitto, protocol: int) -> None:
    item = a_picture_item(width=1024, height=768)
    with (
        Link(mosquitto.port, bytes_per_s=200_000) as link,
        Collector(tmp_path / "store", broker_settings(mosquitto.port), protocol=protocol) as collector,
        Device(tmp_path / "device", broker_settings(link.port), protocol=protocol) as device,
    ):
        device.put(item)
        wait_until(lambda: device.broker.throughput.acknowledged > 60_000, "a part is with the broker")
        link.cut()
        device.wait_delivered()
        assert collector.cids() == [item.cid]
        assert device.uplink.counters["uplink_bytes"] < 2 * len(item.image)


def test_hostile_candidates_are_rejected_and_cost_nothing(tmp_path: Path, mosquitto: Mosquitto, protocol: int) -> None:
    item = a_picture_item()
    header, body = decode_candidate(encode_item(item))
    other_cid = header.model_copy(update={"cid": "0" * 32})
    bomb_meta = item.meta.model_copy(update={"image": item.meta.image.model_copy(update={"w": 65_535, "h": 65_535})})
    broker = broker_settings(mosquitto.port)
    with (
        Collector(tmp_path / "store", broker, protocol=protocol) as collector,
        Bystander(broker, "+/+/+/dn/ack") as peer,
    ):
        for topic, payload in (
            (TOPICS.candidate, encode_candidate(other_cid, body)),
            (Topics("tk/v1", "other").candidate, encode_item(item)),
            (TOPICS.candidate, encode_candidate(header.model_copy(update={"size": 2**30, "n": 200}), body)),
            (TOPICS.candidate, encode_candidate(header.model_copy(update={"meta": bomb_meta}), body)),
        ):
            peer.publish(topic, payload)
            assert peer.next_ack().st == "rejected"
        assert collector.cids() == []
        assert not [path for path in collector.store.rglob("*") if path.suffix in {".jpg", ".json"}]


def test_the_state_of_another_devices_candidate_is_unknown(tmp_path: Path, mosquitto: Mosquitto, protocol: int) -> None:
    item = a_picture_item()
    other = Topics("tk/v1", "other")
    broker = broker_settings(mosquitto.port)
    with Collector(tmp_path / "store", broker, protocol=protocol), Bystander(broker, "+/+/+/dn/ack") as peer:
        peer.publish(TOPICS.candidate, encode_item(item))
        assert peer.next_ack().st == "stored"
        for topics, answer in ((TOPICS, "stored"), (other, "unknown")):
            peer.publish(topics.query, Query(cids=(item.cid,)).encode())
            assert peer.next_ack().st == answer


@pytest.fixture(autouse=True)
def _no_thread_left() -> Iterator[None]:
    yield
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith(("broker", "uplink", "link", "collector"))]
