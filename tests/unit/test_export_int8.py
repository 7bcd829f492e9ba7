"""Quantisation: the demo's own model in 8 bits, calibrated on its street."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from agent.detector import Detector
from agent.errors import ConfigError
from agent.export.int8 import quantise
from agent.world import MODEL, STREET, World

SIZE = (192, 320)


def frames(folder: Path, count: int) -> list[Path]:
    world, paths = World(STREET), [folder / f"{index}.jpg" for index in range(count)]
    for index, path in enumerate(paths):
        cv2.imwrite(str(path), world.render(index * 30))
    return paths


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_quantised_model_is_a_detector_that_sees_most_of_the_same(tmp_path: Path) -> None:
    paths = frames(tmp_path, 8)
    small = quantise(MODEL / "model.onnx", tmp_path / "small.onnx", SIZE, paths)
    before, after = (Detector(model, floor=0.25, threads=1) for model in (MODEL / "model.onnx", small))
    assert small.stat().st_size < 0.5 * (MODEL / "model.onnx").stat().st_size
    assert after.classes == before.classes
    seen = [[len(each.detect(cv2.imread(str(path)))) for path in paths] for each in (before, after)]  # type: ignore[arg-type]
    assert sum(seen[0]) > 10
    assert sum(abs(a - b) for a, b in zip(*seen, strict=True)) <= 0.3 * sum(seen[0])


def test_without_pictures_nothing_is_calibrated(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(b"no picture")
    with pytest.raises(ConfigError, match="no pictures to calibrate on"):
        quantise(MODEL / "model.onnx", tmp_path / "small.onnx", SIZE, [tmp_path / "x.jpg"])
