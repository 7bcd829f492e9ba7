"""Labels into the store: what a tool's file said is checked against the candidates, and the good ones are taken.

A prediction is nobody's word. What cannot be told from one (boxes equal to the model's to the last digit, an author
who is a model) is a problem for a person to look at, and is not stored.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from agent.collector import Drawn, LabelStore, Revision, image_path, read_meta
from agent.dataset.records import Box, Label, Labels, Problem
from agent.records import Detection

SAME_DIGITS = 0.02
"""Pixels: what rounding of files moves a box by at most. A box drawn by hand is never as close to a prediction."""
OUTSIDE = 1.0
"""Pixels by which a tool's rounding may put a box beyond the edge."""
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?([Zz]|[+-]\d\d:\d\d)")


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import came to: labels in the file, new ones, those known before, what they make of their candidates."""

    labels: int
    stored: int
    known: int
    states: dict[str, int]
    conflicts: list[str]
    partial: list[str]
    problems: list[Problem]

    def document(self) -> dict[str, Any]:
        return asdict(self)


def take(store: LabelStore, found: Labels, classes: Sequence[str], *, newest_wins: bool = False) -> Imported:
    """Store the labels that can be taken; the others are added to the problems of the file.

    `classes`: the names that a box may have; empty for any. `newest_wins`: these labels count, whatever others said
    of the same candidates before. Raises OSError, StoreError.
    """
    check = _Check(store, classes, store.candidates(list({label.cid for label in found.labels})))
    problems, revisions = list(found.problems), list[Revision]()
    for label in found.labels:
        problem = check.problem(label)
        if problem is None:
            revisions.append(_revision(label, check.known[label.cid]["sha256"], newest_wins))
        else:
            problems.append(Problem(f"label of {label.cid} by {label.who or 'nobody'}", *problem))
    taken = store.add(revisions)
    return Imported(
        labels=len(found.labels),
        stored=taken.stored,
        known=taken.known,
        states=dict(Counter(taken.states.values())),
        conflicts=sorted(cid for cid, state in taken.states.items() if state == "conflict"),
        partial=sorted(cid for cid, state in taken.states.items() if state == "partial"),
        problems=problems,
    )


def _revision(label: Label, sha256: str, settles: bool) -> Revision:
    inside = (0.0, 0.0, float(label.width), float(label.height))
    boxes = tuple(Drawn(name=box.name, xyxy=_cut(box, inside)) for box in label.boxes)
    fields = {"verdict": label.verdict, "who": label.who.strip(), "when": label.when, "tool": label.tool}
    size = {"image": sha256, "width": label.width, "height": label.height}
    return Revision(cid=label.cid, boxes=boxes, partial=label.partial, settles=settles, **fields, **size)


def _cut(box: Box, inside: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = box.xyxy
    return max(x1, inside[0]), max(y1, inside[1]), min(x2, inside[2]), min(y2, inside[3])


class _Check:
    """What can be wrong with a label, given the store that it is for."""

    def __init__(self, store: LabelStore, classes: Sequence[str], known: Mapping[str, Mapping[str, Any]]) -> None:
        self._store = store
        self.known = known
        self._classes = frozenset(classes)
        self._models = store.models()

    def problem(self, label: Label) -> tuple[str, str] | None:
        """What is wrong, and what would be right; None where nothing is."""
        if label.cid not in self.known:
            return "no such candidate in this store", "import into the store that the task was exported from"
        return self._author(label) or self._picture(label) or self._content(label) or self._guess(label)

    def _author(self, label: Label) -> tuple[str, str] | None:
        if not label.who.strip() or not label.tool.strip():
            return "nobody is named as its author", "say who labelled with --who, or in the tool"
        for name in (label.who, label.tool):
            if name.strip().casefold() in self._models:
                return f"its author is the model {name!r}", "have a person look at it and say so in the tool"
        if not _TIME.fullmatch(label.when):
            return f"made at {label.when!r}, which is no time", "RFC 3339, for example 2026-03-01T12:00:00Z"
        return None

    def _picture(self, label: Label) -> tuple[str, str] | None:
        candidate = self.known[label.cid]
        size = (candidate["width"], candidate["height"])
        if (label.width, label.height) != size:
            what = f"drawn on {label.width} x {label.height} pixels, the candidate has {size[0]} x {size[1]}"
            return what, "label the exported picture as it is"
        try:
            content = (self._store.folder / image_path(label.cid)).read_bytes()
        except OSError as error:
            return f"its picture cannot be read: {error.strerror}", "restore the store's picture"
        if hashlib.sha256(content).hexdigest() != candidate["sha256"]:
            return "its picture was changed after it arrived", "restore the store's picture, and label that one"
        return None

    def _content(self, label: Label) -> tuple[str, str] | None:
        if label.verdict == "useful" and not label.boxes and not label.partial:
            return "useful, but without a box", "draw the objects, or give the verdict nothing"
        if label.verdict == "nothing" and label.boxes:
            return f"nothing there, and {len(label.boxes)} boxes", "delete the boxes, or give the verdict useful"
        for box in label.boxes:
            x1, y1, x2, y2 = box.xyxy
            if self._classes and box.name not in self._classes:
                return f"class {box.name!r} is not known", "name the classes with --classes, or rename it in the tool"
            if not (-OUTSIDE <= x1 < x2 <= label.width + OUTSIDE and -OUTSIDE <= y1 < y2 <= label.height + OUTSIDE):
                return f"a box of {box.name} at {box.xyxy} is not in the picture", "draw it again"
        return None

    def _guess(self, label: Label) -> tuple[str, str] | None:
        if label.confirmed or not label.boxes:
            return None
        meta = read_meta(self._store.folder, label.cid)
        if meta is None or not all(any(_same(box, row) for row in meta.detections) for box in label.boxes):
            return None
        return (
            "its boxes are the model's to the last digit, and the tool does not say that a person accepted them",
            "confirm it in the tool, or move a box",
        )


def _same(box: Box, row: Detection) -> bool:
    return box.name == row.name and all(abs(a - b) <= SAME_DIGITS for a, b in zip(box.xyxy, row.xyxy, strict=True))
