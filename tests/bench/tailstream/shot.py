"""A rendered frame with its truth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from agent.records import Image

WIDTH, HEIGHT = 640, 480
FPS = 5.0


@dataclass(frozen=True, slots=True)
class Shot:
    """One frame of a stream."""

    image: Image
    truth: NDArray[np.float32]
    """(n, 7): instance id, class, x1 y1 x2 y2 relative to the frame, 1 where it is not judged (cut off, unlabelled)."""
    scene: int
    """What is looked at; instance ids are unique over all scenes."""
    pose: tuple[float, float, float]
    """Left, top and width of the frame in the scene's own coordinates."""


class Plan(Protocol):
    """A stream that has been drawn up and can be rendered."""

    @property
    def name(self) -> str: ...

    def __len__(self) -> int: ...

    def shots(self) -> Iterator[Shot]: ...


def light(frames: int) -> NDArray[np.float64]:
    """Brightness over a stream: day, dusk, night, day; 1 at noon, .22 at night."""
    at = np.linspace(0.0, 1.0, frames)
    return np.interp(at, [0.0, 0.40, 0.52, 0.80, 0.88, 1.0], [1.0, 0.95, 0.22, 0.22, 0.9, 1.0])


@cache
def _grain() -> NDArray[np.float32]:
    """Unit noise, larger than a frame: each frame takes another corner of it, which is cheap and never repeats."""
    return np.random.default_rng(0).standard_normal((HEIGHT + 256, WIDTH + 256, 3), dtype=np.float32)


def expose(image: NDArray[np.float32], brightness: float, rng: np.random.Generator) -> Image:
    """The camera's picture of a scene under that light: darker, bluer, and noisier the darker it is."""
    tint = np.array([1.0, 1.0 - 0.06 * (1 - brightness), 1.0 - 0.14 * (1 - brightness)], np.float32)
    top, left = rng.integers(0, 256, 2)
    noise = _grain()[top : top + HEIGHT, left : left + WIDTH] * np.float32(1.5 + 4.0 * (1 - brightness))
    picture: Image = np.clip(image * (tint * np.float32(brightness)) + noise, 0, 255).astype(np.uint8)
    return picture
