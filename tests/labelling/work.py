"""Tasks and answers: candidates as they are exported, and what a person would say of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from hypothesis import strategies as st

from agent.dataset.records import Box, Prediction, Task, Verdict

WHO, WHEN = "ann@example.org", "2026-03-01T12:00:00.000Z"
NAMES = ("car", "Straßenbahn", "traffic light", "猫, or dog", 'a "quoted" <b> & c')
"""Classes whose names have what formats stumble over."""
WORDS = {"nothing": "nothing there"}
"""What a labeller reads for a verdict, where it is not the verdict's own name."""


@dataclass(frozen=True)
class Answer:
    """What a person says of one task."""

    boxes: tuple[Box, ...]
    verdict: Verdict | None = None


def cid(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()[:32]


def task(folder: Path, number: int, width: int = 64, height: int = 48, guesses: Sequence[Prediction] = ()) -> Task:
    """A candidate whose image lies in a store below `folder`."""
    name = cid(number)
    image = folder / "images" / name[:2] / f"{name}.jpg"
    image.parent.mkdir(parents=True, exist_ok=True)
    if not image.exists():
        cv2.imwrite(str(image), np.full((height, width, 3), number % 255, np.uint8))
    return Task(
        name, image, width, height, "gate-7", "front", WHEN, "uncertain", 0.5, None, "model-a", ("small", "dim"), 1.0,
        tuple(guesses),
    )  # fmt: skip


def image_size(path: Path) -> tuple[int, int]:
    """Width and height of the picture in a file."""
    image = cv2.imread(str(path))
    assert image is not None, path
    return image.shape[1], image.shape[0]


def known(tasks: Sequence[Task]) -> Mapping[str, Task]:
    return {one.cid: one for one in tasks}


def guess(name: str, xyxy: tuple[float, float, float, float], score: float = 0.5) -> Prediction:
    return Prediction(Box(name, xyxy), score)


@st.composite
def boxes(draw: st.DrawFn, width: int, height: int, most: int = 6) -> tuple[Box, ...]:
    """Boxes of at least a pixel, some of them on the border, pixels with two decimals as people's tools keep them."""
    found = []
    for _ in range(draw(st.integers(0, most))):
        x1, x2 = _span(draw, width)
        y1, y2 = _span(draw, height)
        found.append(Box(draw(st.sampled_from(NAMES)), (x1, y1, x2, y2)))
    return tuple(found)


def _span(draw: st.DrawFn, size: int) -> tuple[float, float]:
    low = draw(st.one_of(st.just(0), st.integers(0, size * 100 - 100)))
    high = draw(st.one_of(st.just(size * 100), st.integers(low + 100, size * 100)))
    return low / 100, high / 100


sizes = st.tuples(st.integers(1, 700), st.integers(1, 700))


@st.composite
def labelled(draw: st.DrawFn) -> tuple[int, int, tuple[Prediction, ...], tuple[Box, ...]]:
    """An image's size, what the model saw and what a person drew."""
    width, height = draw(sizes)
    seen = draw(boxes(width, height))
    guesses = tuple(Prediction(box, draw(st.floats(0, 1))) for box in seen)
    return width, height, guesses, draw(boxes(width, height))


def same(one: Sequence[Box], other: Sequence[Box]) -> bool:
    """Whether both have the same boxes, within half a pixel."""
    left = sorted(one, key=lambda box: (box.name, *(round(side) for side in box.xyxy)))
    right = list(other)
    for box in left:
        twin = next((b for b in right if b.name == box.name and np.allclose(b.xyxy, box.xyxy, rtol=0, atol=0.5)), None)
        if twin is None:
            return False
        right.remove(twin)
    return not right
