"""CVAT: the archive it imports, and which boxes of its exports are a person's."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import pytest

from agent.dataset.formats import FORMATS
from agent.dataset.records import Box, Labels, Prediction, Task
from agent.errors import ConfigError
from tests.labelling import cvat as tool
from tests.labelling import ultralytics, work
from tests.labelling.work import NAMES, WHEN, WHO, Answer

write, read = FORMATS["cvat"].write, FORMATS["cvat"].read
CAR = Box("car", (10, 5, 30.5, 40))
OTHER = Box("traffic light", (1, 1, 9, 9))


def back(folder: Path, tasks: list[Task], root: Element) -> Labels:
    path = folder / "annotations.xml"
    path.write_bytes(ElementTree.tostring(root, "utf-8"))
    return read(path, work.known(tasks).get)


def exported(folder: Path, *answers: Answer | None) -> tuple[list[Task], Element]:
    """One task for each answer, all with the same guess, and CVAT's document after them."""
    tasks = [work.task(folder, number, guesses=[Prediction(CAR, 0.9)]) for number in range(len(answers))]
    write(tasks, folder / "out", NAMES)
    given = {task.cid: answer for task, answer in zip(tasks, answers, strict=True) if answer}
    return tasks, tool.export(folder / "out", given)


def test_the_archive_holds_contents_images_and_guesses_with_scores(tmp_path: Path) -> None:
    task = work.task(tmp_path, 1, guesses=[work.guess(NAMES[4], (-3, 40, 64, 51), 0.75)])
    write([task], tmp_path / "out", NAMES)
    with zipfile.ZipFile(tmp_path / "out" / "cvat.zip") as archive:
        assert archive.namelist() == ["annotations.xml", f"images/{task.cid}.jpg"]
        assert archive.read(f"images/{task.cid}.jpg") == task.image.read_bytes()
        root = ElementTree.fromstring(archive.read("annotations.xml"))
    (box,) = root.iterfind("image/box")
    assert [box.get(side) for side in ("xtl", "ytl", "xbr", "ybr")] == ["0.0000", "40.0000", "64.0000", "48.0000"]
    assert (box.get("label"), box.get("source"), box.findtext("attribute")) == (NAMES[4], "auto", "0.7500")
    facts = {one.get("name"): one.text for one in root.iterfind("image/tag/attribute")}
    assert {
        "lane": "uncertain",
        "reasons": "small, dim",
        "verdict": "open",
        "probability": None,
    }.items() <= facts.items()
    declared = [label.findtext("name") for label in root.iterfind("meta/task/labels/label")]
    assert declared == [*NAMES, "tailkeeper"]
    assert [label["name"] for label in json.loads((tmp_path / "out" / "labels.json").read_text())] == declared


def test_a_verdict_makes_every_box_a_persons(tmp_path: Path) -> None:
    tasks, root = exported(tmp_path, Answer((CAR, OTHER), "useful"))
    (label,) = back(tmp_path, tasks, root).labels
    assert work.same(label.boxes, (CAR, OTHER))
    assert (label.partial, label.confirmed, label.who, label.when) == (False, True, WHO, WHEN)


def test_boxes_without_a_verdict_are_unfinished_work_and_guesses_among_them_are_left_out(tmp_path: Path) -> None:
    tasks, root = exported(tmp_path, Answer((CAR, OTHER)), None)
    found = back(tmp_path, tasks, root)
    (label,) = found.labels
    assert label.boxes == (OTHER,)
    assert (label.partial, label.confirmed) == (True, False)
    assert tasks[1].cid in found.problems[0].what


@pytest.mark.parametrize("source", ["auto", "file"])
def test_what_a_machine_drew_is_nobodys_without_a_verdict(tmp_path: Path, source: str) -> None:
    tasks, root = exported(tmp_path, Answer((OTHER,)))
    for box in root.iterfind("image/box"):
        box.set("source", source)
    found = back(tmp_path, tasks, root)
    assert not found.labels
    assert len(found.problems) == 1


def _polygon(image: Element) -> None:
    SubElement(image, "polygon", {"label": "car", "points": "1,1;2,2;3,1"})


def _mask(image: Element) -> None:
    SubElement(image, "mask", {"label": "car", "rle": "1"})


