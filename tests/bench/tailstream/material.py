"""Stills, object crops and fixed views, split into two halves that share nothing: `tune` and `report`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.records import Image

Half = Literal["tune", "report"]

TAIL_CLASSES = 26
"""Of COCO's 80: those with the fewest labelled objects in train2017."""
_MIN_CROP = 48


@dataclass(frozen=True, slots=True)
class Still:
    """A labelled picture."""

    path: Path
    labels: NDArray[np.float32]
    """(n, 5): class, x1 y1 x2 y2 in pixels."""

    @property
    def image(self) -> Image:
        return _read(self.path)


@dataclass(frozen=True, slots=True)
class Crop:
    """One labelled object, cut out with its box."""

    image: Image
    cls: int


@cache
def _read(path: Path) -> Image:
    image = cv2.imread(str(path))
    assert image is not None, f"{path} is not a picture"
    return np.asarray(image, np.uint8)


def stills(folder: Path, half: Half) -> list[Still]:
    """Every other still of a YOLO-format folder (images/, labels/) that has labels, in the order of names."""
    chosen = []
    paths = sorted(p for p in (folder / "images").iterdir() if p.suffix.lower() in {".jpg", ".jpeg", ".png"})
    for path in paths[0 if half == "tune" else 1 :: 2]:
        lines = (folder / "labels" / path.with_suffix(".txt").name).read_text().split("\n")
        table = np.array([line.split()[:5] for line in lines if line.strip()], np.float32).reshape(-1, 5)
        height, width = _read(path).shape[:2]
        centre, size = table[:, 1:3] * (width, height), table[:, 3:5] * (width, height)
        if len(table):
            labels = np.hstack([table[:, :1], centre - size / 2, centre + size / 2]).astype(np.float32)
            chosen.append(Still(path, labels))
    return chosen


def crops(of: list[Still]) -> list[Crop]:
    """Objects that are large enough and not covered by others."""
    found = []
    for still in of:
        boxes = still.labels[:, 1:]
        for index, (cls, x1, y1, x2, y2) in enumerate(still.labels):
            if min(x2 - x1, y2 - y1) < _MIN_CROP or _shared(boxes, index) > 0.3:
                continue
            found.append(Crop(still.image[int(y1) : int(y2), int(x1) : int(x2)], int(cls)))
    return found


def _shared(boxes: NDArray[np.float32], index: int) -> float:
    """The largest part of the box that another box covers."""
    one, others = boxes[index], np.delete(boxes, index, axis=0)
    if not len(others):
        return 0.0
    size = np.clip(np.minimum(one[2:], others[:, 2:]) - np.maximum(one[:2], others[:, :2]), 0, None)
    return float(size.prod(axis=1).max() / (one[2:] - one[:2]).prod())


def clip_views(folder: Path, half: Half) -> list[Image]:
    """The emptiest looking moment of each real clip: a pixel-wise median over the clip. Every other clip."""
    views = []
    for path in sorted(folder.iterdir())[0 if half == "tune" else 1 :: 2]:
        video = cv2.VideoCapture(str(path))
        frames = list[Image]()
        while len(frames) < 400:
            there, image = video.read()
            if not there:
                break
            frames.append(np.asarray(image, np.uint8))
        video.release()
        views.append(np.median(np.stack(frames[:: max(1, len(frames) // 25)]), axis=0).astype(np.uint8))
    return views
