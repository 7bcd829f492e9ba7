"""CVAT with a person in front of it: the archive it imported, and the XML it exports ("CVAT for images 1.1")."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from tests.labelling.work import WHEN, WHO, WORDS, Answer


def export(folder: Path, answers: Mapping[str, Answer]) -> Element:
    """The document that CVAT dumps: what was imported, where nobody has answered, and people's boxes elsewhere.

    Coordinates with two decimals, and shapes as CVAT keeps them when a data set was imported into a project: who drew
    them is forgotten.
    """
    with zipfile.ZipFile(folder / "cvat.zip") as archive:
        root = ElementTree.fromstring(archive.read("annotations.xml"))
    task = root.find("meta/task")
    assert task is not None
    SubElement(SubElement(task, "assignee"), "username").text = WHO
    SubElement(task, "updated").text = WHEN.replace("T", " ").replace("Z", "000+00:00")
    for image in root.iterfind("image"):
        answer = answers.get(Path(image.get("name", "")).stem)
        if answer:
            redraw(image, answer)
        for shape in image:
            shape.set("source", "manual")
        for box in image.iterfind("box"):
            for side in ("xtl", "ytl", "xbr", "ybr"):
                box.set(side, f"{float(box.get(side, '')):.2f}")
    return root


def redraw(image: Element, answer: Answer) -> None:
    """The person's boxes instead of what was there, and their verdict."""
    for box in image.findall("box"):
        image.remove(box)
    for drawn in answer.boxes:
        sides = dict(zip(("xtl", "ytl", "xbr", "ybr"), map(str, drawn.xyxy), strict=True))
        box = SubElement(image, "box", {"label": drawn.name, "occluded": "0", "z_order": "0", **sides})
        SubElement(box, "attribute", {"name": "confidence"})
    for attribute in image.iterfind("tag/attribute"):
        if attribute.get("name") == "verdict":
            word = answer.verdict or ("" if answer.boxes else "nothing")
            attribute.text = WORDS.get(word, word) or "open"


def answer(folder: Path, answers: Mapping[str, Answer]) -> Path:
    """The file that CVAT exports."""
    path = folder / "annotations.xml"
    path.write_bytes(ElementTree.tostring(export(folder, answers), "utf-8", xml_declaration=True))
    return path
