"""Does an exported model see what its checkpoint sees?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from agent.detector import Detector
from agent.errors import ConfigError, ModelError
from agent.export.checkpoint import open_detector
from agent.export.evaluate import iou
from agent.records import Rows

TOLERANCE = 0.01
"""Largest difference of a confidence."""
_LEAST = 0.05
"""Rows below this confidence come and go with the last digit."""
_SAME = 0.9
"""Overlap from which two boxes of one class are the same."""


def sample_images() -> list[Path]:
    """The pictures that come with Ultralytics."""
    import ultralytics

    return sorted((Path(ultralytics.__file__).parent / "assets").glob("*.jpg"))


def check(ckpt: Path, onnx: bytes, samples: Sequence[Path], tolerance: float = TOLERANCE) -> float:
    """Largest difference of a confidence between checkpoint and export; raises ModelError above the tolerance.

    Rows are matched by class and box; one without a partner differs by all of its confidence. Raises ConfigError for a
    sample that is no picture.
    """
    yolo = open_detector(ckpt)
    detector = Detector(onnx, floor=_LEAST / 2, threads=1)
    worst = 0.0
    for path in samples:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None:
            raise ConfigError(f"{path} cannot be decoded", remedy="give pictures as samples")
        exported = detector.detect(np.asarray(image, np.uint8))
        width, height = detector.input_size
        (found,) = yolo.predict(
            image, imgsz=[height, width], conf=_LEAST / 2, rect=False, nms=False, device="cpu", verbose=False
        )
        original = np.asarray(found.boxes.data.cpu(), np.float32)
        worst = max(worst, difference(original, exported), difference(exported, original))
        if worst > tolerance:
            what = f"{ckpt}: the export differs from the checkpoint by {worst:.3f} on {path.name}"
            raise ModelError(
                what, remedy=f"confidences may differ by {tolerance:g}; try another version of Ultralytics"
            )
    return worst


def difference(rows: Rows, others: Rows) -> float:
    """Largest difference of a confidence between rows and their partners among the others."""
    worst = 0.0
    for row in rows[rows[:, 4] >= _LEAST]:
        near = others[others[:, 5] == row[5]]
        x1, y1, x2, y2, confidence = map(float, row[:5])
        gaps = np.abs(near[iou(near[:, :4], [(x1, y1, x2, y2)])[:, 0] >= _SAME, 4] - confidence)
        worst = max(worst, float(gaps.min(initial=confidence)))
    return worst
