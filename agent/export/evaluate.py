"""How good a detector is against the world's exact truth: average precision per class and calibration."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from agent.export.frames import labelled
from agent.records import Rows
from agent.world.truth import Thing

IOU = 0.5
Box: TypeAlias = tuple[float, float, float, float]
Boxes: TypeAlias = Sequence[tuple[int, Box]]
"""Class and x1 y1 x2 y2 (pixels) of each object."""


@dataclass(frozen=True, eq=False)
class Scored:
    """All rows of one class over a set of frames: confidence, and 1 right, 0 wrong. `objects` were to be found."""

    confidence: NDArray[np.float64]
    right: NDArray[np.float64]
    objects: int


def score(frames: Iterable[tuple[Rows, Sequence[Thing]]], classes: int) -> list[Scored]:
    """Match rows to truth at IoU .5, best confidence first. Things too hidden to be labelled count neither way."""
    return gather(map(_sorted_out, frames), classes)


def _sorted_out(frame: tuple[Rows, Sequence[Thing]]) -> tuple[Rows, Boxes, Boxes]:
    rows, things = frame
    wanted = labelled(list(things))
    hidden = [(thing.cls, thing.box) for thing in things if thing not in wanted]
    return rows, [(thing.cls, thing.box) for thing in wanted], hidden


def gather(frames: Iterable[tuple[Rows, Boxes, Boxes]], classes: int) -> list[Scored]:
    """The same for frames with the objects that are to be found, and those that count neither way."""
    hits: list[list[tuple[float, float]]] = [[] for _ in range(classes)]
    objects = [0] * classes
    for rows, wanted, hidden in frames:
        for cls, _ in wanted:
            objects[cls] += 1
        for number in {int(row[5]) for row in rows}:
            mine, veiled = ([box for cls, box in boxes if cls == number] for boxes in (wanted, hidden))
            hits[number] += _matches(rows[rows[:, 5] == number], mine, veiled)
    result = []
    for found, count in zip(hits, objects, strict=True):
        pairs = np.array(sorted(found, reverse=True), np.float64).reshape(-1, 2)
        result.append(Scored(pairs[:, 0], pairs[:, 1], count))
    return result


def _matches(rows: Rows, wanted: list[Box], hidden: list[Box]) -> list[tuple[float, float]]:
    """(confidence, right) of the rows of one class in one frame; rows on hidden things are left out."""
    overlap, veiled = iou(rows[:, :4], wanted), iou(rows[:, :4], hidden)
    free = np.ones(len(wanted), bool)
    found = []
    for number in np.argsort(-rows[:, 4], kind="stable"):
        candidates = np.where(free, overlap[number], 0.0)
        best = int(candidates.argmax()) if len(wanted) else -1
        if best >= 0 and candidates[best] >= IOU:
            free[best] = False
            found.append((float(rows[number, 4]), 1.0))
        elif not (len(hidden) and veiled[number].max() >= IOU):
            found.append((float(rows[number, 4]), 0.0))
    return found


def iou(boxes: Rows, others: Sequence[Box]) -> NDArray[np.float64]:
    """Intersection over union, shape (n, m), of boxes (n, 4) and m others, all x1 y1 x2 y2."""
    a, b = np.asarray(boxes, np.float64)[:, None], np.asarray(others, np.float64).reshape(-1, 4)[None]
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    inner = np.prod(np.clip(high - low, 0, None), axis=2)
    union = np.prod(a[..., 2:] - a[..., :2], axis=2) + np.prod(b[..., 2:] - b[..., :2], axis=2) - inner
    return np.asarray(inner / np.maximum(union, 1e-9), np.float64)


def average_precision(scored: Scored, weights: NDArray[np.float64] | None = None) -> float:
    """Area under the precision envelope at 101 recalls (COCO's rule); NaN where the class has no object.

    Rows are in falling order of confidence; `weights` says how often each of them counts (default: once).
    """
    if not scored.objects:
        return float("nan")
    counted = np.ones(len(scored.right)) if weights is None else weights
    right = np.cumsum(scored.right * counted)
    precision = right / np.maximum(np.cumsum(counted), 1e-9)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    recall = right / scored.objects
    at = np.searchsorted(recall, np.linspace(0, 1, 101), side="left")
    return float(np.mean(np.append(envelope, 0.0)[np.minimum(at, len(envelope))]))


def mean_ap(precisions: Sequence[float], classes: Sequence[int]) -> float:
    """Mean over some classes, those without objects left out."""
    return float(np.nanmean([precisions[cls] for cls in classes]))


def repair(confidence: NDArray[np.float64], odds: float) -> NDArray[np.float64]:
    """Confidences with their odds multiplied."""
    return np.asarray(odds * confidence / (odds * confidence + 1.0 - confidence), np.float64)


def fit_odds(scored: Sequence[Scored]) -> float:
    """The factor on the odds that makes the confidences most likely (least log loss), within 0.05 .. 20."""
    grid = np.exp(np.linspace(np.log(0.05), np.log(20.0), 1200))
    losses = [log_loss(scored, float(odds)) for odds in grid]
    return round(float(grid[int(np.argmin(losses))]), 2)


def log_loss(scored: Sequence[Scored], odds: float) -> float:
    """How badly the repaired confidences explain which rows are right (nats per row)."""
    confidence = np.clip(np.concatenate([part.confidence for part in scored]), 1e-4, 1 - 1e-4)
    right = np.concatenate([part.right for part in scored])
    probability = repair(confidence, odds)
    return float(-np.mean(right * np.log(probability) + (1 - right) * np.log(1 - probability)))


def calibration_curve(scored: Sequence[Scored], odds: float) -> list[tuple[float, float, int, float, float, float]]:
    """Per confidence bin: from, to, rows, mean confidence, mean repaired confidence, share that is right."""
    confidence = np.concatenate([part.confidence for part in scored])
    right = np.concatenate([part.right for part in scored])
    edges = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    curve = []
    for low, high in pairwise(edges):
        chosen = (confidence >= low) & (confidence < high)
        if chosen.any():
            mean = float(confidence[chosen].mean())
            fixed = float(repair(confidence[chosen], odds).mean())
            curve.append((low, high, int(chosen.sum()), mean, fixed, float(right[chosen].mean())))
    return curve
