"""What every exporter does: images beside the tool's file, names of classes, boxes that stay within the image."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from agent import durable
from agent.dataset.records import Prediction, Task
from agent.errors import ConfigError, FrameError

FACTS = ("cid", "device", "camera", "ts", "lane", "score", "probability", "model", "reasons")
REVIEW, REVIEW_COLUMNS = "review.csv", ("image", "verdict")


def file_name(task: Task) -> str:
    """The image's name in every export. The id in it is how a label finds its candidate again."""
    return f"{task.cid}.jpg"


def place(task: Task, folder: Path) -> Path:
    """The task's image in `folder` as a hard link, or as a copy where the file system wants that. Again is harmless.

    Raises FrameError where the store has lost the image.
    """
    target = folder / file_name(task)
    if target.exists() and target.stat().st_size == task.image.stat().st_size:
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        target.unlink()
    if not task.image.is_file():
        raise _gone(task)
    try:
        os.link(task.image, target)
    except OSError:
        temporary = target.with_name(target.name + durable.TEMPORARY)
        shutil.copyfile(task.image, temporary)
        temporary.replace(target)
    return target


def opened(task: Task) -> BinaryIO:
    """The task's image, to be read. Raises FrameError where the store has lost it."""
    try:
        return task.image.open("rb")
    except FileNotFoundError:
        raise _gone(task) from None


def _gone(task: Task) -> FrameError:
    what = f"{task.image}: the image of candidate {task.cid} is not there"
    return FrameError(what, remedy="restore the store's picture")


def address(task: Task, url: str) -> str:
    """Where the task's image is when the store's images folder is served at `url`."""
    return f"{url.rstrip('/')}/{task.image.parent.name}/{task.image.name}"


def class_names(tasks: Iterable[Task], classes: Sequence[str]) -> list[str]:
    """`classes` in their order, then what other models' predictions call things. ConfigError for none at all."""
    seen = (prediction.box.name for task in tasks for prediction in task.predictions)
    names = list(dict.fromkeys([*classes, *sorted(set(seen))]))
    if not names:
        raise ConfigError("an export needs the names of the classes", remedy="name the model bundle or the classes")
    for name in names:
        if not name.strip() or not name.isprintable():
            raise ConfigError(f"{name!a} cannot be the name of a class", remedy="name it with printable characters")
    return names


def visible(task: Task) -> list[Prediction]:
    """The predictions, cut to the image; those without any area in it left out: tools refuse both."""
    found = []
    for guess in task.predictions:
        x1, y1, x2, y2 = within(guess.box.xyxy, task.width, task.height)
        if x2 > x1 and y2 > y1:
            found.append(Prediction(type(guess.box)(guess.box.name, (x1, y1, x2, y2)), guess.score))
    return found


def within(xyxy: tuple[float, float, float, float], width: int, height: int) -> tuple[float, float, float, float]:
    """The part of a box inside an image of that size, pixels."""
    x1, y1, x2, y2 = xyxy
    return max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))


def facts(task: Task) -> dict[str, Any]:
    """What a labeller may want to see, sort or filter by; the keys are `FACTS`."""
    return {**{name: getattr(task, name) for name in FACTS}, "reasons": ", ".join(task.reasons)}


def write_review(folder: Path, tasks: Iterable[Task]) -> None:
    """The table where people say what the tool's own format has no place for: a verdict per image, empty so far."""
    with io.StringIO(newline="") as text:
        table = csv.writer(text, lineterminator="\n")
        table.writerow(REVIEW_COLUMNS)
        table.writerows((file_name(task), "") for task in tasks)
        write_text(folder / REVIEW, text.getvalue())


def write_text(path: Path, text: str) -> None:
    """A file of the export; the old one stays whole until the new one is. An export can be repeated: not synced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + durable.TEMPORARY)
    temporary.write_text(text, "utf-8", newline="\n")
    temporary.replace(path)


def write_json(path: Path, tree: Any) -> None:
    write_text(path, json.dumps(tree, ensure_ascii=False, allow_nan=False))
