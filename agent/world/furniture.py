"""Street furniture that stands in front of what passes behind it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from agent.world.pen import Pen, Sprite, pick, tone

PPM = 54.0


def draw(kind: str, rng: np.random.Generator) -> Sprite:
    """The piece of furniture of this kind."""
    return _SHAPES[kind](rng)


def _post(_rng: np.random.Generator) -> Sprite:
    pen = Pen(-0.4, 0.4, 6.9, PPM)
    pen.rect(-0.07, 0.0, 0.07, 6.9, (70, 72, 74))
    pen.rect(-0.12, 0.0, 0.12, 0.6, (60, 62, 64))
    return pen.finish()


def _trunk(rng: np.random.Generator) -> Sprite:
    pen = Pen(-0.5, 0.5, 6.9, PPM)
    pen.poly([(-0.24, 0), (0.26, 0), (0.14, 1.0), (0.12, 6.9), (-0.1, 6.9), (-0.13, 1.0)], (58, 74, 92))
    for y in np.arange(0.2, 6.8, 0.22):
        x = float(rng.uniform(-0.1, 0.08))
        pen.line([(x, y), (x + 0.03, y + 0.18)], 0.03, (42, 54, 68))
    return pen.finish()


def _planter(rng: np.random.Generator) -> Sprite:
    pen = Pen(-0.9, 0.9, 1.3, PPM)
    for _ in range(60):
        x, y = float(rng.uniform(-0.65, 0.65)), float(rng.uniform(0.5, 1.0))
        pen.disc(
            x, y, 0.12, 0.09, pick(rng, ((50, 105, 75), (40, 85, 60), (70, 130, 90))), angle=float(rng.uniform(0, 180))
        )
    pen.rect(-0.7, 0.0, 0.7, 0.5, (120, 125, 130))
    pen.rect(-0.74, 0.44, 0.74, 0.54, (140, 145, 150))
    return pen.finish()


def _bin(rng: np.random.Generator) -> Sprite:
    colour = pick(rng, ((60, 90, 50), (60, 60, 64), (150, 90, 50)))
    pen = Pen(-0.45, 0.45, 1.25, PPM)
    pen.poly([(-0.22, 0.05), (0.22, 0.05), (0.28, 0.95), (-0.28, 0.95)], colour)
    pen.rect(-0.32, 0.93, 0.32, 1.05, tone(colour, 0.7))
    return pen.finish()


def _sign(_rng: np.random.Generator) -> Sprite:
    pen = Pen(-0.5, 0.5, 2.7, PPM)
    pen.rect(-0.035, 0.0, 0.035, 2.6, (140, 142, 145))
    pen.disc(0.0, 2.3, 0.3, 0.3, (50, 50, 200))
    pen.disc(0.0, 2.3, 0.21, 0.21, (225, 225, 225))
    return pen.finish()


def _bollard(_rng: np.random.Generator) -> Sprite:
    pen = Pen(-0.3, 0.3, 1.1, PPM)
    pen.rect(-0.09, 0.0, 0.09, 0.95, (62, 64, 66))
    pen.rect(-0.09, 0.75, 0.09, 0.85, (220, 222, 225))
    return pen.finish()


_SHAPES: dict[str, Callable[[np.random.Generator], Sprite]] = {
    "post": _post, "trunk": _trunk, "planter": _planter, "bin": _bin, "sign": _sign, "bollard": _bollard,
}  # fmt: skip
