"""COCO: annotations are truth, results are not."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.dataset.formats import FORMATS
from agent.dataset.records import Box, Labels, Prediction, Task
from tests.labelling import coco as tool
from tests.labelling import work
from tests.labelling.work import NAMES, WHEN, WHO, Answer

write, read = FORMATS["coco"].write, FORMATS["coco"].read
CAR = Box("car", (10, 5, 30.5, 40))


def back(folder: Path, tasks: list[Task], tree: Any) -> Labels:
    path = folder / "labels.json"
    path.write_text(json.dumps(tree))
    return read(path, work.known(tasks).get, who=WHO, when=WHEN)


def test_guesses_are_results_and_never_annotations(tmp_path: Path) -> None:
    tasks = [work.task(tmp_path, 1, guesses=[work.guess(NAMES[3], (1, 2, 31, 70), 0.25)]), work.task(tmp_path, 2)]
    write(tasks, tmp_path / "out", NAMES)
    tree = json.loads((tmp_path / "out" / "instances.json").read_text())
    assert tree["annotations"] == []
    assert [category["name"] for category in tree["categories"]] == list(NAMES)
    assert tree["images"][0]["lane"] == "uncertain"
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results == [{"image_id": 1, "category_id": 4, "bbox": [1, 2, 30, 46], "score": 0.25}]


def test_images_can_be_addresses(tmp_path: Path) -> None:
    task = work.task(tmp_path, 1)
    write([task], tmp_path / "out", NAMES, url="https://store.example/images")
    (image,) = json.loads((tmp_path / "out" / "instances.json").read_text())["images"]
    assert image["coco_url"] == f"https://store.example/images/{task.cid[:2]}/{task.cid}.jpg"
    assert not (tmp_path / "out" / "images").exists()


def test_results_are_not_labels_even_when_somebody_calls_them_annotations(tmp_path: Path) -> None:
    tasks = [work.task(tmp_path, 1, guesses=[Prediction(CAR, 0.9)])]
    write(tasks, tmp_path / "out", NAMES)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert not back(tmp_path, tasks, results).labels
    tree = json.loads((tmp_path / "out" / "instances.json").read_text())
    for drawn in (results, [{**one, "score": None, "confidence": 0.9} for one in results]):
        found = back(tmp_path, tasks, {**tree, "annotations": drawn})
        assert not found.labels
        assert "it is a prediction" in found.problems[0].what


def _set(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda tree: tree["annotations"][0].update(changes)


@pytest.mark.parametrize(
    ("change", "why", "others"),
    [
        (_set(score=0.5), "it is a prediction", 1),
        (_set(iscrowd=1), "crowd region", 1),
        (_set(bbox=None), "bbox", 1),
        (_set(bbox=[1, 2, 0, 3]), "no area", 1),
        (_set(bbox=[1, 2, 3]), "bbox", 1),
        (_set(category_id=99), "None cannot be the name", 1),
        (_set(attributes={"rotation": 12.5}), "rotated", 1),
        (_set(image_id=77), "annotations of image 77", 0),
        (_set(image_id="one"), "image_id", 0),
        (lambda tree: tree["images"][0].update(id=2), "annotations of image 1", 0),
        (lambda tree: tree["images"].append({**tree["images"][0]}), "another image's as well", 1),
        (lambda tree: tree["images"][0].update(file_name="a.jpg"), "no candidate's id", 1),
        (lambda tree: tree["images"][0].update(width=640), "image of 640x48", 1),
        (lambda tree: tree.pop("categories"), "categories", 0),
    ],
)
def test_what_cannot_be_taken_is_a_problem(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], why: str, others: int
) -> None:
    tasks = [work.task(tmp_path, 1), work.task(tmp_path, 2)]
    write(tasks, tmp_path / "out", NAMES)
    tree = tool.export(tmp_path / "out", {task.cid: Answer((CAR,)) for task in tasks})
    change(tree)
    found = back(tmp_path, tasks, tree)
    assert [label.cid for label in found.labels] == [tasks[1].cid] * others
    assert why in found.problems[0].what


def test_an_archive_of_annotations_is_read(tmp_path: Path) -> None:
    tasks = [work.task(tmp_path, 1)]
    write(tasks, tmp_path / "out", NAMES)
    with zipfile.ZipFile(tmp_path / "coco.zip", "w") as archive:
        tree = tool.export(tmp_path / "out", {tasks[0].cid: Answer((CAR,))})
        archive.writestr("annotations/instances_default.json", json.dumps(tree))
    (label,) = read(tmp_path / "coco.zip", work.known(tasks).get, who=WHO, when=WHEN).labels
    assert label.boxes == (CAR,)
    assert not label.confirmed
