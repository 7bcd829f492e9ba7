"""From the start of a process to its first detection. As a module it is the bare one: MODEL VIDEO THREADS.

The agent's first detection counts when it is durable in the spool, which is later than it could be.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from tests.bench.shipped import REPOSITORY

CONFIG = """
[device]
id = "speed"
state_dir = "{folder}"
[broker]
host = "127.0.0.1"
port = {port}
tls = false
[[cameras]]
name = "gate"
source = "{video}"
fps = 5.0
loop = true
[model]
path = "{model}"
threads = {threads}
[selection]
frames_per_day = 0
bytes_per_day = 0
labels_per_day = 0
budget = 1.0
"""
PAUSE_S = 0.002
LIMIT_S = 60.0


def bare_s(folder: Path, model: Path, video: Path, threads: int) -> float:
    """Seconds until a script of ten lines has seen something."""
    begun = time.perf_counter()
    command = [sys.executable, "-m", "tests.bench.speed.start", str(model), str(video), str(threads)]
    with subprocess.Popen(command, cwd=REPOSITORY, env=_compiled(folder), stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline()
        return time.perf_counter() - begun


def agent_s(folder: Path, port: int, model: Path, video: Path, threads: int) -> float:
    """Seconds until the service has a frame with its detections in the spool."""
    config = folder / "agent.toml"
    config.write_text(CONFIG.format(folder=folder, port=port, video=video, model=model, threads=threads))
    before = _spooled(folder)
    begun = time.perf_counter()
    command = [sys.executable, "-m", "agent", "run", "--config", str(config)]
    with subprocess.Popen(command, cwd=REPOSITORY, env=_compiled(folder), stderr=subprocess.DEVNULL) as child:
        try:
            while _spooled(folder) <= before and time.perf_counter() - begun < LIMIT_S:
                time.sleep(PAUSE_S)
            return time.perf_counter() - begun
        finally:
            child.terminate()


def _compiled(folder: Path) -> dict[str, str]:
    """An environment in which modules are compiled once, as pip compiles those that it installs."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return environ | {"PYTHONPYCACHEPREFIX": str(folder.parent / "compiled")}


def starts(folder: Path, port: int, model: Path, video: Path, threads: int, rounds: int) -> dict[str, float]:
    """Medians in seconds over alternate starts: bare, the agent's very first, the agent's with its graph kept."""
    times: dict[str, list[float]] = {"bare": [], "first": [], "again": []}
    for each in range(1 + rounds):
        state = folder / f"start-{each}"
        state.mkdir()
        times["bare"].append(bare_s(state, model, video, threads))
        for name in ("first", "again"):
            times[name].append(agent_s(state, port, model, video, threads))
    return {name: median(each[1:]) for name, each in times.items()}  # the first round compiled


def _spooled(folder: Path) -> int:
    return len(list(folder.glob("spool/items/*/*.tkc")))


def main() -> None:
    """The bare one."""
    import cv2
    import numpy as np

    from tests.bench.speed.bare import session

    model, video, threads = sys.argv[1:]
    opened = session(model, int(threads))
    _, frame = cv2.VideoCapture(video).read()
    image = opened.get_inputs()[0]
    blob = cv2.resize(frame, tuple(image.shape[:1:-1]))[:, :, ::-1].transpose(2, 0, 1)[None].astype(np.float32) / 255
    opened.run(None, {image.name: blob})
    os.write(1, b"seen\n")


if __name__ == "__main__":
    main()
