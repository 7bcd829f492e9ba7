"""Ultralytics' folder: images/, labels/ for people, predictions/ apart, data.yaml and review.csv.

A label has five columns (class, centre, size; shares of the image). Predictions have six, and a folder that no tool
takes for labels; Ultralytics itself refuses six columns. Read back is the same folder, or a zip archive of one (what
CVAT exports as "Ultralytics YOLO Detection").
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from agent.dataset.formats import files, incoming, outgoing, review
from agent.dataset.formats.incoming import Author, Gathering, Known
from agent.dataset.names import names_of, parse_yaml
from agent.dataset.records import Box, Labels, Task
from agent.errors import ConfigError, LabelError

SHEET, ORDER = "data.yaml", "labels/classes.txt"
TOOL = "ultralytics"
_EDGE = 1e-3
"""By how much of the image rounding may lead a box over its edge."""


def write(tasks: Sequence[Task], folder: Path, classes: Sequence[str], *, url: str = "") -> None:
    """Write data.yaml, images/, an empty labels/, predictions/ and review.csv into `folder`."""
    if url:
        raise ConfigError("ultralytics reads images from the disk", remedy="leave --url out")
    names = outgoing.class_names(tasks, classes)
    numbers = {name: number for number, name in enumerate(names)}
    (folder / "labels").mkdir(parents=True, exist_ok=True)
    for task in tasks:
        outgoing.place(task, folder / "images")
        lines = [_guess(task, numbers[guess.box.name], guess.box, guess.score) for guess in outgoing.visible(task)]
        outgoing.write_text(folder / "predictions" / f"{task.cid}.txt", "".join(lines))
    outgoing.write_review(folder, tasks)
    outgoing.write_text(folder / SHEET, _sheet(names))


def _sheet(names: Sequence[str]) -> str:
    """data.yaml for a folder of which everything is in images/. Quoted as JSON, which is YAML as well."""
    listed = "".join(f"  {number}: {json.dumps(name, ensure_ascii=False)}\n" for number, name in enumerate(names))
    return f"train: images\nval: images\nnames:\n{listed}"


def line(number: int, xyxy: tuple[float, float, float, float], width: int, height: int) -> str:
    """One box as a label's five columns, without the line's end."""
    x1, y1, x2, y2 = xyxy
    shares = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
    return " ".join([str(number), *(f"{share:.8f}" for share in shares)])


def _guess(task: Task, number: int, box: Box, score: float) -> str:
    return f"{line(number, box.xyxy, task.width, task.height)} {score:.6f}\n"


def read(path: Path, known: Known, *, who: str = "", when: str = "") -> Labels:
    """The labels in a folder or zip archive. Raises ConfigError for neither, and for no `who` or `when`."""
    author = incoming.author(TOOL, who, when)
    found = Gathering(path.name)
    with found.at():
        read_tree(found, files.tree(path), known, author)
    return found.result()


def read_tree(found: Gathering, tree: files.Tree, known: Known, author: Author) -> None:
    """Add the labels of a folder or archive, whichever tool wrote it. Raises LabelError for another format."""
    sheets = [PurePosixPath(name) for name in tree.names() if PurePosixPath(name).name == SHEET]
    if not sheets:
        raise LabelError(f"no {SHEET}", remedy="name the folder that was exported, or its zip archive")
    part = files.Part(tree, min(sheets, key=lambda sheet: len(sheet.parts)).parent)
    names = _class_names(part.read(SHEET))
    _check_order(part, names)
    said = review.verdicts(found, known, part.read(outgoing.REVIEW) if outgoing.REVIEW in part.names() else b"")
    for name in part.names():
        if name.startswith("labels/") and name.endswith(".txt") and name != ORDER:
            with found.at(name):
                task = incoming.candidate(known, PurePosixPath(name).stem)
                word = said.pop(task.cid, None)
                found.take(task, list(_boxes(task, part.read(name), names)), word, author)
    review.take_rest(found, known, said, author)


def _check_order(part: files.Part, names: Mapping[int, str]) -> None:
    """labelImg and others keep an order of classes of their own beside the labels: it has to be the sheet's."""
    if ORDER in part.names():
        lines = part.read(ORDER).decode("utf-8", "replace").splitlines()
        if any(line.strip() != names.get(number) for number, line in enumerate(lines)):
            raise LabelError(
                f"{ORDER} has other classes than {SHEET}", remedy=f"put the labels' own order into {SHEET}"
            )


def _class_names(text: bytes) -> dict[int, str]:
    """The names in a data.yaml, by number. Raises LabelError."""
    sheet = Path(SHEET)
    try:
        return dict(enumerate(names_of(parse_yaml(text, sheet), sheet)))
    except ConfigError as error:
        raise LabelError(error.what, remedy=error.remedy) from None


def _boxes(task: Task, text: bytes, names: Mapping[int, str]) -> Iterator[Box]:
    """The boxes of a label file. Raises LabelError for the first line that is none."""
    try:
        lines = text.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise LabelError("not text", remedy="export it from the tool again") from None
    for number, columns in enumerate((one.split() for one in lines), 1):
        if len(columns) == 6:
            remedy = "predictions are no labels: leave them in predictions/"
            raise LabelError(f"line {number} has six columns, a confidence among them", remedy=remedy)
        if len(columns) not in (0, 5):
            remedy = "write class, centre and size; boxes only, no outlines"
            raise LabelError(f"line {number} has {len(columns)} columns, not 5", remedy=remedy)
        if columns:
            yield _box(task, number, columns, names)


def _box(task: Task, number: int, columns: Sequence[str], names: Mapping[int, str]) -> Box:
    try:
        cls, (x, y, width, height) = int(columns[0]), (float(column) for column in columns[1:])
    except ValueError:
        what = f"line {number} is not five numbers: {incoming.shown(' '.join(columns))}"
        raise LabelError(what, remedy="write class, centre and size") from None
    if not all(
        -_EDGE <= share <= 1 + _EDGE for share in (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    ):
        raise LabelError(f"line {number} leaves the image", remedy="write shares of the image, 0 to 1")
    if cls not in names:
        raise LabelError(f"line {number}: {SHEET} has no class {cls}", remedy=f"add it to {SHEET}, or change the class")
    across, down = (x - width / 2, x + width / 2), (y - height / 2, y + height / 2)
    xyxy = (across[0] * task.width, down[0] * task.height, across[1] * task.width, down[1] * task.height)
    return incoming.box(task, names[cls], xyxy)
