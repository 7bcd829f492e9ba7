"""Roving streams: a camera that travels. Slow pans over labelled stills; common scenes are long, tail events short."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from tests.bench.tailstream.material import Still
from tests.bench.tailstream.shot import HEIGHT, WIDTH, Shot, expose, light

_LONG, _SHORT, _TAIL = (50, 130), (3, 10), (2, 6)
_ZOOM = (0.62, 0.85)
_VISIBLE = 0.4
"""An object is judged when this part of it is in the frame."""
_SPACE = 1000
"""Instance ids per scene."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A pan over one still."""

    still: int
    frames: int
    start: tuple[float, float]
    step: tuple[float, float]
    zoom: float


class Roving:
    """A stream drawn from stills by seed, about `frames` long."""

    def __init__(self, name: str, stills: list[Still], tail: frozenset[int], frames: int, seed: int) -> None:
        self.name = name
        self._stills, self._rng = stills, np.random.default_rng(seed)
        self._tail = [i for i, s in enumerate(stills) if tail & set(s.labels[:, 0].astype(int))]
        self._common = [i for i in range(len(stills)) if i not in self._tail]
        self._stretches = self._draw(frames)

    def __len__(self) -> int:
        return sum(stretch.frames for stretch in self._stretches)

    def _draw(self, frames: int) -> list[Stretch]:
        """About a quarter of the frames in long stretches; one visit in three of the short ones is a tail event."""
        rng, drawn, total = self._rng, [], 0
        common, tail = _endless(self._common, rng), _endless(self._tail, rng)
        while total < frames * 0.25:
            drawn.append(self._stretch(next(common), _LONG))
            total += drawn[-1].frames
        while total < frames:
            rare = bool(self._tail) and rng.random() < 0.33
            drawn.append(self._stretch(next(tail), _TAIL) if rare else self._stretch(next(common), _SHORT))
            total += drawn[-1].frames
        return [drawn[i] for i in rng.permutation(len(drawn))]

    def _stretch(self, still: int, length: tuple[int, int]) -> Stretch:
        """A pan that moves .2 to .8 % of the free room a frame in a random direction."""
        rng = self._rng
        angle, speed = rng.uniform(0, 2 * np.pi), rng.uniform(0.004, 0.016)
        step = (speed * np.cos(angle), speed * np.sin(angle))
        start = (rng.uniform(0, 1), rng.uniform(0, 1))
        return Stretch(still, int(rng.integers(length[0], length[1] + 1)), start, step, rng.uniform(*_ZOOM))

    def shots(self) -> Iterator[Shot]:
        brightness = iter(light(len(self)))
        for stretch in self._stretches:
            still = self._stills[stretch.still]
            height, width = still.image.shape[:2]
            view = np.array([1.0, HEIGHT / WIDTH]) * stretch.zoom * min(width, height * WIDTH / HEIGHT)
            free = np.array([width, height]) - view
            for k in range(stretch.frames):
                corner = _bounce(np.array(stretch.start) + k * np.array(stretch.step)) * free
                picture = _cut(still.image, corner, float(view[0]))
                yield Shot(
                    expose(picture, float(next(brightness)), self._rng),
                    _seen(still.labels, corner, view, stretch.still),
                    stretch.still,
                    (float(corner[0]), float(corner[1]), float(view[0])),
                )


def _endless(items: list[int], rng: np.random.Generator) -> Iterator[int]:
    """All of them in random order, again and again."""
    while items:
        yield from (items[i] for i in rng.permutation(len(items)))


def _bounce(at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Into 0..1, reflected at the ends: the pan turns round at the still's edge."""
    return 1.0 - np.abs(1.0 - np.mod(at, 2.0))


def _cut(image: NDArray[np.uint8], corner: NDArray[np.float64], width: float) -> NDArray[np.float32]:
    scale = WIDTH / width
    shift = np.array([[scale, 0, -corner[0] * scale], [0, scale, -corner[1] * scale]])
    cut = cv2.warpAffine(image, shift, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return cut.astype(np.float32)


def _seen(
    labels: NDArray[np.float32], corner: NDArray[np.float64], view: NDArray[np.float64], scene: int
) -> NDArray[np.float32]:
    boxes = (labels[:, 1:].reshape(-1, 2, 2) - corner) / view
    inside = np.clip(boxes, 0, 1)
    part = (inside[:, 1] - inside[:, 0]).prod(1) / np.maximum((boxes[:, 1] - boxes[:, 0]).prod(1), 1e-9)
    size = (inside[:, 1] - inside[:, 0]).min(1)
    ignored = (part < _VISIBLE) | (size < 0.012)
    ids = scene * _SPACE + np.arange(len(labels))
    table = np.column_stack([ids, labels[:, 0], inside.reshape(-1, 4), ignored]).astype(np.float32)
    visible: NDArray[np.float32] = table[part > 0.02]
    return visible
