"""Soak: device and collector as processes, while cameras, broker, collector and configuration are troubled.

    python -m tests.bench.soak --minutes 30 --seed 1

A year on a pole, accelerated: every few seconds something happens (see `EVENTS`). Afterwards nothing may be lost, and
memory, file descriptors and threads may not have grown. Prints JSON; exits 1 where a promise is broken.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from agent import spool, wire
from agent.broker import Broker
from agent.clock import SystemClock
from agent.settings import BrokerSettings
from tests.fakes.mjpeg import MjpegCamera, Mode, a_network_camera
from tests.fakes.mosquitto import Mosquitto

REPOSITORY = Path(__file__).parents[2]
DEVICE = "soak-1"
SAMPLE_S = 5.0
FAULT_S = 4.0
DRAIN_S = 180.0
SLOPE_LIMIT = 2.0
"""MB of resident memory per hour after warm-up."""
FAULTS: tuple[Mode, ...] = ("freeze", "stall", "close", "garbage", "refuse", "blink")


@dataclass
class Sample:
    """One look at the device's process."""

    t: float
    rss_mb: float
    descriptors: int
    threads: int


@dataclass
class Soak:
    """The set-up, and what was seen."""

    folder: Path
    mosquitto: Mosquitto
    camera: MjpegCamera
    rng: random.Random
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    """Every candidate that was ever in the spool."""
    events: dict[str, int] = field(default_factory=dict)
    version: int = 0

    def start(self, name: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            command = [sys.executable, "-m", "agent", name, "--config", str(self.folder / "agent.toml")]
            environment = {**os.environ, "MALLOC_ARENA_MAX": "2"}  # as the unit has it
            self.processes[name] = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stderr=log)

    def configure(self) -> None:
        (self.folder / "agent.toml").write_text(
            f'[device]\nid = "{DEVICE}"\nstate_dir = "{self.folder}/state"\n'
            f'[broker]\nhost = "127.0.0.1"\nport = {self.mosquitto.port}\ntls = false\nreconnect_max_s = 2.0\n'
            '[[cameras]]\nname = "street"\nsource = "world:street?seed=1"\nfps = 2.0\n'
            f'[[cameras]]\nname = "net"\nsource = "{self.camera.url}"\nfps = 2.0\ntimeout_s = 1.0\n'
            f'[model]\npath = "{REPOSITORY}/agent/world/model"\nthreads = 1\n'
            f"[selection]\nbudget = {self.rng.choice((0.1, 0.2, 0.3))}\nwindow_frames = 20\n"
            "frames_per_day = 0\nbytes_per_day = 0\nlabels_per_day = 0\n"
            "[uplink]\nstart_spread_s = 0.5\nreceipt_timeout_s = 5.0\n"
            f'[collector]\nstore = "{self.folder}/store"\n',
            "utf-8",
        )

    def watch(self) -> None:
        """Take a sample, and note what is in the spool."""
        process = self.processes["run"]
        assert process.poll() is None, f"the device ended: {(self.folder / 'run.log').read_text()[-2000:]}"
        proc = Path(f"/proc/{process.pid}")
        status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
        rss_mb = int(status["VmRSS"].split()[0]) / 1024
        descriptors = len(list((proc / "fd").iterdir()))
        self.samples.append(Sample(time.monotonic(), rss_mb, descriptors, int(status["Threads"])))
        self.seen |= {entry.cid for entry in self.spooled()}

    def spooled(self) -> list[Any]:
        with contextlib.suppress(FileNotFoundError):
            return list(spool.listing(self.folder / "state" / "spool"))
        return []


def trouble_camera(soak: Soak) -> None:
    soak.camera.mode = soak.rng.choice(FAULTS)
    time.sleep(FAULT_S)
    soak.camera.mode = "play"


def cut_camera(soak: Soak) -> None:
    soak.camera.stop()
    time.sleep(FAULT_S)
    soak.camera.start()


def resize_camera(soak: Soak) -> None:
    soak.camera.size = soak.rng.choice(((96, 128), (240, 320), (480, 640)))


def kill_broker(soak: Soak) -> None:
    soak.mosquitto.kill()
    time.sleep(soak.rng.uniform(0, FAULT_S))
    soak.mosquitto.start()


def kill_collector(soak: Soak) -> None:
    soak.processes["collect"].kill()
    soak.processes["collect"].wait()
    time.sleep(soak.rng.uniform(0, FAULT_S))
    soak.start("collect")


def reload_configuration(soak: Soak) -> None:
    soak.configure()
    soak.processes["run"].send_signal(signal.SIGHUP)


