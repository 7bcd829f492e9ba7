"""Fixed streams: one real view that never moves; labelled objects pass through it or park in it for a while."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.records import Image
from tests.bench.tailstream.material import Crop
from tests.bench.tailstream.shot import HEIGHT, WIDTH, Shot, expose, light

_TAIL_SHARE = 0.22
_PARKING_SHARE = 0.25
_BUSY = 0.75
"""Mean number of objects in the view."""
_FIRST_ID = 500
"""Instance ids below are the view's own objects."""


@dataclass(frozen=True, slots=True)
class Visit:
    """One object's way through the view: from outside over a point inside to outside."""

    crop: int
    enter: int
    walk: int
    """Frames from the edge to the point inside, and again from there."""
    park: int
    """Frames it stays there."""
    size: float
    """Its longer side, of the view's height."""
    path: tuple[tuple[float, float], tuple[float, float], tuple[float, float]]

    @property
    def leave(self) -> int:
        return self.enter + 2 * self.walk + self.park

    def centre(self, frame: int) -> tuple[float, float]:
        """Relative centre at a frame of the stream."""
        k = frame - self.enter
        (x0, y0), (x1, y1), (x2, y2) = self.path
        if k < self.walk:
            part = k / self.walk
            return x0 + (x1 - x0) * part, y0 + (y1 - y0) * part
        part = max(0.0, (k - self.walk - self.park) / self.walk)
        return x1 + (x2 - x1) * part, y1 + (y2 - y1) * part


class Fixed:
    """A stream of one view, drawn by seed."""

    def __init__(
        self,
        name: str,
        view: Image,
        own: NDArray[np.float32],
        crops: list[Crop],
        tail: frozenset[int],
        frames: int,
        seed: int,
    ) -> None:
        """`own` is the view's own truth as in `Shot.truth`, ids below 500."""
        self.name, self._frames, self._own = name, frames, own
        self._view = cv2.resize(view, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA).astype(np.float32)
        self._crops, self._rng = crops, np.random.default_rng(seed)
        self._tail = [i for i, crop in enumerate(crops) if crop.cls in tail]
        self._common = [i for i, crop in enumerate(crops) if crop.cls not in tail]
        self._visits = self._draw()

    def __len__(self) -> int:
        return self._frames

    def _draw(self) -> list[Visit]:
        rng, visits, at = self._rng, [], 5.0
        while at < self._frames - 12:
            visit = self._visit(int(at))
            visits.append(visit)
            at += rng.exponential(22.0 / _BUSY)
        return visits

    def _visit(self, enter: int) -> Visit:
        rng = self._rng
        pool = self._tail if self._tail and rng.random() < _TAIL_SHARE else self._common
        side = rng.choice([-0.15, 1.15], 2)
        path = (
            (float(side[0]), float(rng.uniform(0.3, 0.9))),
            (float(rng.uniform(0.2, 0.8)), float(rng.uniform(0.35, 0.8))),
            (float(side[1]), float(rng.uniform(0.3, 0.9))),
        )
        park = int(rng.integers(40, 250)) if rng.random() < _PARKING_SHARE else 0
        walk = int(rng.integers(4, 16))
        return Visit(int(rng.choice(pool)), enter, walk, park, float(rng.uniform(0.18, 0.5)), path)

    def shots(self) -> Iterator[Shot]:
        brightness = light(self._frames)
        for frame in range(self._frames):
            picture, truth = self._view.copy(), [*self._own]
            present = [(i, v) for i, v in enumerate(self._visits) if v.enter <= frame < v.leave]
            for index, visit in sorted(present, key=lambda item: item[1].centre(frame)[1]):
                row = _paste(picture, self._crops[visit.crop].image, visit.centre(frame), visit.size)
                if row is not None:
                    truth.append(np.array([_FIRST_ID + index, self._crops[visit.crop].cls, *row], np.float32))
            table = np.array(truth, np.float32).reshape(-1, 7)
            yield Shot(expose(picture, float(brightness[frame]), self._rng), _occlude(table), 0, (0.0, 0.0, 1.0))


def _paste(picture: NDArray[np.float32], crop: Image, centre: tuple[float, float], size: float) -> list[float] | None:
    """Blend the crop in with soft edges; its relative box and whether it is mostly cut off, None if nothing is seen."""
    scale = size * HEIGHT / max(crop.shape[:2])
    w, h = max(4, round(crop.shape[1] * scale)), max(4, round(crop.shape[0] * scale))
    left, top = round(centre[0] * WIDTH - w / 2), round(centre[1] * HEIGHT - h / 2)
    x1, y1, x2, y2 = max(0, left), max(0, top), min(WIDTH, left + w), min(HEIGHT, top + h)
    if x2 - x1 < 4 or y2 - y1 < 4:
        return None
    soft = cv2.resize(crop, (w, h), interpolation=cv2.INTER_AREA).astype(np.float32)
    edge_x, edge_y = (
        np.minimum(1.0, (np.minimum(np.arange(n), n - 1 - np.arange(n)) + 1) / (0.06 * n + 1)) for n in (w, h)
    )
    alpha = (edge_y[:, None] * edge_x[None, :]).astype(np.float32)[y1 - top : y2 - top, x1 - left : x2 - left, None]
    spot = picture[y1:y2, x1:x2]
    spot += alpha * (soft[y1 - top : y2 - top, x1 - left : x2 - left] - spot)
    cut_off = (x2 - x1) * (y2 - y1) < 0.4 * w * h
    return [x1 / WIDTH, y1 / HEIGHT, x2 / WIDTH, y2 / HEIGHT, float(cut_off)]


def _occlude(truth: NDArray[np.float32]) -> NDArray[np.float32]:
    """Objects that later ones cover by more than half are not judged."""
    for i in range(len(truth)):
        one, later = truth[i, 2:6], truth[i + 1 :, 2:6]
        if len(later):
            size = np.clip(np.minimum(one[2:], later[:, 2:]) - np.maximum(one[:2], later[:, :2]), 0, None)
            if size.prod(1).max() > 0.5 * (one[2:] - one[:2]).prod():
                truth[i, 6] = 1.0
    return truth
