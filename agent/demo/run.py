"""The whole product in one command: an embedded broker, the collector and the agent, on loopback, for a minute."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.clock import SystemClock
from agent.collector import CollectorService, listing
from agent.collector.sheet import contact_sheet
from agent.demo.broker import embedded_broker
from agent.errors import ConfigError
from agent.service import Device
from agent.settings import Loaded, load
from agent.world import MODEL, STREET

DEMO_CONFIG = Path(__file__).with_name("demo.toml")
DEMO_SOURCE = f"world:{STREET}"
READY_S = 10.0
"""How long the collector may take to subscribe."""
DRAIN_S = 30.0
"""How long the uplink may take, after the last frame, to deliver what is in the spool."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a demo did; `out` holds the data set, the contact sheet and the agent's state."""

    frames: int
    fps: float
    candidates: int
    stored: int
    lanes: dict[str, int]
    bytes: int
    skipped: int
    """Pictures that could not be decoded."""
    out: Path
    sheet: Path | None

    def text(self) -> str:
        """For a person."""
        lanes = ", ".join(f"{lane} {n}" for lane, n in sorted(self.lanes.items())) or "none"
        lines = [
            f"frames {self.frames} ({self.fps} a second)",
            f"candidates {self.candidates}",
            f"stored {self.stored}",
            f"lanes {lanes}",
            f"bytes {self.bytes}",
            f"data set {self.out / 'dataset'}",
        ]
        return "\n".join(lines + ([f"contact sheet {self.sheet}"] if self.sheet else []))


def run_demo(
    *,
    source: str = "",
    model: Path | None = None,
    seconds: float = 60.0,
    out: Path,
    port: int = 0,
    stop: threading.Event,
    progress: Callable[[str], None] = lambda _: None,
) -> Summary:
    """Run broker, collector and agent until `seconds` have passed, the source has ended or `stop` is set.

    `out` must be empty or not there yet. Raises ConfigError, ModelError or CameraError for wrong input.
    """
    _claim_folder(out)
    with embedded_broker(out / "broker", port) as broker:
        loaded = _configuration(source or DEMO_SOURCE, model or MODEL, out, broker)
        started = time.monotonic()
        device = _run_until_done(loaded, seconds, stop, progress)
        elapsed = time.monotonic() - started
    return _summary(device, loaded.settings.collector.store or out, out, elapsed)


def _claim_folder(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out}: not an empty folder", remedy="name another one with --out, or empty it")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{out}: {error.strerror}", remedy="name a folder that you may write to with --out") from None


def _configuration(source: str, model: Path, out: Path, broker: Mapping[str, Any]) -> Loaded:
    """The shipped demo configuration with what the command line said."""
    camera = {"name": "demo", "source": source, "fps": 0.0}
    return load(
        DEMO_CONFIG,
        environ={},
        command_line={
            "device": {"state_dir": str(out / "device")},
            "broker": broker,
            "cameras": {"demo": camera},
            "model": {"path": str(model)},
            "collector": {"store": str(out / "dataset")},
        },
    )


def _run_until_done(loaded: Loaded, seconds: float, stop: threading.Event, progress: Callable[[str], None]) -> Device:
    """Agent and collector in threads of their own; this one watches the time and tells how it goes."""
    clock = SystemClock()
    device = Device(loaded, clock)
    collector = CollectorService(loaded.settings, clock)
    collector_stop = threading.Event()
    collecting = threading.Thread(target=collector.run, args=(collector_stop,), name="collector")
    collecting.start()
    collector.ready.wait(READY_S)  # brokers drop what nobody has subscribed to yet, and it would have to be sent again
    try:
        with device.running():
            _collect(device, time.monotonic() + seconds, stop, progress)
            device.stop_watching()
            _drain(device, stop, progress)
    finally:
        collector_stop.set()
        collecting.join()
    return device


def _collect(device: Device, deadline: float, stop: threading.Event, progress: Callable[[str], None]) -> None:
    """Until the time is up, the recording has ended, or somebody wants to stop."""
    while time.monotonic() < deadline and not (device.ended or device.failure or stop.wait(0.25)):
        counters = device.health.counters
        left = max(0.0, deadline - time.monotonic())
        progress(f"{counters['frames']} frames, {counters['candidates']} candidates, {left:.0f} s left")


def _drain(device: Device, stop: threading.Event, progress: Callable[[str], None]) -> None:
    """Until the collector has confirmed everything."""
    deadline = time.monotonic() + DRAIN_S
    while (left := device.spool.stats().items) and time.monotonic() < deadline and not device.failure:
        progress(f"{left} candidates on their way")
        if stop.wait(0.05):
            return


def _summary(device: Device, store: Path, out: Path, elapsed_s: float) -> Summary:
    counters = device.health.counters
    rows = list(listing(store))
    sheet = out / "contact_sheet.jpg"
    return Summary(
        frames=counters["frames"],
        fps=round(counters["frames"] / elapsed_s, 2),
        candidates=counters["candidates"],
        stored=len(rows),
        lanes=dict(Counter(str(row["lane"]) for row in rows)),
        bytes=sum(int(row["bytes"]) for row in rows),
        skipped=sum(health.skipped for health in device.cameras.health().values()) if device.cameras else 0,
        out=out,
        sheet=sheet if contact_sheet(store, rows, sheet) else None,
    )
