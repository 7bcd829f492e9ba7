"""Labels come in: the good ones are taken, and what cannot be a person's word is a problem with its remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import pytest

from agent.collector import LabelStore, image_path
from agent.dataset.labelling import Imported, take
from agent.dataset.records import Box, Label, Labels, Problem
from tests.fakes.clock import FakeClock
from tests.fakes.stores import CLASSES, a_label, a_scene, a_store

ITEMS = [a_scene(number) for number in range(3)]
Wrong: TypeAlias = Callable[[Label], Label]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LabelStore]:
    with LabelStore(a_store(tmp_path, ITEMS), FakeClock()) as opened:
        yield opened


def given(store: LabelStore, *labels: Label, newest_wins: bool = False) -> Imported:
    return take(store, Labels(labels), CLASSES, newest_wins=newest_wins)


def test_labels_are_stored_with_who_when_and_the_picture(store: LabelStore) -> None:
    done = given(store, a_label(ITEMS[0]), a_label(ITEMS[1], ()))
    assert (done.labels, done.stored, done.known, done.problems) == (2, 2, 0, [])
    assert done.states == {"labelled": 1, "nothing": 1}
    (revision,) = store.revisions(ITEMS[0].cid)
    assert (revision.who, revision.tool, revision.image) == ("ann", "label-studio", ITEMS[0].sha256)
    assert [(box.name, box.xyxy) for box in revision.boxes] == [("car", (40, 60, 120, 110))]


def test_the_same_file_again_changes_nothing(store: LabelStore) -> None:
    given(store, a_label(ITEMS[0]))
    done = given(store, a_label(ITEMS[0]))
    assert (done.stored, done.known, done.states) == (0, 1, {"labelled": 1})


def test_conflicts_and_unfinished_work_are_reported_and_kept(store: LabelStore) -> None:
    other = a_label(ITEMS[0], (("bus", (40, 60, 120, 110)),), who="bob")
    done = given(store, a_label(ITEMS[0]), other, a_label(ITEMS[1], partial=True))
    assert (done.conflicts, done.partial) == ([ITEMS[0].cid], [ITEMS[1].cid])
    assert len(store.revisions(ITEMS[0].cid)) == 2
    assert given(store, other, newest_wins=True).states == {"labelled": 1}


def box(label: Label, name: str, *xyxy: float) -> Label:
    x1, y1, x2, y2 = xyxy
    return replace(label, boxes=(*label.boxes, Box(name, (x1, y1, x2, y2))))


def guessed(label: Label) -> Label:
    row = ITEMS[0].meta.detections[0]
    return replace(label, boxes=(Box(row.name, row.xyxy),))


WRONG: dict[str, tuple[Wrong, str]] = {
    "a candidate of another store": (lambda label: replace(label, cid="0" * 32), "no such candidate"),
    "nobody": (lambda label: replace(label, who=" "), "nobody is named"),
    "a model as author": (lambda label: replace(label, who="YOLO26n"), "the model 'YOLO26n'"),
    "a model as tool": (lambda label: replace(label, tool="yolo26n"), "the model 'yolo26n'"),
    "no time": (lambda label: replace(label, when="yesterday"), "no time"),
    "another size": (lambda label: replace(label, width=640, height=480), "the candidate has 320 x 240"),
    "an unknown class": (lambda label: box(label, "zebra", 1, 2, 30, 40), "class 'zebra' is not known"),
    "a box outside": (lambda label: box(label, "car", 300, 200, 400, 230), "not in the picture"),
    "a box without area": (lambda label: box(label, "car", 30, 20, 30, 50), "not in the picture"),
    "a box that is no number": (lambda label: box(label, "car", float("nan"), 20, 30, 50), "not in the picture"),
    "useful without a box": (lambda label: replace(label, boxes=()), "useful, but without a box"),
    "nothing with a box": (lambda label: replace(label, verdict="nothing"), "nothing there, and 1 boxes"),
    "the model's own boxes": (guessed, "the model's to the last digit"),
}


@pytest.mark.parametrize(("spoil", "why"), WRONG.values(), ids=WRONG.keys())
def test_what_cannot_be_taken_is_a_problem_and_the_rest_is_taken(store: LabelStore, spoil: Wrong, why: str) -> None:
    done = given(store, spoil(a_label(ITEMS[0])), a_label(ITEMS[1]))
    assert done.stored == 1
    (problem,) = done.problems
    assert why in problem.what
    assert problem.remedy
    assert store.revisions(ITEMS[0].cid) == []


def test_boxes_of_the_model_are_taken_where_the_tool_knows_that_a_person_accepted_them(store: LabelStore) -> None:
    assert given(store, replace(guessed(a_label(ITEMS[0])), confirmed=True)).stored == 1


def test_a_rounded_box_at_the_edge_is_cut_to_the_picture(store: LabelStore) -> None:
    given(store, a_label(ITEMS[0], (("car", (-1, 60, 120, 241)),)))
    (revision,) = store.revisions(ITEMS[0].cid)
    assert revision.boxes[0].xyxy == (0, 60, 120, 240)


def test_a_picture_that_was_changed_in_the_store_takes_no_label(store: LabelStore) -> None:
    path = store.folder / image_path(ITEMS[0].cid)
    path.write_bytes(path.read_bytes() + b"\0")
    assert "changed after it arrived" in given(store, a_label(ITEMS[0])).problems[0].what


def test_problems_of_the_file_are_passed_on(store: LabelStore) -> None:
    problem = Problem("tasks.json: task 3", "nobody is named as its author", "press Update")
    assert take(store, Labels((), (problem,)), CLASSES).problems == [problem]
