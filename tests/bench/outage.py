"""Seven days without a network, then all at once: memory stays flat, the best goes first, commands get through.

``python -m tests.bench.outage --items 50000`` is the full size; a small one runs in the suite.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import queue
import random
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from agent.broker import Broker, Message
from agent.clock import SystemClock
from agent.collector import listing
from agent.settings import BrokerSettings, SpoolSettings
from tests.bench.delivery import Other, collect
from tests.fakes.clock import FakeClock
from tests.fakes.items import a_picture_item, variants
from tests.fakes.mosquitto import Mosquitto, free_port
from tests.integration.delivery import Device, broker_settings

WEEK_S = 7 * 86_400
WARM_UP = 0.1
"""Share of the items after which memory is measured for the first time: caches are filled by then."""


class OutageClock(FakeClock):
    """Runs like the real one, and can be pushed forward."""

    def __init__(self) -> None:
        super().__init__(wall_ns=0, mono_ns=0)

    def wall_ns(self) -> int:
        return time.time_ns() + self.wall

    def mono_ns(self) -> int:
        return time.monotonic_ns() + self.mono


@dataclass(frozen=True)
class Figures:
    items: int
    stored: int
    put_per_s: float
    drained_per_s: float
    growth_mb_collecting: float
    growth_mb_draining: float
    best_first: float
    """Of the tenth that arrived first, the share that is in the best tenth; every fourth claim goes to the oldest."""
    answers: int
    slowest_answer_s: float


class Operator(Broker):
    """Sends commands all the time and measures how long their answers take."""

    def __init__(self, settings: BrokerSettings) -> None:
        super().__init__(settings, "operator", SystemClock(), random.Random(2))
        self._answers: queue.Queue[float] = queue.Queue()
        self.waits: list[float] = []
        self.subscribe("tk/v1/gate-north/up/cmd/+", lambda _: self._answers.put(time.monotonic()))

    def ask(self) -> None:
        asked = time.monotonic()
        self.publish("tk/v1/gate-north/dn/cmd/1", b"{}")
        self.waits.append(self._answers.get(timeout=60) - asked)


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def outage(folder: Path, items: int) -> Figures:
    """Put `items` over seven days without a broker, then let broker and collector come back."""
    picture = a_picture_item(0, width=64, height=48)
    clock, rng = OutageClock(), random.Random(7)
    port = free_port()
    settings = broker_settings(port, reconnect_max_s=1.0)
    limits = SpoolSettings(max_bytes=4_000_000_000, max_items=2 * items, reserve_bytes=0)
    device = Device(folder / "device", settings, clock=clock, spool=limits, uplink={"receipt_timeout_s": 60})
    device.broker.subscribe("tk/v1/gate-north/dn/cmd/+", lambda message: _answer(device.broker, message))
    with device:
        started, warm = time.monotonic(), 0.0
        for number in range(items):
            if number == int(items * WARM_UP):
                warm = resident_mb()
            scored = picture.meta.model_copy(update={"score": rng.uniform(0.1, 10)})
            device.put(*variants(1, dataclasses.replace(picture, meta=scored), number))
            clock.advance(WEEK_S / items)
        put_s, collected = time.monotonic() - started, resident_mb()
        device.uplink.paused = True  # until there is somebody to receive
        mosquitto = Mosquitto(folder, port=port).start()
        with Other(collect, port, folder / "store"):
            device.uplink.paused = False
            drain_s, peak, operator = _drain(device, settings)
        mosquitto.stop()
    rows = list(listing(folder / "store"))
    best = {row["cid"] for row in sorted(rows, key=lambda row: -row["score"])[: items // 10]}
    return Figures(
        items=items,
        stored=len(rows),
        put_per_s=round(items / put_s, 1),
        drained_per_s=round(items / drain_s, 1),
        growth_mb_collecting=round(collected - warm, 1),
        growth_mb_draining=round(peak - collected, 1),
        best_first=round(sum(row["cid"] in best for row in rows[: items // 10]) / (items // 10), 2),
        answers=len(operator.waits),
        slowest_answer_s=round(max(operator.waits), 2),
    )


def _drain(device: Device, settings: BrokerSettings) -> tuple[float, float, Operator]:
    """Until the spool is empty; seconds, the most memory, and the operator with the waits."""
    started, peak, pause = time.monotonic(), 0.0, threading.Event()
    operator = Operator(settings)
    operator.start()
    assert operator.wait_connected(30)
    assert device.broker.wait_connected(30)
    while device.spool.stats().items:
        operator.ask()
        peak = max(peak, resident_mb())
        pause.wait(0.1)
    operator.close()
    return time.monotonic() - started, peak, operator


def _answer(broker: Broker, message: Message) -> None:
    broker.publish(f"tk/v1/gate-north/up/cmd/{message.topic.rpartition('/')[2]}", b"{}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--folder", type=Path, help="on the disk to use; default: the temporary folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        print(json.dumps(dataclasses.asdict(outage(Path(name), options.items)), indent=2))


if __name__ == "__main__":
    main()
