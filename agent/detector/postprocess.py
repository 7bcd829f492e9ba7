"""From the model's output to rows in pixels of its input: end-to-end and classic layouts."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np

from agent.records import Rows

Layout = Literal["end2end", "raw"]

NMS_IOU = 0.7
"""Boxes of one class that overlap more are one object: Ultralytics' default for `predict`."""
NMS_BOXES = 30_000
ROWS = 300
"""Rows per image at most, as in Ultralytics and in end-to-end models."""


def to_rows(output: Rows, layout: Layout, floor: float) -> Rows:
    """Rows (n, 6) of one image at or above `floor`, highest confidence first; broken rows are left out.

    `output` is (300, 6) x1 y1 x2 y2 confidence class for "end2end", (4 + classes, n) with centre, size and a
    confidence per class for "raw", where non-maximum suppression is done here as Ultralytics does it.
    """
    rows = _best_class(output, floor) if layout == "raw" else output[output[:, 4] >= floor]
    rows = rows[np.isfinite(rows).all(axis=1) & (rows[:, 4] <= 1)]
    rows = rows[np.argsort(-rows[:, 4], kind="stable")]
    return _suppress(rows) if layout == "raw" else rows[:ROWS]


def _best_class(output: Rows, floor: float) -> Rows:
    """Rows from a raw output: the best class of every box that reaches the floor."""
    scores = output[4:]
    keep = np.flatnonzero(scores.max(axis=0) >= floor)
    output, scores = output[:, keep], scores[:, keep]
    best = scores.argmax(axis=0)
    half = output[2:4] / 2
    corners = np.concatenate((output[:2] - half, output[:2] + half))
    confidence = scores[best, np.arange(len(best))]
    rows: Rows = np.concatenate((corners, confidence[None], best[None].astype(np.float32))).T
    return rows


def _suppress(rows: Rows) -> Rows:
    """Greedy non-maximum suppression within each class; `rows` are sorted by confidence."""
    rows = rows[:NMS_BOXES]
    if not len(rows):
        return rows
    boxes = np.concatenate((rows[:, :2], rows[:, 2:4] - rows[:, :2]), axis=1).astype(np.float64)
    kept = cv2.dnn.NMSBoxesBatched(boxes, rows[:, 4], rows[:, 5].astype(np.int32), 0.0, NMS_IOU)  # type: ignore[arg-type]
    return rows[np.sort(np.asarray(kept, dtype=np.intp).ravel())[:ROWS]]
