"""What the soak's rounds come to, and which promises that breaks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

SLOPE_LIMIT = 2.0
"""MB of resident memory per hour after warm-up."""
ENOUGH = 12
"""Rounds after warm-up below which a slope says nothing."""


class Sample(NamedTuple):
    """One look at a process, or what a quiet time came to."""

    t: float
    """Monotonic hours."""
    rss_mb: float
    anonymous_mb: float
    """The part of it that is not the content of files."""
    descriptors: float
    threads: float


class Keeper:
    """Writes every sample into a file, a JSON object per line; into none without `path`."""

    def __init__(self, path: Path | None) -> None:
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("w", buffering=1, encoding="utf-8") if path else None

    def keep(self, name: str, rounds: int, sample: Sample) -> None:
        if self._file:
            self._file.write(json.dumps({"process": name, "round": rounds, **sample._asdict()}) + "\n")

    def close(self) -> None:
        if self._file:
            self._file.close()


def slope(samples: Sequence[Sample], what: str = "rss_mb") -> tuple[float, float, float]:
    """MB per hour: the median of all pairs' slopes, and its 90 % interval (Theil 1950, Sen 1968).

    One round that a busy machine or a late first use has lifted does not move it, as it would a least squares line.
    """
    n = len(samples)
    found = [
        (getattr(b, what) - getattr(a, what)) / (b.t - a.t) for i, a in enumerate(samples) for b in samples[i + 1 :]
    ]
    slopes = np.sort(found or [np.nan])
    reach = 1.645 * np.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    low, high = (round((len(slopes) + side * reach) / 2) for side in (-1, 1))
    return float(np.median(slopes)), float(slopes[max(0, low)]), float(slopes[min(len(slopes) - 1, high)])


def figures(late: Sequence[Sample]) -> dict[str, Any]:
    """Of one process, of its rounds after warm-up."""
    middle, low, high = slope(late)
    return {
        "rounds": len(late),
        "rss_mb": [round(sample.rss_mb, 1) for sample in (late[0], late[-1])],
        "rss_slope_mb_per_hour": round(middle, 2),
        "slope_90_percent": [round(low, 2), round(high, 2)],
        "anonymous_slope_mb_per_hour": round(slope(late, "anonymous_mb")[0], 2),
        "descriptors": most([sample.descriptors for sample in late]),
        "threads": most([sample.threads for sample in late]),
    }


def most(values: Sequence[float]) -> list[float]:
    """The highest of the first half, and of the second."""
    half = (len(values) + 1) // 2
    return [max(part) for part in (values[:half], values[half:]) if part]


def broken(result: dict[str, Any]) -> Iterator[str]:
    """Each promise that does not hold."""
    if result["lost"] or not result["candidates"]:
        yield f"{result['lost']} of {result['candidates']} lost"
    for name in ("run", "collect"):
        found = result[name]
        if found["rounds"] >= ENOUGH and found["rss_slope_mb_per_hour"] >= SLOPE_LIMIT:
            yield f"{name} grows by {found['rss_slope_mb_per_hour']} MB an hour"
        yield from (
            f"{name}: {what} {found[what]}" for what in ("descriptors", "threads") if found[what][-1] > found[what][0]
        )
