"""What a labelling tool's own library makes of a file: `python judge.py TOOL PATH`, run where it is installed.

Stands alone: it sees the file and nothing of Tailkeeper. Prints JSON: errors, and by image the boxes as
[class, x1, y1, x2, y2, score or null] in pixels, with the tags of the frame where the format has some.
"""

from __future__ import annotations

import json
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

Seen = dict[str, Any]


def label_studio(folder: Path) -> Seen:
    """Tasks and interface, by the SDK's label interface."""
    from label_studio_sdk.label_interface import LabelInterface

    interface = LabelInterface((folder / "interface.xml").read_text("utf-8"))
    interface.validate()
    tasks = json.loads((folder / "tasks.json").read_text("utf-8"))
    errors = [
        error for task in tasks for one in task["predictions"] for error in interface.validate_prediction(one, True)
    ]
    errors += [
        f"task {i}: no image" for i, task in enumerate(tasks) if not interface.validate_task({"data": task["data"]})
    ]
    regions = {
        Path(task["data"]["image"]).name: [_percent(region) for region in task["predictions"][0]["result"]]
        for task in tasks
    }
    truth = sum(len(task.get("annotations", [])) for task in tasks)
    return {"errors": errors, "images": regions, "classes": list(interface.get_control("label").labels), "truth": truth}


def _percent(region: dict[str, Any]) -> list[Any]:
    value, across, down = region["value"], region["original_width"] / 100, region["original_height"] / 100
    x, y = value["x"] * across, value["y"] * down
    sides = [x, y, x + value["width"] * across, y + value["height"] * down]
    return [value["rectanglelabels"][0], *sides, region["score"]]


def label_studio_export(folder: Path) -> Seen:
    """A project's JSON export, by the SDK's converter to COCO."""
    from label_studio_sdk.converter import Converter
    from label_studio_sdk.label_interface import LabelInterface

    config = (folder / "interface.xml").read_text("utf-8")
    interface = LabelInterface(config)
    tasks = json.loads((folder / "export.json").read_text("utf-8"))
    done = [one for task in tasks for one in task["annotations"]]
    errors = [f"annotation {one['id']} is not valid" for one in done if not interface.validate_annotation(one)]
    with tempfile.TemporaryDirectory() as out:
        converter = Converter(config, project_dir=str(folder), download_resources=False)
        converter.convert_to_coco(str(folder / "export.json"), out, is_dir=False)
        found = _instances(Path(out) / "result.json")
    return {**found, "errors": errors}


def coco(folder: Path) -> Seen:
    """Images and results, by pycocotools."""
    from pycocotools.coco import COCO

    truth = COCO(str(folder / "instances.json"))
    results = json.loads((folder / "results.json").read_text("utf-8"))
    guesses = truth.loadRes(str(folder / "results.json")) if results else truth  # it fails on an empty list
    images = {image["file_name"]: _boxes(guesses, image["id"]) for image in truth.loadImgs(truth.getImgIds())}
    return {"errors": [], "images": images, "classes": _names(truth), "truth": len(truth.anns)}


def coco_export(folder: Path) -> Seen:
    """Labels, by pycocotools."""
    return {"errors": [], **_instances(folder / "labelled.json")}


def _instances(path: Path) -> Seen:
    from pycocotools.coco import COCO

    truth = COCO(str(path))
    images = {Path(image["file_name"]).name: _boxes(truth, image["id"]) for image in truth.loadImgs(truth.getImgIds())}
    return {"images": images, "classes": _names(truth)}


def _names(truth: Any) -> list[str]:
    return [category["name"] for category in truth.loadCats(truth.getCatIds())]


def _boxes(truth: Any, image: int) -> list[list[Any]]:
    names = {category["id"]: category["name"] for category in truth.loadCats(truth.getCatIds())}
    found = []
    for one in truth.loadAnns(truth.getAnnIds(imgIds=image)):
        x, y, width, height = one["bbox"]
        found.append([names[one["category_id"]], x, y, x + width, y + height, one.get("score")])
    return found


def cvat(folder: Path) -> Seen:
    """The archive, unpacked and imported by datumaro as CVAT's projects do it."""
    with tempfile.TemporaryDirectory() as out:
        with zipfile.ZipFile(folder / "cvat.zip") as archive:
            archive.extractall(out)
        return _dataset(out, "cvat")


def cvat_export(folder: Path) -> Seen:
    """CVAT's XML beside its images."""
    return _dataset(str(folder / "annotations.xml"), "cvat")


def _dataset(path: str, form: str) -> Seen:
    from datumaro.components.dataset import Dataset

    dataset = Dataset.import_from(path, form)
    names = [category.name for category in dataset.categories()[_kinds().label].items]
    images, tags, errors = {}, {}, []
    for item in dataset:
        name = f"{item.id}.jpg"
        if item.media is None or item.media.data is None or item.media.data.shape[:2] != tuple(item.media.size):
            errors.append(f"{name}: its picture cannot be read")
        boxes = [one for one in item.annotations if one.type == _kinds().bbox]
        images[name] = [[names[one.label], *_corners(one), one.attributes.get("confidence")] for one in boxes]
        tags[name] = {names[one.label]: one.attributes for one in item.annotations if one.type == _kinds().label}
    return {"errors": errors, "images": images, "tags": tags, "classes": names}


def _kinds() -> Any:
    from datumaro.components.annotation import AnnotationType

    return AnnotationType


def _corners(box: Any) -> list[float]:
    x, y, width, height = box.get_bbox()
    return [x, y, x + width, y + height]


def rewritten(folder: Path) -> Seen:
    """CVAT's XML beside its images, written by datumaro in the formats that CVAT exports with it, into `folder`."""
    from datumaro.components.dataset import Dataset

    dataset = Dataset.import_from(str(folder / "annotations.xml"), "cvat")
    for form in ("cvat", "coco_instances"):
        dataset.export(str(folder / form), form, save_media=True)
    dataset.transform("random_split", splits=[("train", 0.5), ("val", 0.5)], seed=1)
    dataset.export(str(folder / "yolo_ultralytics"), "yolo_ultralytics", save_media=True)
    return {"errors": []}


JUDGES = {
    judge.__name__: judge
    for judge in (label_studio, label_studio_export, coco, coco_export, cvat, cvat_export, rewritten)
}

if __name__ == "__main__":
    out, sys.stdout = sys.stdout, sys.stderr  # libraries print
    json.dump(JUDGES[sys.argv[1]](Path(sys.argv[2])), out)
