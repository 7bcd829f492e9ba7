"""Resident memory of the running service over minutes, next to a bare process with the same session and OpenCV."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from tests.bench.shipped import REPOSITORY
from tests.bench.speed.start import CONFIG

SAMPLE_S = 2.0


def watched(folder: Path, port: int, model: Path, video: Path, threads: int, minutes: float) -> dict[str, float]:
    """Peak in MB of `tailkeeper run` at full speed, and how many MB an hour it grew over the second half."""
    config = folder / "agent.toml"
    text = CONFIG.format(folder=folder, port=port, video=video, model=model, threads=threads)
    text = text.replace("fps = 5.0", "fps = 0.0").replace("budget = 1.0", "budget = 0.02\nstill_s = 0.0")
    config.write_text(text)
    samples: list[tuple[float, float]] = []
    begun = time.monotonic()
    command = [sys.executable, "-m", "agent", "run", "--config", str(config)]
    with subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.DEVNULL) as child:
        try:
            status = Path(f"/proc/{child.pid}/status")
            while (elapsed := time.monotonic() - begun) < minutes * 60:
                time.sleep(SAMPLE_S)
                samples.append((elapsed, _mb(status, "VmRSS")))
            peak = _mb(status, "VmHWM")
        finally:
            child.terminate()
    t, mb = np.array(samples[len(samples) // 2 :]).T
    return {"peak_mb": peak, "mb_per_hour": round(float(np.polyfit(t, mb, 1)[0]) * 3600, 1)}


def _mb(status: Path, key: str) -> float:
    """In MB of 10^6 bytes."""
    (line,) = (line for line in status.read_text("ascii").splitlines() if line.startswith(key))
    return round(int(line.split()[1]) * 1024 / 1e6, 1)
