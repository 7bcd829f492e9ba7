"""A new model tried in a child process: whatever it does to the runtime, the agent goes on with the old one.

The child loads it, finds the golden frames' rows within tolerance, and runs old and new alternately, so that a busy
machine slows both. It is the first that the system kills when memory runs out.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np

from agent.bundle import Golden
from agent.detector import Detector
from agent.errors import ModelError, RejectError, TailkeeperError
from agent.records import Image, Rows

TIMEOUT_S = 300.0
CPU_S = 600
MEMORY_BYTES = 4 * 1024**3
ROUNDS = 8
SLOWER = 2.0
"""A new model may take this many times as long as the one before: a larger one is welcome, a runaway is not."""


def rehearse(
    *,
    floor: float,
    threads: int,
    providers: Sequence[str],
    timeout_s: float = TIMEOUT_S,
    child: Sequence[str] = (sys.executable, "-m", "agent.control.rehearsal"),
) -> Callable[[Path, Path], None]:
    """A function (new model, current model) that tries the new one; it raises ModelError with the reason."""
    options = {"floor": floor, "threads": threads, "providers": list(providers)}

    def run(new: Path, current: Path) -> None:
        order = json.dumps({"new": str(new), "current": str(current), **options})
        try:
            ended = subprocess.run(child, input=order.encode(), capture_output=True, timeout=timeout_s, check=False)
        except subprocess.TimeoutExpired:
            raise ModelError(f"its trial took longer than {timeout_s:.0f} s") from None
        if ended.returncode < 0:
            name = signal.Signals(-ended.returncode).name
            raise ModelError(f"it ended its trial process with {name}: it crashes the runtime or takes too much memory")
        if ended.returncode:
            lines = ended.stderr.decode(errors="replace").strip().splitlines()
            raise ModelError(lines[-1][:400] if lines else f"its trial ended with status {ended.returncode}")

    return run


def try_model(order: dict[str, Any]) -> None:
    """What the child does; raises ModelError with the reason why the model is not to be used."""
    options = {"floor": order["floor"], "threads": order["threads"], "providers": order["providers"]}
    new = Detector(Path(order["new"]), **options)
    manifest = new.manifest
    if manifest is None:
        raise ModelError("the bundle has no manifest")
    for number, golden in enumerate(manifest.golden):
        complaint = compare(golden, new.detect(_decode(golden, number)), manifest.thresholds.serve)
        if complaint:
            raise ModelError(f"golden frame {number}: {complaint}")
    ratio = _slowness(new, Detector(Path(order["current"]), **options))
    if ratio > SLOWER:
        raise ModelError(f"it takes {ratio:.1f} times as long as the model before; {SLOWER:g} is allowed")


def compare(golden: Golden, rows: Rows, serve: float) -> str | None:
    """What is wrong with the rows found in a golden frame, or None.

    Every expected row must be found and every found one expected, with box corners and confidence within tolerance;
    rows that the tolerance may lift over the serving threshold, or push under it, may be missing on either side.
    """
    expected = np.array(golden.rows, np.float32).reshape(-1, 6)
    slack = golden.tolerance.conf
    for wanted, present, verb in ((expected, rows, "misses"), (rows, expected, "invents")):
        for row in wanted[wanted[:, 4] >= serve + slack]:
            alike = present[present[:, 5] == row[5]]
            near = np.abs(alike[:, :4] - row[:4]).max(axis=1, initial=0) <= golden.tolerance.px
            if not (near & (np.abs(alike[:, 4] - row[4]) <= slack)).any():
                corners = ", ".join(f"{value:.0f}" for value in row[:4])
                return f"it {verb} class {int(row[5])} at [{corners}] with confidence {row[4]:.2f}"
    return None


def _decode(golden: Golden, number: int) -> Image:
    try:
        content = np.frombuffer(base64.b64decode(golden.jpeg, validate=True), np.uint8)
        image = cv2.imdecode(content, cv2.IMREAD_COLOR)
    except (binascii.Error, ValueError, cv2.error):
        image = None
    if image is None:
        raise ModelError(f"golden frame {number} is no image")
    return np.asarray(image, np.uint8)


def _slowness(new: Detector, current: Detector) -> float:
    """How many times as long the new model takes: medians of alternate runs on the same noise."""
    noise = np.random.default_rng(0).integers(0, 256, (720, 1280, 3), dtype=np.uint8)
    spent: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for detector, times in zip((new, current), spent, strict=True):
            began = time.perf_counter()
            detector.detect(noise)
            times.append(time.perf_counter() - began)
    return median(spent[0]) / median(spent[1])


def _limit() -> None:
    """Bounds on what a bad model can do to the machine."""
    os.nice(5)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    Path("/proc/self/oom_score_adj").write_text("1000", "ascii")


def main() -> int:
    """The child process: the order on standard input, the reason on standard error, status 0 for a good model."""
    _limit()
    try:
        try_model(json.load(sys.stdin))
    except (TailkeeperError, RejectError, MemoryError) as error:
        sys.stderr.write(f"\n{error or type(error).__name__}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