def _second_tag(image: Element) -> None:
    SubElement(SubElement(image, "tag", {"label": "tailkeeper"}), "attribute", {"name": "verdict"}).text = "junk"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_polygon, "'polygon'"),
        (_mask, "'mask'"),
        (_second_tag, "verdicts 'junk' and 'useful'"),
        (lambda image: image.find("box").set("rotation", "31.5"), "rotated"),
        (lambda image: image.find("box").set("xtl", "left"), "no number"),
        (lambda image: image.find("box").set("xtl", "nan"), "no number"),
        (lambda image: image.find("box").set("label", ""), "name of a class"),
        (lambda image: image.set("name", "frame_000001.png"), "no candidate's id"),
        (lambda image: image.set("width", "640"), "image of 640x48"),
        (lambda image: image.set("width", ""), "no number"),
    ],
)
def test_what_cannot_be_taken_is_a_problem_of_the_whole_frame(
    tmp_path: Path, change: Callable[[Any], None], why: str
) -> None:
    tasks, root = exported(tmp_path, Answer((CAR,), "useful"), Answer((CAR,), "useful"))
    change(root.find("image"))
    found = back(tmp_path, tasks, root)
    assert [label.cid for label in found.labels] == [tasks[1].cid]
    (problem,) = found.problems
    assert problem.where == "annotations.xml: image '0'"
    assert why in problem.what


def test_video_tracks_and_document_types_are_refused(tmp_path: Path) -> None:
    tasks, root = exported(tmp_path, Answer((CAR,), "useful"))
    SubElement(root, "track")
    assert "no annotated images" in back(tmp_path, tasks, root).problems[0].what
    bomb = tmp_path / "bomb.xml"
    bomb.write_text('<!DOCTYPE a [<!ENTITY b "c">]><annotations>&b;</annotations>')
    assert "declares a document type" in read(bomb, work.known([]).get, who=WHO, when=WHEN).problems[0].what


def test_an_export_without_assignee_needs_who(tmp_path: Path) -> None:
    tasks, root = exported(tmp_path, Answer((CAR,), "useful"))
    about = root.find("meta/task")
    assert about is not None
    about.remove(about.find("assignee"))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="do not say who"):
        back(tmp_path, tasks, root)


def test_each_image_of_a_project_has_its_own_tasks_assignee(tmp_path: Path) -> None:
    tasks, root = exported(tmp_path, Answer((CAR,), "useful"), Answer((CAR,), "useful"))
    listed = SubElement(SubElement(root.find("meta"), "project"), "tasks")  # type: ignore[arg-type]
    for number, (image, person) in enumerate(zip(root.iterfind("image"), ("ann", "bob"), strict=True), 8):
        image.set("task_id", str(number))
        job = SubElement(listed, "task")
        SubElement(job, "id").text = str(number)
        SubElement(SubElement(job, "assignee"), "username").text = person
        SubElement(job, "updated").text = WHEN
    assert [label.who for label in back(tmp_path, tasks, root).labels] == ["ann", "bob"]


def test_images_cannot_be_addresses_and_no_class_has_the_tags_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="images along"):
        write([work.task(tmp_path, 1)], tmp_path / "out", NAMES, url="https://store.example")
    with pytest.raises(ConfigError, match="tag with the verdict"):
        write([work.task(tmp_path, 1)], tmp_path / "out", ["tailkeeper"])


def test_its_yolo_archive_is_read_too(tmp_path: Path) -> None:
    tasks = [work.task(tmp_path, number, guesses=[Prediction(CAR, 0.9)]) for number in range(2)]
    FORMATS["ultralytics"].write(tasks, tmp_path / "out", NAMES)
    ultralytics.answer(tmp_path / "out", {tasks[0].cid: Answer((CAR, OTHER)), tasks[1].cid: Answer((CAR,))})
    path = tmp_path / "yolo.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.yaml", (tmp_path / "out" / "data.yaml").read_text())
        archive.writestr("train.txt", "".join(f"data/images/train/{task.cid}.jpg\n" for task in tasks))
        for task in tasks:
            archive.write(tmp_path / "out" / "labels" / f"{task.cid}.txt", f"labels/train/{task.cid}.txt")
    found = read(path, work.known(tasks).get, who=WHO, when=WHEN)
    (label,) = found.labels
    assert (label.cid, label.tool) == (tasks[0].cid, "cvat")
    assert "only pre-annotations" in found.problems[0].what
