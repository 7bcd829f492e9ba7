"""What follows `world:` in a camera source: the scene and its keys."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any
from urllib.parse import parse_qsl

_LIMITS: dict[str, tuple[float, float]] = {
    "seed": (0, 2**31 - 1), "day": (0, 100_000), "fps": (1, 60), "start": (0, 24), "day_s": (10, 86_400),
    "pace": (0, 4), "rare": (0, 20), "still": (0, 1), "shake": (0, 3),
}  # fmt: skip


class SpecError(ValueError):
    """The part after `world:` is not a scene this world can show."""


@dataclass(frozen=True)
class Spec:
    """A street: which one, which day, and how time passes in it."""

    seed: int = 1
    day: int = 0
    fps: float = 10.0
    """Frames per media second."""
    start: float = 14.0
    """Hour of the day at index 0."""
    day_s: float = 300.0
    """Length of a day (media seconds); 86400 is real time."""
    pace: float = 1.0
    """Arrivals, as a multiple of a busy street."""
    rare: float = 2.5
    """Extra factor on the arrivals of rare classes."""
    still: float = 0.0
    """Share of 40-second stretches in which nobody arrives."""
    shake: float = 1.0
    """Amplitude of the camera's shaking in gusts of wind (px)."""

    def hour(self, time: float) -> float:
        """Hour of the day (0..24) at a media time (s)."""
        return (self.start + time / self.day_s * 24.0) % 24.0


def parse(text: str) -> Spec:
    """Read `street?key=value&...`; SpecError says what is wrong and what would be right."""
    scene, _, query = text.partition("?")
    if scene != "street":
        raise SpecError(f"unknown scene {scene!r} in 'world:{text}': there is one scene, 'street'")
    values: dict[str, Any] = {}
    known = {field.name for field in fields(Spec)}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key not in known:
            raise SpecError(f"unknown key {key!r} in 'world:{text}': known keys are {', '.join(sorted(known))}")
        values[key] = _number(key, value)
    return Spec(**values)


def _number(key: str, value: str) -> float | int:
    low, high = _LIMITS[key]
    whole = key in ("seed", "day")
    try:
        number: float | int = int(value) if whole else float(value)
    except ValueError:
        number = math.nan
    if not low <= number <= high:
        kind = "whole number" if whole else "number"
        raise SpecError(f"{key}={value!r} is not right: a {kind} from {low:g} to {high:g} is needed")
    return number
