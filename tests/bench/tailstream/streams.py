"""All streams of a benchmark run: which material, which seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import agent
from agent.detector import Detector
from agent.detector.coco import coco_counts
from agent.records import Image, Rows
from tests.bench.tailstream.cache import Stream, cached
from tests.bench.tailstream.demo import Demo
from tests.bench.tailstream.fixed import Fixed
from tests.bench.tailstream.material import TAIL_CLASSES, Half, Still, clip_views, crops, stills
from tests.bench.tailstream.roving import Roving
from tests.bench.tailstream.shot import Plan

FLOOR, SERVE = 0.02, 0.25
DEMO_MODEL = Path(agent.__file__).parent / "world" / "model"
FRAMES = 1600
SEEDS = {"tune": 5, "report": 5}
"""Roving, bare and cluttered streams of each half."""
DEMO_SEEDS = 12
"""Demo-world streams of each half: a street shows few tail things, and five leave the ratio at 2 % uncertain by .1."""


@dataclass(frozen=True, slots=True)
class Case:
    """A stream and what a policy may know of the model that looked at it."""

    kind: str
    stream: Stream
    counts: tuple[int, ...]
    odds: float
    tail: frozenset[int]
    """Classes whose errors count for UTM."""


def tail_of(counts: tuple[int, ...], share: float = TAIL_CLASSES / 80) -> frozenset[int]:
    """Indices of the classes with the fewest labelled objects."""
    order = np.argsort(counts, kind="stable")
    return frozenset(int(i) for i in order[: round(share * len(counts))])


def coco_plans(assets: Path, half: Half, detect: Callable[[Image], Rows], counts: tuple[int, ...]) -> Iterator[Plan]:
    """Roving, bare fixed and cluttered fixed streams of one half of the material."""
    pictures = stills(assets / "data" / "coco_val_a", half)
    tail, objects = tail_of(counts), crops(pictures)
    views = sorted(((len(detect(still.image)), i) for i, still in enumerate(pictures)), reverse=True)
    cluttered = [pictures[i] for _, i in views[: SEEDS[half]]]
    bare = [pictures[i] for _, i in views[::-1][: SEEDS[half]]]
    clips = clip_views(assets / "data" / "clips", half)
    base = 100 if half == "tune" else 200
    for seed in range(SEEDS[half]):
        yield Roving(f"roving-{half}-{seed}", pictures, tail, FRAMES, base + seed)
        own, view = _own(cluttered[seed]), cluttered[seed].image
        yield Fixed(f"cluttered-{half}-{seed}", view, own, objects, tail, FRAMES, base + 10 + seed)
        if seed < len(clips):
            view, own = clips[seed], _unlabelled(clips[seed], detect)
        else:
            view, own = bare[seed].image, _own(bare[seed])
        yield Fixed(f"bare-{half}-{seed}", view, own, objects, tail, FRAMES, base + 20 + seed)


def _own(still: Still) -> NDArray[np.float32]:
    """The labelled objects of a still that serves as a view: they are there in every frame."""
    height, width = still.image.shape[:2]
    boxes = still.labels[:, 1:] / (width, height, width, height)
    small = (boxes[:, 2:] - boxes[:, :2]).min(1) < 0.012
    return np.column_stack([np.arange(len(boxes)), still.labels[:, 0], boxes, small]).astype(np.float32)


def _unlabelled(view: Image, detect: Callable[[Image], Rows]) -> NDArray[np.float32]:
    """What the model sees in an unlabelled view: nobody knows whether it is right, so it is not judged."""
    height, width = view.shape[:2]
    rows = detect(view)
    boxes = rows[:, :4] / (width, height, width, height)
    return np.column_stack([np.arange(len(rows)), rows[:, 5], boxes, np.ones(len(rows))]).astype(np.float32)


def coco_cases(assets: Path, half: Half, folder: Path, threads: int = 1) -> Iterator[Case]:
    """The streams of one half with the real YOLO26n's rows; tail = the 26 classes least frequent in train2017."""
    detector = Detector(assets / "models" / "yolo26n.onnx", floor=FLOOR, threads=threads)
    counts = coco_counts(detector.classes)
    assert counts is not None
    for plan in coco_plans(assets, half, detector.detect, counts):
        stream = cached(folder, plan, detector.detect, detector.classes)
        yield Case(plan.name.split("-")[0], stream, counts, detector.odds, tail_of(counts))


def demo_cases(half: Half, folder: Path, threads: int = 1) -> Iterator[Case]:
    """Demo-world streams with the shipped model's rows; streets and days are the half's own. Tail = rarest third."""
    detector = Detector(DEMO_MODEL, floor=FLOOR, threads=threads)
    assert detector.counts is not None
    base = 1000 if half == "tune" else 2000
    for seed in range(DEMO_SEEDS):
        plan = Demo(f"demo-{half}-{seed}", FRAMES, base + seed)
        stream = cached(folder, plan, detector.detect, detector.classes)
        yield Case("demo", stream, detector.counts, detector.odds, tail_of(detector.counts, 1 / 3))
