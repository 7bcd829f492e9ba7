"""Label Studio with a person in front of it: from the tasks it imported to what its JSON export holds."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.dataset.records import Box
from tests.labelling.work import WHEN, WHO, WORDS, Answer, image_size

USER = {"id": 3, "email": WHO, "first_name": "Ann", "last_name": ""}


def export(folder: Path, answers: Mapping[str, Answer]) -> list[dict[str, Any]]:
    """What the project exports after people have given these answers, by candidate; the others are unlabelled."""
    tasks = []
    for number, imported in enumerate(json.loads((folder / "tasks.json").read_text())):
        task = {"id": number + 1, "project": 1, "drafts": [], **copy.deepcopy(imported), "annotations": []}
        answer = answers.get(imported["data"]["cid"])
        if answer:
            task["annotations"].append(annotation(number, *seen(folder, imported), answer))
        tasks.append(task)
    return tasks


def answer(folder: Path, answers: Mapping[str, Answer]) -> Path:
    """The file that the project exports."""
    path = folder / "export.json"
    path.write_text(json.dumps(export(folder, answers)))
    return path


def annotation(number: int, width: int, height: int, answer: Answer) -> dict[str, Any]:
    """A submitted annotation."""
    result = [region(i, box, width, height) for i, box in enumerate(answer.boxes)]
    if answer.verdict:
        word = WORDS.get(answer.verdict, answer.verdict)
        result.append(
            {"id": "v1", "from_name": "verdict", "to_name": "image", "type": "choices", "value": {"choices": [word]}}
        )
    return {
        "id": 100 + number,
        "completed_by": USER,
        "result": result,
        "was_cancelled": False,
        "ground_truth": False,
        "created_at": WHEN,
        "updated_at": WHEN,
        "lead_time": 4.25,
        "prediction": {},
        "result_count": len(result),
        "parent_prediction": 50 + number,
        "parent_annotation": None,
    }


def seen(folder: Path, task: dict[str, Any]) -> tuple[int, int]:
    """Width and height of the picture, as the browser gets it from the address in the task."""
    return image_size(folder.parent / task["data"]["image"].removeprefix("/data/local-files/?d="))


def region(number: int, box: Box, width: int, height: int) -> dict[str, Any]:
    x1, y1, x2, y2 = box.xyxy
    return {
        "id": f"r{number}",
        "from_name": "label",
        "to_name": "image",
        "type": "rectanglelabels",
        "origin": "manual",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {
            "x": x1 * 100 / width,
            "y": y1 * 100 / height,
            "width": (x2 - x1) * 100 / width,
            "height": (y2 - y1) * 100 / height,
            "rotation": 0,
            "rectanglelabels": [box.name],
        },
    }
