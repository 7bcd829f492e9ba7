"""From a device's spool over a real mosquitto into the data set: what is put arrives once, whatever happens between."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from agent.collector import image_path, listing, read_meta
from tests.fakes.items import a_picture_item
from tests.fakes.mosquitto import Mosquitto
from tests.integration.delivery import Collector, Device, broker_settings

pytestmark = pytest.mark.parametrize("protocol", [5, 4], ids=["mqtt5", "mqtt311"])


def test_what_the_spool_accepted_is_stored_byte_for_byte(tmp_path: Path, mosquitto: Mosquitto, protocol: int) -> None:
    small = [a_picture_item(number) for number in range(5)]
    large = [a_picture_item(100 + number, width=1024, height=768) for number in range(3)]
    broker = broker_settings(mosquitto.port)
    with (
        Collector(tmp_path / "store", broker, protocol=protocol) as collector,
        Device(tmp_path / "device", broker, protocol=protocol) as device,
    ):
        device.put(*small, *large)
        device.wait_delivered()
        rows = list(listing(collector.store))
    assert {row["cid"] for row in rows} == {item.cid for item in small + large}
    assert len(rows) == 8
    for item in small + large:
        stored = (collector.store / image_path(item.cid)).read_bytes()
        assert hashlib.sha256(stored).hexdigest() == item.sha256
        assert read_meta(collector.store, item.cid) == item.meta
    assert device.uplink.counters["uplink_parts"] > 8
