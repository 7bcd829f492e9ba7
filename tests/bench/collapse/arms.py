"""Four ways to label what the cameras watched."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agent.detector import Detector
from agent.export.bundle import FLOOR, SERVE
from agent.replay import replay
from tests.bench.collapse.learn import Sample
from tests.bench.collapse.streets import FPS, Street, picture, yolo_lines


@dataclass(frozen=True)
class Watched:
    """What one arm's cameras watch in one round, and with which model (a bundle)."""

    streets: Sequence[Street]
    model: Path
    seed: int


def every_frame(watched: Watched) -> list[Sample]:
    """All frames with their truth."""
    return [sample for street in watched.streets for sample in _true(street)]


def candidates(watched: Watched, budget: float) -> list[Sample]:
    """What Tailkeeper picks within the budget, by the code path of `replay`, with its truth."""
    found = []
    for number, street in enumerate(watched.streets):
        true = {Path(sample.image).name: sample for sample in _true(street)}
        picked = replay(
            str(street.folder / "frames"),
            watched.model,
            budget=budget,
            fps=FPS,
            seed=watched.seed * 100 + number,
            stop=threading.Event(),
        )
        found += [true[row["name"]] for row in picked.selected]
    return found


def at_random(watched: Watched, labels: int) -> list[Sample]:
    """Frames drawn at random, with their truth, until they hold as many labelled boxes."""
    frames = every_frame(watched)
    found: list[Sample] = []
    for number in np.random.default_rng(watched.seed).permutation(len(frames)):
        if boxes(found) >= labels:
            break
        found.append(frames[int(number)])
    return found


def own_rows(watched: Watched) -> list[Sample]:
    """All frames on which the model serves something, with what it serves as if it were true."""
    detector = Detector(watched.model, floor=FLOOR, threads=1)
    found = []
    for street in watched.streets:
        for path in street.frames:
            rows = detector.detect(picture(path))
            lines = yolo_lines(rows[rows[:, 4] >= SERVE])
            found += [Sample(str(path), lines)] if lines else []
    return found


def boxes(samples: Sequence[Sample]) -> int:
    """Number of labels."""
    return sum(sample.labels.count("\n") for sample in samples)


def counts(samples: Sequence[Sample], classes: int) -> list[int]:
    """Labels per class."""
    found = [int(line.split()[0]) for sample in samples for line in sample.labels.splitlines()]
    return [int(count) for count in np.bincount(np.array(found, np.int64), minlength=classes)]


def views(samples: Sequence[Sample], count: int, rng: np.random.Generator) -> list[Sample]:
    """`count` samples to look at: all of them again and again, each pass in an order of its own."""
    order: list[int] = []
    while len(order) < count:
        order += rng.permutation(len(samples)).tolist()
    return [samples[number] for number in order[:count]]


def _true(street: Street) -> list[Sample]:
    return [Sample(str(street.folder / "frames" / name), lines) for name, lines in street.labels().items()]
