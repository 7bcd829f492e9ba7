"""What every importer checks before a person's word becomes a `Label`: of which candidate, and boxes that can be.

A frame is taken whole or not at all: a frame of which one box was dropped would teach a detector that nothing is there.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import NamedTuple, TypeAlias

from pydantic import ValidationError

from agent.dataset.formats.outgoing import visible, within
from agent.dataset.records import Box, Label, Labels, Problem, Task, Verdict
from agent.errors import ConfigError, LabelError

Known: TypeAlias = Callable[[str], "Task | None"]
"""A candidate by its id, as it was exported; None where there is none."""

SAME = 0.5
"""Pixels by which a tool's rounding may move a box."""
VERDICTS: dict[str, Verdict] = {
    "useful": "useful",
    "duplicate": "duplicate",
    "junk": "junk",
    "nothing there": "nothing",
}
"""What a labeller reads in the tool, and what it means."""
_CID = re.compile(r"([0-9a-f]{32})(?:\.[A-Za-z]{3,4})?$")
_LONGEST_NAME = 200


@dataclass
class Gathering:
    """The labels and problems of one file so far. `source` names the file in every problem."""

    source: str
    labels: list[Label] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)
    """Candidates in which nothing is a person's."""
    met: set[str] = field(default_factory=set)

    @contextlib.contextmanager
    def at(self, where: str = "") -> Iterator[None]:
        """What is wrong inside becomes a problem at that place of the file; then the next one is read."""
        try:
            yield
        except LabelError as error:
            self.refuse(where, error.what, error.remedy)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            path = ".".join(str(part) for part in first["loc"]) or "content"
            self.refuse(where, f"{path}: {first['msg']}", "export it from the tool again, and change it there")

    def refuse(self, where: str, what: str, remedy: str) -> None:
        self.problems.append(Problem(f"{self.source}: {where}" if where else self.source, what, remedy))

    def take(
        self, task: Task, boxes: Sequence[Box], said: str | None, author: Author, *, partial: bool = False
    ) -> None:
        """A frame from a format without authors: a person's if it has a verdict, or a box that is no pre-annotation."""
        if task.cid in self.met:
            raise LabelError(f"{task.cid} is in this file twice", remedy="leave one of them")
        self.met.add(task.cid)
        if not said and only_guesses(boxes, task):
            self.unseen.append(task.cid)
            return
        word = verdict(said, boxes)
        kept = tuple(boxes) if word == "useful" else ()
        size = task.width, task.height
        self.labels.append(Label(task.cid, *size, kept, word, *author, partial=partial, confirmed=bool(said)))

    def result(self) -> Labels:
        """What was found; frames in which nothing is a person's are one problem together."""
        if self.unseen:
            some = ", ".join(self.unseen[:3]) + (", ..." if len(self.unseen) > 3 else "")
            what = f"{len(self.unseen)} frames without a verdict have no box, or only pre-annotations: {some}"
            self.refuse("", what, "say useful, nothing there, duplicate or junk of each that somebody has looked at")
        return Labels(tuple(self.labels), tuple(self.problems))


def cid_in(name: str) -> str | None:
    """The candidate's id in the name of an image file, a path or an address."""
    found = _CID.search(name.rpartition("?d=")[2])
    return found[1] if found else None


def candidate(known: Known, name: str) -> Task:
    """The candidate whose id is in the name of an image file, a path or an address. Raises LabelError."""
    cid = cid_in(name)
    if cid is None:
        raise LabelError(f"no candidate's id in {shown(name)}", remedy="leave the exported image names as they are")
    task = known(cid)
    if task is None:
        raise LabelError(f"{cid} is no candidate of this store", remedy="import into the store it was exported from")
    return task


def same_size(task: Task, width: int | None, height: int | None) -> None:
    """Raise LabelError where the boxes were drawn on an image of another size; None is a size that nobody tells."""
    if (width or task.width, height or task.height) != (task.width, task.height):
        what = f"drawn on an image of {width}x{height}, not {task.width}x{task.height}"
        raise LabelError(what, remedy="label the exported image")


class Author(NamedTuple):
    who: str
    when: str
    tool: str


def author(tool: str, who: str, when: str) -> Author:
    """Whom the user names for a format that does not say. Raises ConfigError."""
    if not who.strip() or not when.strip():
        what = f"{tool} files do not say who labelled them, and when"
        raise ConfigError(what, remedy="say --who NAME and --when 2026-03-01T12:00:00Z")
    try:
        return Author(who.strip(), moment(when), tool)
    except LabelError as error:
        raise ConfigError(error.what, remedy=error.remedy) from None


def box(task: Task, name: object, xyxy: Sequence[float]) -> Box:
    """A person's box, cut to the image. Raises LabelError for a class without a name and a box without area."""
    if not isinstance(name, str) or not name.strip() or len(name) > _LONGEST_NAME or not name.isprintable():
        raise LabelError(f"{shown(name)} cannot be the name of a class", remedy="choose one of the exported classes")
    x1, y1, x2, y2 = (float(value) for value in xyxy)
    inside = within((x1, y1, x2, y2), task.width, task.height)
    if not (inside[2] > inside[0] and inside[3] > inside[1]):  # also for what is not a number
        raise LabelError(f"the box of a {name} has no area in the image", remedy="delete it or draw it again")
    return Box(name, inside)


def verdict(said: str | None, boxes: Sequence[Box]) -> Verdict:
    """The person's verdict; unsaid, it follows from the boxes. Raises LabelError where the two disagree."""
    if not said:
        return "useful" if boxes else "nothing"
    meant = VERDICTS.get(said) or ("nothing" if said == "nothing" else None)
    if meant is None:
        raise LabelError(f"{shown(said)} is no verdict", remedy=f"choose one of {', '.join(VERDICTS)}")
    if meant == "nothing" and boxes:
        raise LabelError(f"nothing there, and {len(boxes)} boxes", remedy="delete the boxes or the verdict")
    if meant == "useful" and not boxes:
        raise LabelError("useful, and no box", remedy="draw the boxes, or say nothing there")
    return meant


def only_guesses(boxes: Sequence[Box], task: Task) -> bool:
    """Whether every box is a pre-annotation's (class, and each side within `SAME` pixels): nothing here is a person's.

    True for no boxes, and for a part of the pre-annotations: a threshold on confidences leaves just that. Compared is
    what was exported, cut to the image.
    """
    guesses = [guess.box for guess in visible(task)]
    return all(any(_same(one, guess) for guess in guesses) for one in boxes)


def _same(one: Box, other: Box) -> bool:
    return one.name == other.name and all(
        abs(a - b) <= SAME for a, b in zip(one.xyxy, other.xyxy, strict=True)
    )  # fmt: skip


def moment(text: str) -> str:
    """A tool's date and time as RFC 3339 UTC; without a zone it is taken for UTC. Raises LabelError."""
    try:
        digits = re.sub(r"\.(\d+)", lambda found: f".{found[1]:0<6.6}", text.strip())
        when = datetime.fromisoformat(re.sub(r"Z$", "+00:00", digits))
        when = when.replace(tzinfo=when.tzinfo or timezone.utc).astimezone(timezone.utc)
    except (ValueError, OverflowError):
        raise LabelError(f"{shown(text)} is no date and time", remedy="for example 2026-03-01T12:00:00Z") from None
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def shown(value: object) -> str:
    """Something from a file, short and in one line."""
    text = ascii(value)
    return text if len(text) <= 60 else text[:57] + "..."
