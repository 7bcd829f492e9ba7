"""Served detections are those of Ultralytics: of a stored table, and of the library itself where it is installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from agent.detector import Detector
from tests.parity.make_expected import CONFIDENCE, TABLE, expected_rows

BOX_PX = 1.0
CONFIDENCE_TOLERANCE = 0.005


@pytest.fixture(scope="module")
def model(assets: Path) -> Path:
    return assets / "models" / "yolo26n.onnx"


@pytest.fixture(scope="module")
def detector(model: Path) -> Detector:
    return Detector(model, floor=CONFIDENCE)


@pytest.fixture(scope="module")
def images(assets: Path) -> dict[str, Path]:
    """All images that are here, by name: the labelled ones, and Ultralytics' own where it is installed."""
    found = list((assets / "data" / "coco_val_a" / "images").iterdir())
    try:
        import ultralytics
    except ImportError:
        pass
    else:
        found += (Path(ultralytics.__file__).parent / "assets").glob("*.jpg")
    return {path.name: path for path in found}


def read(path: Path) -> NDArray[np.uint8]:
    image = cv2.imread(str(path))
    assert image is not None
    return np.asarray(image, np.uint8)


def assert_same(rows: NDArray[np.float32], expected: list[list[float]], where: str) -> None:
    """Same count, and for each expected row one of its class within the tolerances."""
    assert len(rows) == len(expected), where
    left = rows.astype(np.float64)
    for row in np.array(expected).reshape(-1, 6):
        near = (
            (left[:, 5] == row[5])
            & (np.abs(left[:, 4] - row[4]) <= CONFIDENCE_TOLERANCE)
            & (np.abs(left[:, :4] - row[:4]).max(axis=1, initial=0) <= BOX_PX)
        )
        assert near.any(), f"{where}: nothing like {row}"
        left = np.delete(left, near.argmax(), axis=0)


def test_served_detections_equal_the_stored_table(detector: Detector, images: dict[str, Path]) -> None:
    table: dict[str, Any] = json.loads(TABLE.read_text("utf-8"))
    assert detector.sha256 == table["model_sha256"], "another model: run make_expected.py"
    here = table["images"].keys() & images.keys()
    assert len(here) >= 128, "the labelled images are all in the table"
    for name in here:
        assert_same(detector.detect(read(images[name])), table["images"][name], name)


def test_served_detections_equal_ultralytics_now(detector: Detector, model: Path, images: dict[str, Path]) -> None:
    ultralytics = pytest.importorskip(
        "ultralytics", reason="ultralytics is for workstations; the stored table is tested"
    )
    rival = ultralytics.YOLO(model, task="detect")
    for name, path in images.items():
        assert_same(detector.detect(read(path)), expected_rows(rival, path), name)
