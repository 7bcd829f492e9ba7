"""Label Studio: tasks with pre-annotations, the labelling interface, and its JSON export back.

All boxes of a frame are one prediction (several predictions would be shown as rivals), coordinates are percent of the
image. An annotation counts as a person's when someone is named and has spent time on it in the editor (`lead_time`,
which the editor always sends): the actions "create annotations from predictions" and "import" leave that empty, though
they name the person who clicked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from pydantic import Field

from agent.dataset.formats import files, incoming, outgoing
from agent.dataset.formats.incoming import VERDICTS, Gathering, Known
from agent.dataset.records import Box, Label, Labels, Task
from agent.errors import LabelError
from agent.records import Record

TASKS, INTERFACE = "tasks.json", "interface.xml"
TOOL = "label-studio"
LOCAL = "/data/local-files/?d="
"""Where Label Studio serves files of its own machine, below LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT."""


def write(tasks: Sequence[Task], folder: Path, classes: Sequence[str], *, url: str = "") -> None:
    """Write tasks.json, interface.xml and, without `url`, images/ into `folder`.

    `url`: where the store's images folder is served; otherwise Label Studio's local files, with the folder that holds
    `folder` as document root.
    """
    names = outgoing.class_names(tasks, classes)
    outgoing.write_text(folder / INTERFACE, interface(names))
    outgoing.write_json(folder / TASKS, [_task(task, _address(task, folder, url)) for task in tasks])


def _address(task: Task, folder: Path, url: str) -> str:
    if url:
        return outgoing.address(task, url)
    return f"{LOCAL}{folder.name}/images/{outgoing.place(task, folder / 'images').name}"


def interface(classes: Sequence[str]) -> str:
    """The labelling configuration: boxes of these classes, one verdict, and why the frame was picked."""
    labels = "\n".join(f"    <Label value={_quoted(name)}/>" for name in classes)
    choices = "\n".join(f"    <Choice value={_quoted(name)}/>" for name in VERDICTS)
    return f"""<View>
  <Header value="$camera  $ts  $lane: $reasons"/>
  <Image name="image" value="$image" zoom="true" zoomControl="true"/>
  <RectangleLabels name="label" toName="image">
{labels}
  </RectangleLabels>
  <Choices name="verdict" toName="image" choice="single" showInline="true">
{choices}
  </Choices>
</View>
"""


def _quoted(name: str) -> str:
    return quoteattr(name, {"\n": "&#10;", "\t": "&#9;", "\r": "&#13;"})


def _task(task: Task, image: str) -> dict[str, Any]:
    guesses = outgoing.visible(task)
    result = [_region(task, number, guess.box, guess.score) for number, guess in enumerate(guesses)]
    mean = sum(guess.score for guess in guesses) / max(1, len(guesses))
    prediction = {"model_version": task.model, "score": mean, "result": result}
    return {"data": {"image": image, **outgoing.facts(task)}, "predictions": [prediction]}


def _region(task: Task, number: int, box: Box, score: float) -> dict[str, Any]:
    x1, y1, x2, y2 = box.xyxy
    value = {
        "x": 100 * x1 / task.width,
        "y": 100 * y1 / task.height,
        "width": 100 * (x2 - x1) / task.width,
        "height": 100 * (y2 - y1) / task.height,
    }
    return {
        "id": f"guess{number}",
        "from_name": "label",
        "to_name": "image",
        "type": "rectanglelabels",
        "original_width": task.width,
        "original_height": task.height,
        "image_rotation": 0,
        "score": score,
        "value": {**value, "rotation": 0, "rectanglelabels": [box.name]},
    }


class _User(Record):
    id: int | None = None
    email: str = ""
    username: str = ""

    @property
    def name(self) -> str:
        return self.email or self.username or ("" if self.id is None else f"user {self.id}")


class _Annotation(Record):
    """One person's work on one task. `result` stays unparsed: each region is judged by itself."""

    id: int | str | None = None
    completed_by: _User | int | str | None = None
    lead_time: float | None = None
    was_cancelled: bool = False
    updated_at: str | None = None
    created_at: str | None = None
    result: list[dict[str, Any]]


class _Rectangle(Record):
    x: float
    y: float
    width: float
    height: float
    rotation: float = 0
    rectanglelabels: list[str] = Field(min_length=1, max_length=1)


