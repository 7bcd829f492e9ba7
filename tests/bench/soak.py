"""Soak: device and collector as processes, while cameras, broker, collector and configuration are troubled.

    python -m tests.bench.soak --minutes 30 --seed 1

A year on a pole, accelerated. A round is every event of `DECK` in random order; then all must heal by itself, and only
then memory, descriptors and threads are looked at, so that rounds can be compared. Nothing may be lost, and nothing
may grow. Prints JSON; exits 1 where a promise is broken.
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
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from agent import health, spool, wire
from agent.broker import Broker
from agent.clock import SystemClock
from agent.errors import ServiceError
from agent.records import Image
from agent.settings import BrokerSettings
from agent.world import World
from tests.fakes import mjpeg
from tests.fakes.mjpeg import MjpegCamera, Mode, NetworkCamera, playing
from tests.fakes.mosquitto import Mosquitto
from tests.fakes.rtsp import RtspCamera

REPOSITORY = Path(__file__).parents[2]
DEVICE = "soak-1"
UNITS = {"run": "tailkeeper.service", "collect": "tailkeeper-collector.service"}
FAULT_S = 4.0
PAUSE_S = 1.0
"""Between two events."""
HEAL_S = 60.0
"""In which all must be well again, without help, on a machine that may be busy."""
QUIET_S = 20.0
"""How long a healed service is looked at: frames of the troubled time have left selection's pools by then."""
DRAIN_S = 180.0
SLOPE_LIMIT = 2.0
"""MB of resident memory per hour after warm-up."""
ENOUGH = 12
"""Rounds after warm-up below which a slope says nothing."""
FAULTS: tuple[Mode, ...] = ("freeze", "stall", "close", "garbage", "refuse", "blink")
BUDGETS = (0.3, 0.4, 0.5)
"""With windows this short: the pools of frames that compete are turned over while a healed service is looked at."""
SMALL = (96, 160)
SIZES = (SMALL, (240, 320), (480, 640))


class Sample(NamedTuple):
    """One look at a process, or what a quiet time came to."""

    t: float
    """Monotonic hours."""
    rss_mb: float
    descriptors: float
    threads: float


