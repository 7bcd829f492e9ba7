"""Drawing in metres: shapes on a transparent canvas, then one pass of shading that makes them look round.

A drawing faces right, its feet stand on y = 0, y grows upwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int]
Point = tuple[float, float]
Image = NDArray[np.uint8]
Outline = NDArray[np.float64]

_OVERSAMPLING = 3
_SHIFT = 4


@dataclass(frozen=True, eq=False)
class Sprite:
    """A drawing ready to be placed: premultiplied BGRA, its resolution, its foot point and its lights.

    `foot` is in pixels of the image; `lamps` are (x, y in metres from the foot, white?) of lights that shine at night.
    """

    image: Image
    ppm: float
    foot: Point
    lamps: tuple[tuple[float, float, bool], ...] = ()

    def mirrored(self) -> Sprite:
        """The same drawing facing left."""
        image = np.ascontiguousarray(self.image[:, ::-1])
        foot = (self.image.shape[1] - 1 - self.foot[0], self.foot[1])
        return replace(self, image=image, foot=foot, lamps=tuple((-x, y, white) for x, y, white in self.lamps))


class Pen:
    """Draws filled shapes in metres on a canvas of `left..right` by `0-ish..top` metres."""

    def __init__(self, left: float, right: float, top: float, ppm: float, below: float = 0.12) -> None:
        self._scale = ppm * _OVERSAMPLING
        self._ppm, self._left, self._top = ppm, left, top
        height, width = round((top + below) * ppm), round((right - left) * ppm)
        self._canvas = np.zeros((height * _OVERSAMPLING, width * _OVERSAMPLING, 4), np.uint8)
        self._lamps: list[tuple[float, float, bool]] = []

    def _pixels(self, xy: Outline) -> NDArray[np.int32]:
        grid = np.stack([(xy[:, 0] - self._left) * self._scale, (self._top - xy[:, 1]) * self._scale], axis=1)
        return np.rint(grid * (1 << _SHIFT)).astype(np.int32)

    def poly(self, points: Sequence[Point], colour: Colour) -> None:
        """Fill a polygon."""
        self._fill(np.asarray(points, np.float64), colour)

    def _fill(self, points: Outline, colour: Colour) -> None:
        cv2.fillPoly(self._canvas, [self._pixels(points)], (*colour, 255), cv2.LINE_8, _SHIFT)

    def rect(self, x0: float, y0: float, x1: float, y1: float, colour: Colour) -> None:
        """Fill an upright rectangle."""
        self.poly([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], colour)

    def disc(self, x: float, y: float, rx: float, ry: float, colour: Colour, *, angle: float = 0.0) -> None:
        """Fill an ellipse with half axes `rx`, `ry`, turned by `angle` degrees."""
        turn = np.linspace(0.0, 2.0 * np.pi, 28, endpoint=False)
        cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        px, py = rx * np.cos(turn), ry * np.sin(turn)
        self._fill(np.stack([x + px * cos - py * sin, y + px * sin + py * cos], axis=1), colour)

    def ring(self, x: float, y: float, radius: float, width: float, colour: Colour) -> None:
        """Draw a circle line of `width` metres."""
        centre = self._pixels(np.array([(x, y)]))[0]
        size = round(radius * self._scale * (1 << _SHIFT))
        thick = max(1, round(width * self._scale))
        cv2.circle(self._canvas, (int(centre[0]), int(centre[1])), size, (*colour, 255), thick, cv2.LINE_8, _SHIFT)

    def line(self, points: Sequence[Point], width: float, colour: Colour) -> None:
        """Draw a line of `width` metres through the points."""
        thick = max(1, round(width * self._scale))
        cv2.polylines(
            self._canvas,
            [self._pixels(np.asarray(points, np.float64))],
            False,
            (*colour, 255),
            thick,
            cv2.LINE_8,
            _SHIFT,
        )

    def limb(self, start: Point, end: Point, wide: float, narrow: float, colour: Colour) -> None:
        """A tapering limb with round ends, `wide` and `narrow` metres across."""
        along = np.array([end[0] - start[0], end[1] - start[1]])
        across = np.array([-along[1], along[0]]) / max(float(np.hypot(*along)), 1e-6)
        first, last = across * wide / 2, across * narrow / 2
        self.poly(
            [
                (start[0] + first[0], start[1] + first[1]),
                (end[0] + last[0], end[1] + last[1]),
                (end[0] - last[0], end[1] - last[1]),
                (start[0] - first[0], start[1] - first[1]),
            ],
            colour,
        )
        self.disc(*start, wide / 2, wide / 2, colour)
        self.disc(*end, narrow / 2, narrow / 2, colour)

    def solid(self, outline: Sequence[Point], depth: Point, top: Colour, side: Colour) -> None:
        """A body seen a little from above: the far outline shifted by `depth` metres, filled to the near side."""
        steps = 7
        for step in range(steps, 0, -1):
            share = step / steps
            self.poly([(x + depth[0] * share, y + depth[1] * share) for x, y in outline], top)
        self.poly(outline, side)

    def lamp(self, x: float, y: float, white: bool) -> None:
        """Remember a light; it is lit at night."""
        self._lamps.append((x, y, white))

    def finish(self, roundness: float = 0.3) -> Sprite:
        """Shade the drawing (light from the upper left, darker towards the ground) and reduce it to its resolution."""
        height, width = self._canvas.shape[0] // _OVERSAMPLING, self._canvas.shape[1] // _OVERSAMPLING
        small = cv2.resize(self._canvas, (width, height), interpolation=cv2.INTER_AREA)
        alpha = small[:, :, 3].astype(np.float32) / 255.0
        soft = cv2.GaussianBlur(alpha, (0, 0), max(0.05 * self._ppm, 1.0))
        slope = cv2.Sobel(soft, cv2.CV_32F, 0, 1) + 0.5 * cv2.Sobel(soft, cv2.CV_32F, 1, 0)
        fall = np.linspace(1.06, 0.86, height, dtype=np.float32)[:, None]
        shade = fall * (1.0 + roundness * np.clip(slope, -1.2, 1.2))
        colour = np.clip(small[:, :, :3] * shade[:, :, None], 0, 255)
        colour = np.minimum(colour, small[:, :, 3:])
        image = np.dstack([colour, small[:, :, 3:]]).astype(np.uint8)
        foot = (-self._left * self._ppm, self._top * self._ppm)
        return Sprite(np.ascontiguousarray(image), self._ppm, foot, tuple(self._lamps))


def tone(colour: Colour, factor: float) -> Colour:
    """The colour made darker or lighter."""
    b, g, r = (min(255, max(0, round(channel * factor))) for channel in colour)
    return (b, g, r)


def pick(rng: np.random.Generator, colours: Sequence[Colour], spread: float = 14.0) -> Colour:
    """One of the colours, varied a little."""
    base = np.asarray(colours[int(rng.integers(len(colours)))], np.float64) + rng.normal(0, spread, 3)
    b, g, r = (int(channel) for channel in np.clip(base, 4, 250))
    return (b, g, r)
