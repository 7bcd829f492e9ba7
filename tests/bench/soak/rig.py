"""The soak's set-up: device, collector, broker and two network cameras, and how they are looked at."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from agent import health, spool
from agent.errors import ServiceError
from agent.records import Image
from agent.world import World
from tests.bench.shipped import REPOSITORY, shipped_environment
from tests.bench.soak.figures import Keeper, Sample
from tests.fakes.mjpeg import MjpegCamera, NetworkCamera, playing
from tests.fakes.mosquitto import Mosquitto
from tests.fakes.rtsp import RtspCamera

DEVICE = "soak-1"
UNITS = {"run": "tailkeeper.service", "collect": "tailkeeper-collector.service"}
BUDGETS = (0.3, 0.4, 0.5)
"""With windows this short: the pools of frames that compete are turned over while a healed service is looked at."""
SMALL = (96, 160)
"""Height and width of a camera's pictures while memory is looked at."""


@dataclass
class Soak:
    """The set-up, and what was seen."""

    folder: Path
    mosquitto: Mosquitto
    cameras: dict[str, NetworkCamera]
    rng: random.Random
    keeper: Keeper
    leak_mb_per_hour: float
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    rounds: dict[str, list[Sample]] = field(default_factory=lambda: {"run": [], "collect": []})
    seen: set[str] = field(default_factory=set)
    """Every candidate that was ever seen in the spool."""
    events: Counter[str] = field(default_factory=Counter)
    heal_s: list[float] = field(default_factory=list)
    warm: bool = False
    """From now on it is one collector and one device that are looked at; until then both are made anew."""
    version: int = 0

    def start(self, name: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            leaks = name == "run" and self.leak_mb_per_hour
            module = ["tests.bench.soak.leak", str(self.leak_mb_per_hour)] if leaks else ["agent"]
            command = [sys.executable, "-m", *module, name, "--config", str(self.folder / "agent.toml")]
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
        """Let time pass, and note what comes into the spool and what the processes take."""
        end = time.monotonic() + seconds
        while True:
            self.note_spool()
            for name, process in self.processes.items():
                if process.poll() is None:
                    self.keeper.keep(name, len(self.rounds[name]), self.sample(name))
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
        rss_mb, anonymous_mb = (int(status[key].split()[0]) / 1024 for key in ("VmRSS", "RssAnon"))
        files = len(list((proc / "fd").iterdir()))
        return Sample(time.monotonic() / 3600, rss_mb, anonymous_mb, files, int(status["Threads"]))

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


class Street(RtspCamera):
    """Shows the rendered street, small: frames that wait in selection's pools must not hide what grows beside them."""

    def __init__(self) -> None:
        world = World("street?seed=1")
        self._scenes = [cv2.resize(world.render(15 * i), (SMALL[1], SMALL[0])) for i in range(60)]
        super().__init__()

    def image(self) -> Image:
        scene = self._scenes[self._rng.integers(len(self._scenes))]
        return np.asarray(cv2.resize(scene, self.size[::-1]), np.uint8)


@contextlib.contextmanager
def running(folder: Path, seed: int, keeper: Keeper, leak_mb_per_hour: float) -> Iterator[Soak]:
    mosquitto = Mosquitto(folder, persistence=True).start()
    with playing(Street()) as street, playing(MjpegCamera()) as noise:
        cameras = {"street": street, "noise": noise}
        soak = Soak(folder, mosquitto, cameras, random.Random(seed), keeper, leak_mb_per_hour)
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
