"""A device without a clock of its own: wall time may be anything, and jump by years at any moment."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from agent.records import Meta
from agent.service import Device
from agent.settings import load
from agent.spool import SpoolStats
from tests.fakes.clock import RunningClock
from tests.fakes.models import a_model, end2end
from tests.fakes.mosquitto import Mosquitto
from tests.integration.delivery import Collector, broker_settings, wait_until

YEAR_S = 365.25 * 86_400
WRONG = {"1970": 3600.0, "2026": 1_780_000_000.0, "2038": 2_147_483_640.0, "2100": 4_102_444_800.0}
"""Seconds since 1970; that of 2038 passes the end of 32 bits while the test runs."""


class Site:
    """A device that looks at a recording for ever and keeps half of its frames, at a rate that its limits allow."""

    def __init__(self, folder: Path, port: int) -> None:
        self.state, self.port = folder / "state", port
        (folder / "pictures").mkdir()
        rng = np.random.default_rng(1)
        for number in range(40):
            picture = rng.integers(40, 200, (48, 64, 3), dtype=np.uint8)
            cv2.imwrite(str(folder / f"pictures/{number:03}.jpg"), picture)
        (folder / "m.onnx").write_bytes(a_model(end2end([[10, 10, 30, 40, 0.4, 0]])))
        self._values: dict[str, Any] = {
            "device": {"id": "pole-1", "state_dir": str(self.state)},
            "broker": broker_settings(port).model_dump(),
            "cameras": {"gate": {"name": "gate", "source": str(folder / "pictures"), "fps": 25.0, "loop": True}},
            "model": {"path": str(folder / "m.onnx"), "threads": 1},
            "selection": {"budget": 0.5, "window_frames": 5, "window_s": 5.0, "shares": {"canary": 1.0},
                          "frames_per_day": 1_000_000, "bytes_per_day": 10**10, "labels_per_day": 1_000_000},
            "spool": {"max_age_s": 600.0, "reserve_bytes": 0},
            "uplink": {"start_spread_s": 0.0, "receipt_timeout_s": 0.5, "bytes_per_s": 1_000_000},
        }  # fmt: skip

    @contextmanager
    def running(self, clock: RunningClock) -> Iterator[Device]:
        with Device(load(Path("/dev/null"), command_line=self._values, environ={}), clock).running() as device:
            yield device


def spooled(device: Device) -> SpoolStats:
    return device.spool.stats()


def collect(device: Device, more: int) -> None:
    """Wait until so many more items have been accepted."""
    kept = device.health.counters["candidates"] + more
    wait_until(lambda: device.health.counters["candidates"] >= kept, f"{more} more candidates: {spooled(device)}")
    assert device.health.counters["candidates_refused"] == 0


def stored(store: Path) -> list[Meta]:
    """Metadata of all that arrived, in the order of capture."""
    texts = [path.read_text("utf-8") for path in (store / "meta").glob("*/*.json")]
    metas = [Meta.model_validate(json.loads(text)["meta"]) for text in texts]
    return sorted(metas, key=lambda meta: meta.mono_ns)


@pytest.mark.parametrize(
    ("first", "then"), [("1970", "2038"), ("2026", "1970"), ("2038", "2026"), ("2100", "1970"), ("1970", "2100")]
)
def test_whatever_the_clock_says_before_and_after_a_restart_nothing_is_lost(
    tmp_path: Path, mosquitto: Mosquitto, first: str, then: str
) -> None:
    site = Site(tmp_path, mosquitto.port)
    with site.running(RunningClock(WRONG[first])) as device:
        collect(device, 3)
    with site.running(RunningClock(WRONG[then])) as device:
        collect(device, 3)
        device.stop_watching()
        waiting = spooled(device)
        assert (waiting.evicted, waiting.quarantined) == ({}, 0)
        with Collector(tmp_path / "store", broker_settings(mosquitto.port)):
            wait_until(lambda: spooled(device).items == 0, f"all delivered: {spooled(device)}")
        assert spooled(device).evicted == {}
    metas = stored(tmp_path / "store")
    assert len(metas) == waiting.items >= 6
    stamps = [meta.ts_ns for meta in metas]
    assert stamps == sorted(set(stamps))
    assert not any(meta.clock_synced for meta in metas)
    assert (first if WRONG[first] > WRONG[then] else then)[:3] == metas[-1].ts[:3]


def test_a_clock_that_jumps_while_all_is_running_disturbs_nothing(tmp_path: Path, mosquitto: Mosquitto) -> None:
    site, clock = Site(tmp_path, mosquitto.port), RunningClock(WRONG["2026"])
    broker = broker_settings(mosquitto.port)
    with site.running(clock) as device, Collector(tmp_path / "store", broker) as collector:
        for years in (-56, 30, 80, -100, 56):
            clock.jump(years * YEAR_S)
            collect(device, 3)
            sent = len(collector.cids())
            wait_until(lambda sent=sent: len(collector.cids()) > sent, "uploads go on")  # type: ignore[misc]
        device.stop_watching()
        wait_until(lambda: spooled(device).items == 0, f"all delivered: {spooled(device)}")
        assert (spooled(device).evicted, spooled(device).quarantined) == ({}, 0)
        kept = device.health.counters["candidates"]
        assert device.broker.connections == 1
        assert device.operations.stats().ts[:2] in ("20", "21")
    metas = stored(tmp_path / "store")
    assert len(metas) == kept
    stamps = [meta.ts_ns for meta in metas]
    assert stamps == sorted(set(stamps))
    assert not any(meta.clock_synced for meta in metas)


def test_a_clock_set_between_put_and_upload_changes_no_record(tmp_path: Path, mosquitto: Mosquitto) -> None:
    site, clock = Site(tmp_path, mosquitto.port), RunningClock(WRONG["1970"])
    with site.running(clock) as device:
        collect(device, 3)
        device.stop_watching()
        items = spooled(device).items
        clock.jump(datetime(2039, 1, 1, tzinfo=timezone.utc).timestamp())
        with Collector(tmp_path / "store", broker_settings(mosquitto.port)):
            wait_until(lambda: spooled(device).items == 0, f"all delivered: {spooled(device)}")
    metas = stored(tmp_path / "store")
    assert len(metas) == items
    assert {meta.ts[:4] for meta in metas} == {"1970"}
