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
MAX_OBJECTS = 64
"""Of a frame; those below add nothing to the picks and cost time."""

_TAIL_SHARE, _TAIL_SLOPE = 1 / 3, 4
"""A class as rare as the rarest third of all classes has half of the highest weight, one twice as frequent 1/17."""
_RARE_ERROR, _RARE_SERVED = 2.0, 0.3
"""How much more an error on the rarest class counts, and what a served object of it is worth even if it is right."""
_AGAIN, _AGAIN_WRONG = 0.7, 0.9
"""IoU from which two rows of a class are one object, and the chance that the second one, if served, is wrong."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """The distinct objects of one frame, most confident first: all arrays have one entry per object."""

    boxes: Floats
    """(n, 4): x1 y1 x2 y2, relative to the frame, 0..1."""
    classes: Ints
    confidence: Floats
    kinds: Ints
    """Class x 2, + 1 where it is served: what coverage tells apart."""
    rank: Ints
    """How many objects of its kind are more confident."""
    error: Floats
    """Chance that the row is an error, 0..1."""
    unsure: Floats
    """Worth to the uncertain lane: error, up to three times as much for a rare class."""
    tail: Floats
    """Worth to the rare lane: class weight x (error + .3 where it is served)."""
    served: int
    """How many of them are at or above the serving threshold."""

    @property
    def eec(self) -> float:
        """Expected error count of the frame."""
        return float(self.error.sum())


def overlap(boxes: Floats, others: Floats) -> Floats:
    """IoU of each of `boxes` (n, 4) with each of `others` (m, 4): (n, m)."""
    left, top, right, bottom = boxes.T[:, :, None]
    left2, top2, right2, bottom2 = others.T
    width = np.minimum(right, right2) - np.maximum(left, left2)
    height = np.minimum(bottom, bottom2) - np.maximum(top, top2)
    common = np.maximum(width, 0) * np.maximum(height, 0)
    area, other = (right - left) * (bottom - top), (right2 - left2) * (bottom2 - top2)
    ratio: Floats = common / np.maximum(area + other - common, 1e-9)
    return ratio


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
    weights = 1.0 / (1.0 + (seen / centre) ** _TAIL_SLOPE)
    for index, name in enumerate(classes):
        if name in need:
            weights[index] = np.clip(need[name], 0.0, 1.0)
    return weights.astype(np.float32)


def weigh(rows: Rows, width: int, height: int, *, serve: float, odds: float, weights: Floats) -> Evidence:
    """Evidence of clean rows (see `clean_rows`) of a frame of `width` x `height` pixels.

    Rows with one and the same box are one object under several class names (9.7 % of YOLO26n's boxes above .02): the
    most confident name stays. A row on top of a more confident one of its class is the same object again: wrong in 8 of
    10 cases where it is served (measured on TailStream), no evidence where it is not.
    """
    rows = _distinct(rows)[:MAX_OBJECTS]
    confidence = np.minimum(rows[:, 4], np.float32(1.0))
    classes = rows[:, 5].astype(np.intp)
    boxes: Floats = np.clip(rows[:, :4] / np.array([width, height, width, height], np.float32), 0, 1)
    served = confidence >= serve
    chance = repair(confidence, odds)
    error = np.where(served, 1.0 - chance, chance)
    if len(rows) > 1:
        above = np.tri(len(rows), k=-1, dtype=np.bool_) & (classes[:, None] == classes)
        again = (above & (overlap(boxes, boxes) > _AGAIN)).any(axis=1)
        error = np.where(again, np.where(served, _AGAIN_WRONG, 0.0), error)
    kinds = classes * 2 + served
    rank = np.tril(kinds[:, None] == kinds, k=-1).sum(axis=1)
    weight = weights[classes]
    unsure, tail = error * (1 + _RARE_ERROR * weight), weight * (error + _RARE_SERVED * served)
    return Evidence(boxes, classes, confidence, kinds, rank, error, unsure, tail, int(served.sum()))


def _distinct(rows: Rows) -> Rows:
    """The first row of each box."""
    if len(rows) < 2:
        return rows
    place = rows[:, :4].astype(np.float64) @ np.array([1.0, 7919.0, 104_729.0, 1_299_709.0])
    _, first = np.unique(place, return_index=True)
    return rows[np.sort(first)]
