"""Somebody who draws boxes in an editor that writes YOLO text files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml

from tests.labelling import review
from tests.labelling.work import Answer, image_size


def answer(folder: Path, answers: Mapping[str, Answer]) -> Path:
    """The folder, with a label file for each answer. Six decimals, as such editors write."""
    names: dict[int, str] = yaml.safe_load((folder / "data.yaml").read_text())["names"]
    numbers = {name: number for number, name in names.items()}
    for cid, given in answers.items():
        width, height = image_size(folder / "images" / f"{cid}.jpg")
        lines = [_line(numbers[box.name], box.xyxy, width, height) for box in given.boxes]
        (folder / "labels" / f"{cid}.txt").write_text("".join(lines))
    review.fill(folder, answers)
    return folder


def _line(number: int, xyxy: tuple[float, float, float, float], width: int, height: int) -> str:
    x1, y1, x2, y2 = xyxy
    x, y, w, h = (x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height
    return f"{number} {x:.6f} {y:.6f} {w:.6f} {h:.6f}\n"