@dataclass
class Soak:
    """The set-up, and what was seen."""

    folder: Path
    mosquitto: Mosquitto
    cameras: dict[str, NetworkCamera]
    rng: random.Random
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    rounds: dict[str, list[Sample]] = field(default_factory=lambda: {"run": [], "collect": []})
    seen: set[str] = field(default_factory=set)
    """Every candidate that was ever seen in the spool."""
    events: Counter[str] = field(default_factory=Counter)
    heal_s: list[float] = field(default_factory=list)
    warm: bool = False
    """The collector is killed no more: it has to be warm itself before memory counts."""
    version: int = 0

    def start(self, name: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            command = [sys.executable, "-m", "agent", name, "--config", str(self.folder / "agent.toml")]
            environment = {**os.environ, **shipped_environment(UNITS[name])}
            self.processes[name] = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stderr=log)

    def configure(self) -> None:
        (self.folder / "agent.toml").write_text(
            f'[device]\nid = "{DEVICE}"\nstate_dir = "{self.folder}/state"\n'
            f'[broker]\nhost = "127.0.0.1"\nport = {self.mosquitto.port}\ntls = false\nreconnect_max_s = 2.0\n'
            f'[[cameras]]\nname = "street"\nsource = "{self.cameras["street"].url}"\nfps = 2.0\ntimeout_s = 1.0\n'
            f'[[cameras]]\nname = "noise"\nsource = "{self.cameras["noise"].url}"\nfps = 2.0\ntimeout_s = 1.0\n'
            f'[model]\npath = "{REPOSITORY}/agent/world/model"\nthreads = 1\n'
            f"[selection]\nbudget = {self.rng.choice(BUDGETS)}\nwindow_frames = 6\n"
            "frames_per_day = 0\nbytes_per_day = 0\nlabels_per_day = 0\n"
            "[uplink]\nstart_spread_s = 0.5\nreceipt_timeout_s = 5.0\n"
            f'[collector]\nstore = "{self.folder}/store"\n',
            "utf-8",
        )

    def wait(self, seconds: float) -> None:
        """Let time pass, and note what comes into the spool."""
        end = time.monotonic() + seconds
        while True:
            self.note_spool()
            left = end - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(0.5, left))

    def note_spool(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.seen |= {entry.cid for entry in spool.listing(self.folder / "state" / "spool")}

    def sample(self, name: str) -> Sample:
        """Look at a process; fails when it has ended."""
        process = self.processes[name]
        log = self.folder / f"{name}.log"
        assert process.poll() is None, f"{name} ended: {log.read_text('utf-8')[-2000:]}"
        proc = Path(f"/proc/{process.pid}")
        status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
        rss_mb = int(status["VmRSS"].split()[0]) / 1024
        return Sample(time.monotonic() / 3600, rss_mb, len(list((proc / "fd").iterdir())), int(status["Threads"]))

    def last_words(self) -> str:
        """What the device says of itself, the end of its log, and what each of its threads does."""
        stats = health.ask(self.folder / "state")["stats"]
        self.processes["run"].send_signal(signal.SIGABRT)
        self.processes["run"].wait()
        return f"{stats}\n{(self.folder / 'run.log').read_text('utf-8')[-8000:]}"

    def is_well(self) -> bool:
        """Whether the device says that both cameras, broker and uploads are."""
        try:
            status = health.ask(self.folder / "state")
        except ServiceError:  # just when it reads its configuration again
            return False
        stats = status["stats"]
        live = all(camera["state"] == "live" for camera in stats["cameras"].values())
        return live and status["broker"] == "connected" and stats["spool"]["sent"] == 0 and not status["complaints"]


def shipped_environment(unit: str) -> dict[str, str]:
    """What the shipped unit sets, except for a home that is not here."""
    lines = (REPOSITORY / "deploy" / unit).read_text("utf-8").splitlines()
    values = next(line for line in lines if line.startswith("Environment=")).partition("=")[2].split()
    return {name: value for name, _, value in (pair.partition("=") for pair in values) if name != "HOME"}


class Street(RtspCamera):
    """Shows the rendered street, small: frames that wait in selection's pools must not hide what grows beside them."""

    def __init__(self) -> None:
        world = World("street?seed=1")
        self._scenes = [cv2.resize(world.render(15 * i), (SMALL[1], SMALL[0])) for i in range(60)]
        super().__init__()

    def image(self) -> Image:
        scene = self._scenes[self._rng.integers(len(self._scenes))]
        return np.asarray(cv2.resize(scene, self.size[::-1]), np.uint8)


def trouble_camera(soak: Soak) -> None:
    camera = soak.rng.choice(list(soak.cameras.values()))
    camera.mode = soak.rng.choice(FAULTS)
    soak.wait(FAULT_S)
    camera.mode = "play"


def cut_camera(soak: Soak) -> None:
    """Its power fails; it comes back with another resolution."""
    camera = soak.rng.choice(list(soak.cameras.values()))
    camera.stop()
    camera.size = soak.rng.choice(SIZES)
    soak.wait(FAULT_S)
    camera.start()


def kill_broker(soak: Soak) -> None:
    soak.mosquitto.kill()
    soak.wait(soak.rng.uniform(0, FAULT_S))
    soak.mosquitto.start()


def trouble_collector(soak: Soak) -> None:
    """Killed while memory is not looked at yet; later it hangs, so that one and the same is looked at."""
    collector = soak.processes["collect"]
    if soak.warm:
        collector.send_signal(signal.SIGSTOP)
        soak.wait(2 * FAULT_S)
        collector.send_signal(signal.SIGCONT)
    else:
        collector.kill()
        collector.wait()
        soak.wait(soak.rng.uniform(0, FAULT_S))
        soak.start("collect")


def reload_configuration(soak: Soak) -> None:
    soak.configure()
    soak.processes["run"].send_signal(signal.SIGHUP)


def change_from_afar(soak: Soak) -> None:
    soak.version += 1
    values = {"selection": {"budget": soak.rng.choice(BUDGETS)}, "cameras": {"street": {"fps": 2.0}}}
    desired = wire.DesiredConfig(version=soak.version, values=values).encode()
    settings = BrokerSettings(host="127.0.0.1", port=soak.mosquitto.port, tls=False, reconnect_max_s=1.0)
    operator = Broker(settings, "soak-operator", SystemClock(), soak.rng)
    operator.start()
    if operator.wait_connected(10):
        operator.publish(f"tk/v1/{DEVICE}/dn/config", desired, retain=True).result(10)
    operator.close()


DECK: tuple[Callable[[Soak], None], ...] = (
    trouble_camera,
    trouble_camera,
    trouble_camera,
    cut_camera,
    kill_broker,
    kill_broker,
    trouble_collector,
    reload_configuration,
    change_from_afar,
)
"""What happens in a round."""


@contextlib.contextmanager
def running(folder: Path, seed: int) -> Iterator[Soak]:
    mosquitto = Mosquitto(folder, persistence=True).start()
    with playing(Street()) as street, playing(MjpegCamera()) as noise:
        soak = Soak(folder, mosquitto, {"street": street, "noise": noise}, random.Random(seed))
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


def run(soak: Soak, seconds: float, keep: Callable[[str], object]) -> None:
    """Trouble it for so long; `keep` gets a line per round."""
    begin = time.monotonic()
    heal(soak)
    while (passed := time.monotonic() - begin) < seconds:
        soak.warm = passed > seconds / 6
        for event in soak.rng.sample(DECK, len(DECK)):
            event(soak)
            soak.events[event.__name__] += 1
            soak.wait(PAUSE_S)
        heal(soak)
        look(soak)
        keep(json.dumps({name: samples[-1] for name, samples in soak.rounds.items()}))


def heal(soak: Soak) -> None:
    """Wait until all is well, with cameras of the smallest resolution."""
    for camera in soak.cameras.values():
        if camera.size != SMALL:
            camera.stop()
            camera.size = SMALL
            camera.start()
    begin = time.monotonic()
    soak.wait(2.0)
    while not soak.is_well():
        assert time.monotonic() - begin < HEAL_S, f"not healed: {soak.last_words()}"
        soak.wait(0.5)
    soak.heal_s.append(time.monotonic() - begin)


def look(soak: Soak) -> None:
    """Take the round's figures over a quiet time: medians, and the least memory, which is what is held for good."""
    seen: dict[str, list[Sample]] = {name: [] for name in soak.rounds}
    for _ in range(round(QUIET_S)):
        soak.wait(1.0)
        for name, samples in seen.items():
            samples.append(soak.sample(name))
    for name, samples in seen.items():
        middle = Sample(*map(statistics.median, zip(*samples, strict=True)))
        soak.rounds[name].append(middle._replace(rss_mb=min(sample.rss_mb for sample in samples)))


def drain(soak: Soak) -> set[str]:
    """Stop collecting and wait until all is delivered; returns what was seen in the spool and is not in the store."""
    soak.processes["run"].send_signal(signal.SIGTERM)
    soak.processes["run"].wait(20)
    soak.note_spool()
    for camera in soak.cameras.values():
        camera.stop()
    soak.start("run")
    end = time.monotonic() + DRAIN_S
    while time.monotonic() < end and (missing := soak.seen - stored(soak.folder / "store")):
        time.sleep(1)
    return missing


def stored(store: Path) -> set[str]:
    return {path.stem for path in (store / "images").glob("*/*.jpg")}


def slope(samples: Sequence[Sample]) -> tuple[float, float, float]:
    """MB per hour: the median of all pairs' slopes, and its 90 % interval (Theil 1950, Sen 1968).

    One round that a busy machine or a late first use has lifted does not move it, as it would a least squares line.
    """
    n = len(samples)
    slopes = np.sort(
        [(b.rss_mb - a.rss_mb) / (b.t - a.t) for i, a in enumerate(samples) for b in samples[i + 1 :]] or [np.nan]
    )
    reach = 1.645 * np.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    low, high = (round((len(slopes) + side * reach) / 2) for side in (-1, 1))
    return float(np.median(slopes)), float(slopes[max(0, low)]), float(slopes[min(len(slopes) - 1, high)])


def figures(samples: Sequence[Sample]) -> dict[str, Any]:
    """Of one process, without the first third: the warm-up."""
    late = samples[len(samples) // 3 :]
    middle, low, high = slope(late)
    return {
        "rounds": len(late),
        "rss_mb": [round(sample.rss_mb, 1) for sample in (late[0], late[-1])],
        "rss_slope_mb_per_hour": round(middle, 2),
        "slope_90_percent": [round(low, 2), round(high, 2)],
        "descriptors": most([sample.descriptors for sample in late]),
        "threads": most([sample.threads for sample in late]),
    }


def most(values: Sequence[float]) -> list[float]:
    """The highest of the first half, and of the second."""
    half = (len(values) + 1) // 2
    return [max(part) for part in (values[:half], values[half:]) if part]


def broken(result: dict[str, Any]) -> Iterator[str]:
    """Each promise that does not hold."""
    if result["lost"] or not result["candidates"]:
        yield f"{result['lost']} of {result['candidates']} lost"
    for name in ("run", "collect"):
        found = result[name]
        if found["rounds"] >= ENOUGH and found["rss_slope_mb_per_hour"] >= SLOPE_LIMIT:
            yield f"{name} grows by {found['rss_slope_mb_per_hour']} MB an hour"
        yield from (
            f"{name}: {what} {found[what]}" for what in ("descriptors", "threads") if found[what][-1] > found[what][0]
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    mjpeg.PICTURES_PER_S = 5
    with tempfile.TemporaryDirectory() as folder, running(Path(folder), arguments.seed) as soak:
        run(soak, arguments.minutes * 60, lambda line: print(line, file=sys.stderr, flush=True))
        missing = drain(soak)
    result = {
        "minutes": arguments.minutes,
        "events": dict(soak.events),
        "candidates": len(soak.seen),
        "lost": len(missing),
        "heal_s": {"median": round(statistics.median(soak.heal_s), 1), "max": round(max(soak.heal_s), 1)},
        **{name: figures(samples) for name, samples in soak.rounds.items()},
    }
    result["broken"] = list(broken(result))
    print(json.dumps(result, indent=2))
    return 1 if result["broken"] else 0


if __name__ == "__main__":
    sys.exit(main())
