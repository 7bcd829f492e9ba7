"""How fast the street is rendered, in sequence, on one core: `python -m tests.bench.world.speed`.

Times are CPU time of one thread, so that other work on the machine does not change them.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import pairwise

import cv2
import numpy as np

from agent.world import World
from agent.world.truth import truth

SPECS = (
    "street?seed=1",
    "street?seed=3&start=21",
    "street?seed=5&pace=3",
    "street?seed=7&pace=0.1&day_s=86400&start=11",
)


def measure(spec: str, frames: int) -> dict[str, float | str]:
    """Frames per second, median and 99th percentile of one frame (ms), and the cost of the truth (ms)."""
    began = time.process_time()
    world = World(spec)
    world.render(0)
    start = time.process_time() - began
    marks = [time.process_time()]
    for index in range(1, frames + 1):
        world.render(index)
        marks.append(time.process_time())
    each = np.array([after - before for before, after in pairwise(marks)]) * 1e3
    began = time.process_time()
    for index in range(0, frames, 10):
        truth(world, index)
    known = (time.process_time() - began) / len(range(0, frames, 10)) * 1e3
    return {
        "spec": spec,
        "fps": round(1e3 / float(each.mean()), 1),
        "median_ms": round(float(np.median(each)), 2),
        "p99_ms": round(float(np.percentile(each, 99)), 2),
        "start_ms": round(start * 1e3, 1),
        "truth_ms": round(known, 2),
    }


def main() -> None:
    """Print one line of JSON per spec."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=600)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    for spec in SPECS:
        print(json.dumps(measure(spec, options.frames)))


if __name__ == "__main__":
    main()
