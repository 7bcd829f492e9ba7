"""Each labelling tool's own library takes what we export for what it is, and we take what it writes.

The libraries: label-studio-sdk, pycocotools, datumaro (CVAT reads and writes with it), ultralytics. A CVAT or Label
Studio server is not among them.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from agent.dataset.formats import FORMATS
from agent.dataset.records import Box, Labels, Task
from tests.labelling import coco, cvat, label_studio, ultralytics, work
from tests.labelling.judging import Judge, boxes, the_judge
from tests.labelling.work import NAMES, WHEN, WHO, Answer

SIZES = ((64, 48), (641, 479), (7, 5), (33, 1999))


@pytest.fixture(scope="session")
def judge() -> Judge:
    return the_judge()


@pytest.fixture
def tasks(tmp_path: Path) -> list[Task]:
    """Odd sizes, boxes at and over the border, 300 and no guesses, names of all sorts."""
    found = [
        work.task(tmp_path, i, w, h, [work.guess(name, (-2.5, h / 3, w + 1, h), 0.1 + i / 10) for name in NAMES])
        for i, (w, h) in enumerate(SIZES)
    ]
    many = [work.guess(NAMES[i % 5], (i, 0.25, i + 1.75, 9.5), i / 300) for i in range(300)]
    return [*found, work.task(tmp_path, 10, 302, 10, many), work.task(tmp_path, 11, 90, 60)]


@pytest.fixture
def answers(tasks: list[Task]) -> dict[str, Answer]:
    """Boxes of people for all but the first, which nobody has looked at; the last is empty."""
    found = {}
    for task in tasks[1:]:
        w, h = task.width, task.height
        drawn = [Box(name, (0, 0, w, h)) for name in NAMES] + [Box("car", (w / 4, h / 8, w / 2, h / 2))]
        found[task.cid] = Answer(tuple(drawn), "useful")
    return {**found, tasks[-1].cid: Answer((), "nothing")}


def assert_guesses(seen: Mapping[str, Any], tasks: list[Task]) -> None:
    """The library sees every image with its guesses, cut to the image, and their scores."""
    assert seen["images"].keys() == {f"{task.cid}.jpg" for task in tasks}
    for task in tasks:
        found = seen["images"][f"{task.cid}.jpg"]
        inside = [
            Box(guess.box.name, (max(x1, 0), max(y1, 0), min(x2, task.width), min(y2, task.height)))
            for guess in task.predictions
            for x1, y1, x2, y2 in (guess.box.xyxy,)
        ]
        assert work.same(boxes(found), inside)
        scores = sorted(float(score) for *_, score in found)
        assert scores == pytest.approx(sorted(guess.score for guess in task.predictions), abs=1e-4)


def assert_drawn(images: Mapping[str, Any], answers: Mapping[str, Answer]) -> None:
    """The library sees in the tool's export what people drew."""
    for cid, answer in answers.items():
        assert work.same(boxes(images.get(f"{cid}.jpg", [])), answer.boxes)


def read(tool: str, path: Path, tasks: list[Task]) -> Labels:
    return FORMATS[tool].read(path, work.known(tasks).get, who=WHO, when=WHEN)


def assert_labels(found: Labels, answers: Mapping[str, Answer]) -> None:
    labels = {label.cid: label for label in found.labels}
    assert labels.keys() == answers.keys()
    assert all(work.same(labels[cid].boxes, answer.boxes) for cid, answer in answers.items())


@pytest.mark.parametrize("tool", ["label-studio", "coco"])
def test_label_studio_and_coco(
    tmp_path: Path, judge: Judge, tasks: list[Task], answers: dict[str, Answer], tool: str
) -> None:
    name = tool.replace("-", "_")
    FORMATS[tool].write(tasks, tmp_path / "out", NAMES)
    seen = judge(name, tmp_path / "out")
    assert (seen["classes"], seen["truth"]) == (list(NAMES), 0)
    assert_guesses(seen, tasks)
    path = {"coco": coco, "label-studio": label_studio}[tool].answer(tmp_path / "out", answers)
    assert_drawn(judge(f"{name}_export", tmp_path / "out")["images"], answers)
    assert_labels(read(tool, path, tasks), answers)


