"""CVAT: a zip archive in its own format ("CVAT for images 1.1") with images and pre-annotations, and its exports back.

CVAT knows no predictions: a pre-annotation is a box like any other, and importing into a project forgets who drew it.
So nothing counts as a person's that is where a pre-annotation was, unless the person gave the frame a verdict: the
attribute of a tag that every frame has. Its YOLO format has no place for scores, lanes and verdicts, and would make
label files out of guesses; it is only read.
"""

from __future__ import annotations

import math
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from agent import durable
from agent.dataset.formats import files, incoming, outgoing, ultralytics
from agent.dataset.formats.incoming import VERDICTS, Author, Gathering, Known
from agent.dataset.records import Box, Labels, Prediction, Task
from agent.errors import ConfigError, LabelError

ARCHIVE, LABELS, ANNOTATIONS = "cvat.zip", "labels.json", "annotations.xml"
TOOL = "cvat"
FRAME = "tailkeeper"
"""The tag of every frame, with what is known of it and the verdict."""
OPEN = "open"
"""The verdict of a frame that nobody has looked at."""
CONFIDENCE = "confidence"
"""The attribute of a box. Not "score": CVAT's COCO export takes that for a result's, and fails where it is empty."""
_MACHINE = {"auto", "file"}
"""Sources of a shape that say that no person drew it."""


def write(tasks: Sequence[Task], folder: Path, classes: Sequence[str], *, url: str = "") -> None:
    """Write labels.json (for the project's raw labels) and cvat.zip (its data set) into `folder`."""
    if url:
        raise ConfigError("cvat takes images along with pre-annotations", remedy="leave --url out")
    names = outgoing.class_names(tasks, classes)
    if FRAME in names:
        raise ConfigError(f"{FRAME!r} is the name of the tag with the verdict", remedy="give the class another name")
    labels = _labels(names)
    outgoing.write_json(folder / LABELS, labels)
    temporary = folder / (ARCHIVE + durable.TEMPORARY)
    with zipfile.ZipFile(temporary, "w") as archive:
        archive.writestr(zipfile.ZipInfo(ANNOTATIONS), ElementTree.tostring(_document(tasks, labels), "utf-8"))
        for task in tasks:
            image = zipfile.ZipInfo(f"images/{outgoing.file_name(task)}")
            with outgoing.opened(task) as source, archive.open(image, "w") as target:
                shutil.copyfileobj(source, target)
    temporary.replace(folder / ARCHIVE)


def _labels(classes: Sequence[str]) -> list[dict[str, Any]]:
    """What the project's label editor takes as raw JSON."""
    confidence = [_attribute(CONFIDENCE)]
    facts = [_attribute(name) for name in outgoing.FACTS]
    verdict = _attribute("verdict", "select", OPEN, *VERDICTS)
    boxes = [{"name": name, "type": "rectangle", "attributes": confidence} for name in classes]
    return [*boxes, {"name": FRAME, "type": "tag", "attributes": [*facts, verdict]}]


def _attribute(name: str, kind: str = "text", *values: str) -> dict[str, Any]:
    options = list(values) or [""]
    return {"name": name, "input_type": kind, "mutable": False, "values": options, "default_value": options[0]}


def _document(tasks: Sequence[Task], labels: Sequence[dict[str, Any]]) -> Element:
    root = Element("annotations")
    SubElement(root, "version").text = "1.1"
    about = SubElement(SubElement(root, "meta"), "task")
    for name, text in (("name", FRAME), ("size", str(len(tasks))), ("mode", "annotation")):
        SubElement(about, name).text = text
    listed = SubElement(about, "labels")
    for label in labels:
        _describe(SubElement(listed, "label"), label)
    for number, task in enumerate(tasks):
        size = {"width": str(task.width), "height": str(task.height)}
        image = SubElement(root, "image", {"id": str(number), "name": outgoing.file_name(task), **size})
        tag = SubElement(image, "tag", {"label": FRAME, "source": "auto"})
        for name, value in {**outgoing.facts(task), "verdict": OPEN}.items():
            _say(tag, name, "" if value is None else str(value))
        for guess in outgoing.visible(task):
            _draw(image, guess)
    return root


def _describe(element: Element, label: dict[str, Any]) -> None:
    SubElement(element, "name").text = label["name"]
    SubElement(element, "type").text = label["type"]
    attributes = SubElement(element, "attributes")
    for attribute in label["attributes"]:
        one = SubElement(attributes, "attribute")
        texts = {**attribute, "mutable": "False", "values": "\n".join(attribute["values"])}
        for name in ("name", "mutable", "input_type", "default_value", "values"):
            SubElement(one, name).text = texts[name]


