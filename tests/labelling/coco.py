"""A tool that works on COCO files, with a person in front of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.labelling import review
from tests.labelling.work import Answer


def export(folder: Path, answers: Mapping[str, Answer]) -> dict[str, Any]:
    """The instances file with what people drew; the images are those that were imported."""
    tree: dict[str, Any] = json.loads((folder / "instances.json").read_text())
    numbers = {category["name"]: category["id"] for category in tree["categories"]}
    for image in tree["images"]:
        for box in answers.get(Path(image["file_name"]).stem, Answer(())).boxes:
            x1, y1, x2, y2 = box.xyxy
            tree["annotations"].append(
                {
                    "id": len(tree["annotations"]) + 1,
                    "image_id": image["id"],
                    "category_id": numbers[box.name],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                    "segmentation": [],
                }
            )
    return tree


def answer(folder: Path, answers: Mapping[str, Answer]) -> Path:
    """The file that the tool exports, with the verdicts beside it."""
    path = folder / "labelled.json"
    path.write_text(json.dumps(export(folder, answers)))
    review.fill(folder, answers)
    return path