class _Region(Record):
    type: str
    value: dict[str, Any]
    original_width: int | None = None
    original_height: int | None = None
    image_rotation: float = 0


class _Choice(Record):
    choices: list[str] = Field(min_length=1, max_length=1)


class _Exported(Record):
    id: int | str | None = None
    data: dict[str, Any]
    annotations: tuple[dict[str, Any], ...] = ()
    drafts: tuple[Any, ...] = ()


def read(path: Path, known: Known, *, who: str = "", when: str = "") -> Labels:
    """The labels in a JSON export. `who` and `when` are not needed: the file has them for every annotation.

    Raises ConfigError where there is no such file.
    """
    del who, when
    found = Gathering(path.name)
    with found.at():
        tree = files.parsed(files.content(path))
        if not isinstance(tree, list) or not any(isinstance(task, dict) and "annotations" in task for task in tree):
            raise LabelError(
                "holds no annotations", remedy="export with format JSON, not JSON-MIN, CSV or the tasks file"
            )
        for number, task in enumerate(tree):
            with found.at(f"task {task['id'] if isinstance(task, dict) and 'id' in task else f'number {number + 1}'}"):
                _read_task(found, known, _Exported.model_validate(task))
    return found.result()


def _read_task(found: Gathering, known: Known, exported: _Exported) -> None:
    """Add what people said of one task. An unlabelled one is no problem; its predictions are nobody's word."""
    where = f"task {incoming.shown(exported.id)}"
    if exported.drafts and not exported.annotations:
        raise LabelError("only a draft", remedy="submit it")
    if not exported.annotations:
        return
    task = _candidate(known, exported.data)
    for tree in exported.annotations:
        with found.at(f"{where}, annotation {incoming.shown(tree.get('id'))}"):
            found.labels.append(_label(task, _Annotation.model_validate(tree)))


def _candidate(known: Known, data: dict[str, Any]) -> Task:
    """The candidate whose id was exported with the task, else that of the image's address. Raises LabelError."""
    task = incoming.candidate(known, str(data.get("cid") or data.get("image") or ""))
    if incoming.cid_in(str(data.get("image") or "")) not in (None, task.cid):
        raise LabelError("shows another candidate's image", remedy="import the exported tasks as they are")
    return task


def _label(task: Task, work: _Annotation) -> Label:
    who = _person(work)
    boxes: list[Box] = []
    said = ""
    for number, tree in enumerate(work.result):
        region = _Region.model_validate(tree)
        if region.type == "choices":
            said = _Choice.model_validate(region.value).choices[0]
        else:
            boxes.append(_box(task, region, number))
    verdict = incoming.verdict(said, boxes)
    when = incoming.moment(work.updated_at or work.created_at or "")
    kept = tuple(boxes) if verdict == "useful" else ()
    return Label(task.cid, task.width, task.height, kept, verdict, who, when, TOOL, confirmed=True)


def _person(work: _Annotation) -> str:
    """Who did it. Raises LabelError for what nobody did, or nobody finished."""
    user = work.completed_by
    who = user.name if isinstance(user, _User) else f"user {user}" if isinstance(user, int) else (user or "").strip()
    if not who:
        raise LabelError("nobody is named as its author", remedy="open it in Label Studio and press Update")
    if work.was_cancelled:
        raise LabelError(f"skipped by {who}", remedy="label the task, or give it a verdict")
    if not work.lead_time or work.lead_time <= 0:
        raise LabelError(
            "no time was spent on it in the editor: made from a prediction, or imported",
            remedy="open it in Label Studio, look, and press Update",
        )
    return who


def _box(task: Task, region: _Region, number: int) -> Box:
    if region.type != "rectanglelabels":
        kind = re.sub(r"labels$", "", region.type) or "nameless"
        raise LabelError(
            f"region {number + 1} is a {incoming.shown(kind)}", remedy="draw a rectangle with a class instead"
        )
    incoming.same_size(task, region.original_width, region.original_height)
    value = _Rectangle.model_validate(region.value)
    if value.rotation % 360 or region.image_rotation % 360:
        raise LabelError(f"region {number + 1} is rotated", remedy="draw it upright")
    x1, y1 = value.x / 100 * task.width, value.y / 100 * task.height
    x2, y2 = (value.x + value.width) / 100 * task.width, (value.y + value.height) / 100 * task.height
    return incoming.box(task, value.rectanglelabels[0], (x1, y1, x2, y2))
