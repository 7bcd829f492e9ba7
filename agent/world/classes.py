"""What can appear on the street: names, how often each is met, and how it moves.

The frequencies follow a Zipf-Mandelbrot law, 1 / (rank + 2)^3.5: the first class makes up more than half of all
arrivals, the last one about two in a thousand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Manner = Literal["walk", "ride", "drive", "corner"]


@dataclass(frozen=True)
class Kind:
    """One class of the world. `manner` chooses its path, `ppm` is the resolution of its drawing (pixels per metre)."""

    name: str
    manner: Manner
    ppm: int


KINDS: tuple[Kind, ...] = (
    Kind("person", "walk", 56),
    Kind("car", "drive", 46),
    Kind("bicycle", "ride", 50),
    Kind("van", "drive", 46),
    Kind("dog", "walk", 56),
    Kind("truck", "drive", 44),
    Kind("motorcycle", "ride", 50),
    Kind("bus", "drive", 44),
    Kind("pram", "corner", 56),
    Kind("scooter", "ride", 52),
    Kind("tractor", "drive", 46),
    Kind("wheelchair", "corner", 56),
    Kind("horse", "ride", 46),
    Kind("forklift", "drive", 46),
)
NAMES: tuple[str, ...] = tuple(kind.name for kind in KINDS)
HEAD: tuple[int, ...] = (0, 1, 2, 3)
"""Classes with at least one arrival in twenty."""
TAIL: tuple[int, ...] = (8, 9, 10, 11, 12, 13)
"""Classes with at most one arrival in a hundred."""
PROP = -1
"""Class id of street furniture: it hides things but is never labelled."""

_RAW = tuple(1.0 / (rank + 2.0) ** 3.5 for rank in range(1, len(KINDS) + 1))
FREQUENCY: tuple[float, ...] = tuple(raw / sum(_RAW) for raw in _RAW)
"""Share of all arrivals, per class."""
