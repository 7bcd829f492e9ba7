"""What a frame's rows say about the model's errors: evidence per object, before any memory is asked.

The exported model gives rows far below the serving threshold, and the gap is where missed objects show. Each row is
worth its chance of being an error: served and wrong, or held back and right. Measured on COCO val2017
(selection.md): the sum of these, the expected error count (EEC), finds frames with errors at AUROC .887; entropies
and confidence bands do worse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from agent.records import Rows

Floats: TypeAlias = NDArray[np.floating[Any]]
Ints: TypeAlias = NDArray[np.intp]

MAX_ROWS = 300
"""What YOLO26n gives at most; more from anywhere else are cut."""

_TAIL_SHARE = 1 / 3
"""A class as rare as the rarest third of all classes has half of the highest weight."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """The distinct objects of one frame, best first: all arrays have one entry per object."""

    boxes: Floats
    """(n, 4): x1 y1 x2 y2, relative to the frame, 0..1."""
    classes: Ints
    confidence: Floats
    error: Floats
    """Chance that the row is an error, 0..1."""
    tail: Floats
    """Class weight x (error + half the confidence): worth of the row to the rare lane."""
    served: int
    """How many of them are at or above the serving threshold."""

    @property
    def eec(self) -> float:
        """Expected error count of the frame."""
        return float(self.error.sum())


def clean_rows(rows: Rows, floor: float, classes: int) -> Rows:
    """Usable rows in one canonical order, whatever came: finite, above the floor, of a known class, with an area.

    Highest confidence first; ties are ordered by class and place, so that equal sets of rows give equal picks.
    """
    table = np.asarray(rows, np.float32)
    if table.ndim != 2 or table.shape[1:] != (6,):
        return np.empty((0, 6), np.float32)
    x1, y1, x2, y2, confidence, cls = table.T
    with np.errstate(invalid="ignore"):
        usable = np.isfinite(table).all(axis=1) & (x2 > x1) & (y2 > y1) & (confidence >= floor)
        usable &= (cls >= 0) & (cls < classes)
    table = table[usable]
    order = np.lexsort((*table.T[:4], table[:, 5], -table[:, 4]))
    best: Rows = table[order[:MAX_ROWS]]
    return best


def repair(confidence: Floats, odds: float) -> Floats:
    """Confidence made a probability: the model's odds times `odds` (2.2 for YOLO26n, fitted on COCO val2017)."""
    scaled = np.clip(confidence, 0.0, 1.0) * np.float32(odds)
    chance: Floats = scaled / (1.0 - np.clip(confidence, 0.0, 1.0) + scaled)
    return chance


def class_weights(counts: Sequence[float] | Floats, need: Mapping[str, float], classes: Sequence[str]) -> Floats:
    """Weight per class, 0..1: rare in training means close to 1; the fleet's need map overrides the classes it names.

    A logistic curve over log count, centred on the count that separates the rarest third.
    """
    seen = np.maximum(np.asarray(counts, np.float64), 1.0)
    centre = float(np.quantile(seen, _TAIL_SHARE)) if seen.size else 1.0
    weights = 1.0 / (1.0 + seen / centre)
    for index, name in enumerate(classes):
        if name in need:
            weights[index] = np.clip(need[name], 0.0, 1.0)
    return weights.astype(np.float32)


def weigh(rows: Rows, width: int, height: int, *, serve: float, odds: float, weights: Floats) -> Evidence:
    """Evidence of clean rows (see `clean_rows`) of a frame of `width` x `height` pixels.

    Rows with one and the same box are one object under several class names (9.7 % of YOLO26n's boxes above .02): the
    most confident name stays.
    """
    if len(rows) > 1:
        place = rows[:, :4].astype(np.float64) @ np.array([1.0, 7919.0, 104_729.0, 1_299_709.0])
        _, first = np.unique(place, return_index=True)
        rows = rows[np.sort(first)]
    confidence = np.minimum(rows[:, 4], np.float32(1.0))
    chance = repair(confidence, odds)
    error = np.where(confidence >= serve, 1.0 - chance, chance)
    classes = rows[:, 5].astype(np.intp)
    boxes: Floats = np.clip(rows[:, :4] / np.array([width, height, width, height], np.float32), 0, 1)
    tail = weights[classes] * (error + 0.5 * confidence)
    return Evidence(boxes, classes, confidence, error, tail, int((confidence >= serve).sum()))
