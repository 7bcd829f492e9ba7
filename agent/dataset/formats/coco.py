"""COCO: images and categories without annotations, the model's guesses apart as results; instances JSON back.

FiftyOne, CVAT and many others read and write it. `annotations` are truth in every tool, so a guess is never written
there, and an annotation with a score is never read as a label. The format has no place for an author, nor for "somebody
looked and nothing is there": that is what review.csv is for.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from agent.dataset.formats import files, incoming, outgoing, review
from agent.dataset.formats.incoming import Author, Gathering, Known
from agent.dataset.records import Box, Labels, Task
from agent.errors import LabelError
from agent.records import Record

INSTANCES, RESULTS = "instances.json", "results.json"
TOOL = "coco"


def write(tasks: Sequence[Task], folder: Path, classes: Sequence[str], *, url: str = "") -> None:
    """Write instances.json, results.json, review.csv and, without `url`, images/ into `folder`."""
    numbers = {name: number for number, name in enumerate(outgoing.class_names(tasks, classes), 1)}
    images, results = [], []
    for number, task in enumerate(tasks, 1):
        images.append(_image(number, task, url))
        results += [
            _result(number, numbers[guess.box.name], guess.box, guess.score) for guess in outgoing.visible(task)
        ]
        if not url:
            outgoing.place(task, folder / "images")
    categories = [{"id": number, "name": name, "supercategory": ""} for name, number in numbers.items()]
    outgoing.write_review(folder, tasks)
    outgoing.write_json(folder / RESULTS, results)
    outgoing.write_json(
        folder / INSTANCES,
        {"info": {}, "licenses": [], "images": images, "annotations": [], "categories": categories},
    )


def _image(number: int, task: Task, url: str) -> dict[str, Any]:
    place = {"coco_url": outgoing.address(task, url)} if url else {}
    name = outgoing.file_name(task)
    return {
        "id": number,
        "file_name": name,
        "width": task.width,
        "height": task.height,
        **place,
        **outgoing.facts(task),
    }


def _result(image: int, category: int, box: Box, score: float) -> dict[str, Any]:
    x1, y1, x2, y2 = box.xyxy
    return {"image_id": image, "category_id": category, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": score}


class _Image(Record):
    id: int
    file_name: str
    width: int | None = None
    height: int | None = None


class _Category(Record):
    id: int
    name: str


class _Id(Record):
    """What must be right of every image and annotation for the others to be trusted: what belongs where."""

    id: int


class _Of(Record):
    image_id: int


class _Annotation(Record):
    id: int | str | None = None
    category_id: int
    bbox: tuple[float, float, float, float]
    iscrowd: int = 0
    score: float | None = None
    confidence: float | None = None
    attributes: Mapping[str, Any] = Field(default_factory=dict)


class _Instances(Record):
    images: list[dict[str, Any]]
    annotations: list[dict[str, Any]]
    categories: tuple[_Category, ...]


def read(path: Path, known: Known, *, who: str = "", when: str = "") -> Labels:
    """The labels in an instances JSON, or in a zip archive with annotations/*.json; review.csv beside it is heeded.

    Raises ConfigError where there is no such file, or no `who` and `when`.
    """
    author = incoming.author(TOOL, who, when)
    found = Gathering(path.name)
    with found.at():
        table = path.parent / outgoing.REVIEW
        trees = _trees(path, files.content(path))
        said = review.verdicts(found, known, files.content(table) if table.is_file() else b"")
        for where, tree in trees:
            with found.at(where):
                _read_instances(found, known, _Instances.model_validate(tree), said, author)
        review.take_rest(found, known, said, author)
    return found.result()


def _trees(path: Path, text: bytes) -> list[tuple[str, Any]]:
    """Where in the file, and the JSON there."""
    if not text.startswith(b"PK"):
        return [("", files.parsed(text))]
    archive = files.Archive(path)
    names = [name for name in archive.names() if name.endswith(".json")]
    if not names:
        raise LabelError("no JSON in the archive", remedy="export as COCO")
    return [(name, files.parsed(archive.read(name))) for name in names]


def _read_instances(
    found: Gathering, known: Known, instances: _Instances, said: dict[str, str], author: Author
) -> None:
    """Add the labels of one file. An annotation that belongs to no image spoils it: some frame lacks a box."""
    drawn: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for annotation in instances.annotations:
        drawn[_Of.model_validate(annotation).image_id].append(annotation)
    names = {category.id: category.name for category in instances.categories}
    numbers = Counter(_Id.model_validate(image).id for image in instances.images)
    if missing := drawn.keys() - numbers.keys():
        raise LabelError(f"annotations of image {min(missing)}, which is not there", remedy="export it again")
    for tree in instances.images:
        with found.at(f"image {tree['id']}"):
            image = _Image.model_validate(tree)
            if numbers[image.id] > 1:
                raise LabelError("its id is another image's as well", remedy="export it again")
            task = incoming.candidate(known, image.file_name)
            incoming.same_size(task, image.width, image.height)
            word = said.pop(task.cid, None)
            found.take(task, [_box(task, one, names) for one in drawn[image.id]], word, author)


def _box(task: Task, tree: dict[str, Any], names: dict[int, str]) -> Box:
    one = _Annotation.model_validate(tree)
    where = f"annotation {incoming.shown(one.id)}"
    if one.score is not None or one.confidence is not None:
        raise LabelError(f"{where} has a score: it is a prediction", remedy="export what people drew, not results")
    if one.iscrowd:
        raise LabelError(f"{where} is a crowd region", remedy="draw a box around each object")
    if one.attributes.get("rotation"):
        raise LabelError(f"{where} is rotated", remedy="draw it upright")
    x, y, width, height = one.bbox
    return incoming.box(task, names.get(one.category_id), (x, y, x + width, y + height))
