"""`tailkeeper model calibrate`: what a model's confidences are worth, measured on verified labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from agent.detector import Detector
from agent.errors import ConfigError
from agent.export.bundle import FLOOR
from agent.export.checkpoint import check_classes
from agent.export.evaluate import Boxes, fit_odds, gather, log_loss
from agent.export.sheet import Sheet
from agent.records import Rows

LEAST_ROWS = 200
"""Fewer say little: a detector gives as many for some thirty frames."""


@dataclass(frozen=True)
class Calibrated:
    """The factor on the odds before and after, and how well each explains the rows (log loss, lower is better)."""

    before: float
    odds: float
    rows: int
    loss_before: float
    loss: float


def calibrate(model: Path, sheet: Sheet, split: str) -> Calibrated:
    """Fit the factor on the odds to the rows that the model gives for the frames of a split.

    Every row down to the selection floor counts, as in selection. Raises ModelError for a model of other classes,
    ConfigError where there are too few rows to fit anything to.
    """
    detector = Detector(model, floor=FLOOR)
    check_classes(detector.classes, sheet, str(model))
    scored = gather(_frames(detector, sheet, split), len(sheet.names))
    rows, right = (sum(len(one.right) for one in scored), sum(float(one.right.sum()) for one in scored))
    if rows < LEAST_ROWS or not 0 < right < rows:
        found = f"{sheet.file}: the model gives {rows} rows for split {split!r}, {right:.0f} of them right"
        raise ConfigError(found, remedy=f"at least {LEAST_ROWS} rows, right ones and wrong ones, are needed")
    odds = fit_odds(scored)
    losses = [log_loss(scored, factor) for factor in (detector.odds, odds)]
    return Calibrated(detector.odds, odds, rows, *losses)


def _frames(detector: Detector, sheet: Sheet, split: str) -> Iterator[tuple[Rows, Boxes, Boxes]]:
    for one in sheet.labelled(split):
        image = cv2.imread(str(one.image), cv2.IMREAD_COLOR)
        if image is None:
            raise ConfigError(f"{one.image} cannot be decoded", remedy="verify the data set version")
        height, width = image.shape[:2]
        boxes = one.boxes * np.array([width, height, width, height])
        true = [(int(cls), (x1, y1, x2, y2)) for cls, (x1, y1, x2, y2) in zip(one.classes, boxes.tolist(), strict=True)]
        yield detector.detect(np.asarray(image, np.uint8)), true, []