def _draw(image: Element, guess: Prediction) -> None:
    sides = dict(zip(("xtl", "ytl", "xbr", "ybr"), (f"{side:.4f}" for side in guess.box.xyxy), strict=True))
    about = {"label": guess.box.name, "source": "auto", "occluded": "0", "z_order": "0"}
    _say(SubElement(image, "box", {**about, **sides}), CONFIDENCE, f"{guess.score:.4f}")


def _say(element: Element, name: str, text: str) -> None:
    """An attribute of a shape. What XML cannot hold becomes a question mark."""
    one = SubElement(element, "attribute", {"name": name})
    one.text = "".join(letter if letter.isprintable() else "?" for letter in text)


def read(path: Path, known: Known, *, who: str = "", when: str = "") -> Labels:
    """The labels in an XML file, or in an archive with one, or in an archive with Ultralytics' folder.

    `who` and `when` default to what the XML says: the task's assignee, and when it was changed last. Raises ConfigError
    where there is no such file, and where nobody says who and when.
    """
    found = Gathering(path.name)
    with found.at():
        content = files.content(path)
        if not content.startswith(b"PK"):
            _read_xml(found, known, content, who, when)
            return found.result()
        archive = files.Archive(path)
        names = [name for name in archive.names() if name.endswith(".xml")]
        for name in names:
            with found.at(name):
                _read_xml(found, known, archive.read(name), who, when)
        if not names:
            ultralytics.read_tree(found, archive, known, incoming.author(TOOL, who, when))
    return found.result()


class _Builder(ElementTree.TreeBuilder):
    def doctype(self, *_: str) -> None:
        """Entities are how a small file becomes a large one; CVAT declares none."""
        raise LabelError("declares a document type", remedy="export it from CVAT again")


def _read_xml(found: Gathering, known: Known, content: bytes, who: str, when: str) -> None:
    try:
        root = ElementTree.fromstring(content, ElementTree.XMLParser(target=_Builder()))
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise LabelError(f"not XML: {error}", remedy="export as CVAT for images 1.1") from None
    if root.tag != "annotations" or root.find("track") is not None:
        raise LabelError("no annotated images", remedy="export as CVAT for images 1.1, not for video")
    jobs = {job.findtext("id", ""): job for job in (*root.iterfind("meta//task"), *root.iterfind("meta//job"))}
    for image in root.iterfind("image"):
        with found.at(f"image {incoming.shown(image.get('id'))}"):
            _read_image(found, known, image, _author(jobs, image, who, when))


def _author(jobs: dict[str, Element], image: Element, who: str, when: str) -> Author:
    job = jobs.get(image.get("task_id", ""), next(iter(jobs.values()), Element("task")))
    changed = job.findtext("updated", "")
    return incoming.author(TOOL, who or job.findtext("assignee/username", ""), when or changed)


def _read_image(found: Gathering, known: Known, image: Element, author: Author) -> None:
    """Add a frame's label: all of it under a verdict, else what cannot be a pre-annotation, as unfinished work."""
    task = incoming.candidate(known, image.get("name", ""))
    incoming.same_size(task, *(int(_number(image, side)) for side in ("width", "height")))
    drawn = [(_box(task, shape), shape.get("source", "")) for shape in image if shape.tag != "tag"]
    said, asked = _verdict(image)
    if said:
        found.take(task, [box for box, _ in drawn], said, author)
        return
    own = [box for box, source in drawn if source not in _MACHINE and not incoming.only_guesses([box], task)]
    found.take(task, own, None, author, partial=asked or len(own) < len(drawn))


def _verdict(image: Element) -> tuple[str, bool]:
    """The verdict, "" where none was given, and whether the frame has the tag that asks for one."""
    given = [
        (attribute.text or "").strip()
        for tag in image.iterfind("tag")
        if tag.get("label") == FRAME
        for attribute in tag.iterfind("attribute")
        if attribute.get("name") == "verdict"
    ]
    words = set(given) - {OPEN, ""}
    if len(words) > 1:
        raise LabelError(f"has the verdicts {' and '.join(map(incoming.shown, sorted(words)))}", remedy="leave one tag")
    return next(iter(words), ""), bool(given)


def _box(task: Task, shape: Element) -> Box:
    if shape.tag != "box":
        raise LabelError(f"has a {incoming.shown(shape.tag)}", remedy="draw a rectangle instead")
    if shape.get("rotation") and _number(shape, "rotation") % 360:
        raise LabelError("has a rotated rectangle", remedy="draw it upright")
    return incoming.box(task, shape.get("label"), [_number(shape, side) for side in ("xtl", "ytl", "xbr", "ybr")])


def _number(element: Element, name: str) -> float:
    try:
        number = float(element.get(name, ""))
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise LabelError(f"{name}={incoming.shown(element.get(name))} is no number", remedy="export it from CVAT again")
    return number
