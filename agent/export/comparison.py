"""Is a new model better than the old one, and where? Average precision of both on the same frames, with intervals.

Frames are drawn again with replacement, the same ones for both models (a paired bootstrap: Efron & Tibshirani 1993),
so what makes a frame hard for both cancels out of the difference. Everything here is arithmetic on numpy arrays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from agent.export.evaluate import Scored, average_precision

Verdict: TypeAlias = Literal["better", "same", "degraded", "tail degraded"]
Floats: TypeAlias = NDArray[np.float64]

LEVEL = 0.95
"""Of the intervals."""


@dataclass(frozen=True, eq=False)
class Judged:
    """One frame, one model: confidence, class and rightness (IoU .5) of each row, and the classes of what was there."""

    confidence: Floats
    classes: NDArray[np.int64]
    right: NDArray[np.bool_]
    there: NDArray[np.int64]


@dataclass(frozen=True)
class Group:
    """Mean average precision of some classes: of both models, and the interval of new - old."""

    old: float
    new: float
    low: float
    high: float

    @property
    def worse(self) -> bool:
        """The whole interval lies below zero."""
        return self.high < 0

    @property
    def better(self) -> bool:
        """The whole interval lies above zero."""
        return self.low > 0


@dataclass(frozen=True)
class Comparison:
    """Old against new. NaN where a group has no object in the frames."""

    groups: dict[str, Group]
    """all, head, tail."""
    classes: tuple[Group, ...]
    objects: tuple[int, ...]
    tail: tuple[int, ...]
    frames: int
    draws: int

    @property
    def verdict(self) -> Verdict:
        """Degraded where all or the head lost for certain, tail degraded where the tail did; a gain needs no loss."""
        if self.groups["all"].worse or self.groups["head"].worse:
            return "degraded"
        if self.groups["tail"].worse:
            return "tail degraded"
        return "better" if any(group.better for group in self.groups.values()) else "same"

    def document(self, names: Sequence[str]) -> dict[str, Any]:
        """For a manifest: plain JSON."""
        each = zip(names, self.classes, self.objects, range(len(names)), strict=True)
        return {
            "verdict": self.verdict,
            "metric": "AP50",
            "frames": self.frames,
            "draws": self.draws,
            "level": LEVEL,
            "groups": {name: _rounded(group) for name, group in self.groups.items()},
            "classes": {
                name: {**_rounded(group), "objects": count, "group": "tail" if number in self.tail else "head"}
                for name, group, count, number in each
            },
        }


def tail_of(counts: Sequence[int]) -> tuple[int, ...]:
    """The rarest third of the classes by labelled training objects; of equally rare ones, the later."""
    order = sorted(range(len(counts)), key=lambda cls: (counts[cls], -cls))
    return tuple(sorted(order[: max(1, round(len(counts) / 3))]))


def compare(
    old: Sequence[Judged], new: Sequence[Judged], classes: int, tail: Sequence[int], *, draws: int, seed: int
) -> Comparison:
    """Compare two models on the same frames in the same order."""
    if len(old) != len(new) or not old:
        raise ValueError(f"{len(old)} frames of the old model and {len(new)} of the new")
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(old), np.full(len(old), 1 / len(old)), size=draws).astype(np.float64)
    weights = np.vstack([np.ones(len(old)), weights])  # the frames as they are come first
    there = np.array([np.bincount(frame.there, minlength=classes) for frame in old])
    aps = np.array([_precisions(frames, there, weights, classes) for frames in (old, new)])
    head = [cls for cls in range(classes) if cls not in tail]
    groups = {"all": list(range(classes)), "head": head, "tail": list(tail)}
    return Comparison(
        groups={name: _group(aps, members) for name, members in groups.items()},
        classes=tuple(_group(aps, [cls]) for cls in range(classes)),
        objects=tuple(there.sum(axis=0).tolist()),
        tail=tuple(tail),
        frames=len(old),
        draws=draws,
    )


def _precisions(frames: Sequence[Judged], there: NDArray[np.int64], weights: Floats, classes: int) -> Floats:
    """Average precision (draws, classes), each frame counted as often as it was drawn."""
    frame = np.repeat(np.arange(len(frames)), [len(one.confidence) for one in frames])
    confidence = np.concatenate([one.confidence for one in frames])
    cls = np.concatenate([one.classes for one in frames])
    right = np.concatenate([one.right for one in frames]).astype(np.float64)
    order = np.argsort(-confidence, kind="stable")
    result = np.full((len(weights), classes), math.nan)
    for number in np.flatnonzero(there.sum(axis=0)):
        mine = order[cls[order] == number]
        objects = weights @ there[:, number]
        for draw, weight in enumerate(weights):
            scored = Scored(confidence[mine], right[mine], int(objects[draw]))
            result[draw, number] = average_precision(scored, weight[frame[mine]])
    return result


def _group(aps: Floats, members: Sequence[int]) -> Group:
    """Mean over the classes that have objects (in that draw), and the percentile interval of the difference."""
    known = ~np.isnan(aps[:, :, members])
    sums, counts = np.where(known, aps[:, :, members], 0.0).sum(axis=2), known.sum(axis=2)
    means = np.where(counts > 0, sums / np.maximum(counts, 1), math.nan)
    if math.isnan(means[0, 0]):
        return Group(math.nan, math.nan, math.nan, math.nan)
    edge = (1 - LEVEL) / 2
    low, high = np.nanquantile(means[1, 1:] - means[0, 1:], [edge, 1 - edge])
    return Group(float(means[0, 0]), float(means[1, 0]), float(low), float(high))


def _rounded(group: Group) -> dict[str, float | None]:
    values = {"old": group.old, "new": group.new, "low": group.low, "high": group.high}
    return {key: None if math.isnan(value) else round(value, 4) for key, value in values.items()}