def test_cvat(tmp_path: Path, judge: Judge, tasks: list[Task], answers: dict[str, Answer]) -> None:
    FORMATS["cvat"].write(tasks, tmp_path / "out", NAMES)
    seen = judge("cvat", tmp_path / "out")
    assert seen["classes"] == [*NAMES, "tailkeeper"]
    assert_guesses(seen, tasks)
    facts = seen["tags"][f"{tasks[0].cid}.jpg"]["tailkeeper"]
    assert (facts["lane"], facts["verdict"], facts["cid"]) == ("uncertain", "open", tasks[0].cid)
    path = exported(tmp_path / "out", tasks, answers)
    assert_drawn(judge("cvat_export", tmp_path / "out")["images"], answers)
    assert_labels(read("cvat", path, tasks), answers)


def exported(folder: Path, tasks: list[Task], answers: dict[str, Answer]) -> Path:
    """CVAT's XML with its images beside it."""
    (folder / "images").mkdir()
    for task in tasks:
        shutil.copy(task.image, folder / "images")
    return cvat.answer(folder, answers)


def test_what_cvats_library_writes_is_read(
    tmp_path: Path, judge: Judge, tasks: list[Task], answers: dict[str, Answer]
) -> None:
    out = tmp_path / "out"
    FORMATS["cvat"].write(tasks, out, NAMES)
    exported(out, tasks, answers)
    judge("rewritten", out)
    drawn = {cid: answer for cid, answer in answers.items() if answer.boxes}
    assert_labels(read("cvat", out / "cvat" / "annotations.xml", tasks), answers)
    (instances,) = (out / "coco_instances" / "annotations").iterdir()
    assert_labels(read("coco", instances, tasks), drawn)
    path = out / "yolo.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted((out / "yolo_ultralytics").rglob("*")):
            archive.write(file, file.relative_to(out / "yolo_ultralytics"))
    assert_labels(read("cvat", path, tasks), drawn)


def test_ultralytics(tmp_path: Path, tasks: list[Task], answers: dict[str, Answer]) -> None:
    check = pytest.importorskip("ultralytics.data.utils", reason="needs the export extra: make test-export")
    out = tmp_path / "out"
    FORMATS["ultralytics"].write(tasks, out, NAMES)
    sheet = check.check_det_dataset(str(out / "data.yaml"), autodownload=False)
    assert list(sheet["names"].values()) == list(NAMES)
    path = ultralytics.answer(out, answers)
    for task in tasks[1:]:
        if min(task.width, task.height) < 10:  # Ultralytics trains on nothing smaller
            continue
        found, problem = verified(check, out, task, "labels")
        assert not problem
        drawn = [Box(NAMES[int(row[0])], corners(row[1:5], task)) for row in found]
        assert work.same(drawn, answers[task.cid].boxes)
    assert_labels(read("ultralytics", path, tasks), answers)


def test_ultralytics_itself_refuses_predictions_as_labels(tmp_path: Path, tasks: list[Task]) -> None:
    check = pytest.importorskip("ultralytics.data.utils", reason="needs the export extra: make test-export")
    FORMATS["ultralytics"].write(tasks, tmp_path / "out", NAMES)
    _, problem = verified(check, tmp_path / "out", tasks[0], "predictions")
    assert "5 columns" in problem


def verified(check: Any, folder: Path, task: Task, where: str) -> tuple[Any, str]:
    """Rows and complaint of Ultralytics' own check of one label file."""
    files = (str(folder / "images" / f"{task.cid}.jpg"), str(folder / where / f"{task.cid}.txt"))
    found = check.verify_image_label((*files, "", False, len(NAMES), 0, 0, False))
    return found[1], found[-1]


def corners(row: Any, task: Task) -> tuple[float, float, float, float]:
    x, y, w, h = (float(value) for value in row)
    return ((x - w / 2) * task.width, (y - h / 2) * task.height, (x + w / 2) * task.width, (y + h / 2) * task.height)