def change_from_afar(soak: Soak) -> None:
    soak.version += 1
    values = {"selection": {"budget": soak.rng.choice((0.1, 0.2, 0.3))}, "cameras": {"street": {"fps": 2.0}}}
    desired = wire.DesiredConfig(version=soak.version, values=values).encode()
    settings = BrokerSettings(host="127.0.0.1", port=soak.mosquitto.port, tls=False, reconnect_max_s=1.0)
    operator = Broker(settings, "soak-operator", SystemClock(), soak.rng)
    operator.start()
    if operator.wait_connected(10):
        operator.publish(f"tk/v1/{DEVICE}/dn/config", desired, retain=True).result(10)
    operator.close()


EVENTS: tuple[tuple[Callable[[Soak], None], int], ...] = (
    (trouble_camera, 6),
    (cut_camera, 2),
    (resize_camera, 1),
    (kill_broker, 3),
    (kill_collector, 2),
    (reload_configuration, 1),
    (change_from_afar, 3),
)
"""What happens, and how often next to the others."""


@contextlib.contextmanager
def running(folder: Path, seed: int) -> Iterator[Soak]:
    mosquitto = Mosquitto(folder, persistence=True).start()
    with a_network_camera() as camera:
        soak = Soak(folder, mosquitto, camera, random.Random(seed))
        soak.configure()
        for name in ("collect", "run"):
            soak.start(name)
        try:
            yield soak
        finally:
            for process in soak.processes.values():
                process.terminate()
                process.wait(20)
            mosquitto.stop()


def run(soak: Soak, seconds: float) -> None:
    """Trouble it for so long."""
    actions, weights = zip(*EVENTS, strict=True)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pause_end = time.monotonic() + SAMPLE_S
        (action,) = soak.rng.choices(actions, weights)
        action(soak)
        soak.events[action.__name__] = soak.events.get(action.__name__, 0) + 1
        time.sleep(max(0.0, pause_end - time.monotonic()))
        soak.watch()


def drain(soak: Soak) -> set[str]:
    """Stop collecting and wait until all is delivered; returns what was seen in the spool and is not in the store."""
    soak.camera.stop()
    soak.processes["run"].send_signal(signal.SIGTERM)
    soak.processes["run"].wait(20)
    soak.seen |= {entry.cid for entry in soak.spooled()}
    text = (soak.folder / "agent.toml").read_text("utf-8")
    (soak.folder / "agent.toml").write_text(text.replace('"world:street?seed=1"', f'"{soak.folder}/still"'), "utf-8")
    (soak.folder / "still").mkdir()
    (soak.folder / "still" / "1.jpg").write_bytes(soak.camera._picture())
    soak.start("run")
    end = time.monotonic() + DRAIN_S
    while time.monotonic() < end and (missing := soak.seen - stored(soak.folder / "store")):
        time.sleep(1)
    return missing


def stored(store: Path) -> set[str]:
    return {path.stem for path in (store / "images").glob("*/*.jpg")}


def slope_mb_per_hour(samples: list[Sample]) -> float:
    """Of a straight line through resident memory, without the first third."""
    late = samples[len(samples) // 3 :]
    hours = np.array([sample.t for sample in late]) / 3600
    return float(np.polyfit(hours - hours[0], [sample.rss_mb for sample in late], 1)[0])


def report(soak: Soak, missing: set[str], seconds: float) -> dict[str, Any]:
    third = len(soak.samples) // 3
    middle, last = soak.samples[third : 2 * third], soak.samples[2 * third :]

    def typical(name: str) -> list[float]:
        return [statistics.median(getattr(sample, name) for sample in part) for part in (middle, last)]

    return {
        "minutes": round(seconds / 60, 1),
        "events": soak.events,
        "candidates": len(soak.seen),
        "lost": len(missing),
        "rss_mb": [round(value, 1) for value in typical("rss_mb")],
        "rss_slope_mb_per_hour": round(slope_mb_per_hour(soak.samples), 2),
        "descriptors": typical("descriptors"),
        "threads": typical("threads"),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, running(Path(folder), arguments.seed) as soak:
        run(soak, arguments.minutes * 60)
        result = report(soak, drain(soak), arguments.minutes * 60)
    print(json.dumps(result, indent=2))
    steady = all(result[name][1] <= result[name][0] + 1 for name in ("descriptors", "threads"))
    flat = result["rss_slope_mb_per_hour"] < SLOPE_LIMIT or arguments.minutes < 20  # too short for a slope
    return 0 if steady and flat and not result["lost"] and result["candidates"] else 1


if __name__ == "__main__":
    sys.exit(main())
