"""Ultralytics' folder: five columns are a label, six are a guess; review.csv has the verdicts."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from agent.dataset.formats import FORMATS
from agent.dataset.records import Box, Labels, Prediction, Task
from agent.errors import ConfigError
from tests.labelling import ultralytics as tool
from tests.labelling import work
from tests.labelling.work import NAMES, WHEN, WHO, Answer

write, read = FORMATS["ultralytics"].write, FORMATS["ultralytics"].read
CAR = Box("car", (10, 5, 30.5, 40))


@pytest.fixture
def tasks(tmp_path: Path) -> list[Task]:
    """Two tasks, exported to out/ and labelled with a car."""
    found = [work.task(tmp_path, number, guesses=[work.guess("car", (1, 1, 9, 9), 0.25)]) for number in range(2)]
    write(found, tmp_path / "out", NAMES)
    tool.answer(tmp_path / "out", {task.cid: Answer((CAR,)) for task in found})
    return found


def back(folder: Path, tasks: list[Task]) -> Labels:
    return read(folder / "out", work.known(tasks).get, who=WHO, when=WHEN)


def test_guesses_have_six_columns_and_a_folder_of_their_own(tmp_path: Path) -> None:
    task = work.task(tmp_path, 1, 100, 50, [work.guess(NAMES[1], (10, 0, 30, 25), 0.25)])
    write([task], tmp_path / "out", NAMES)
    columns = (tmp_path / "out" / "predictions" / f"{task.cid}.txt").read_text().split()
    assert [float(column) for column in columns] == [1, 0.2, 0.25, 0.2, 0.5, 0.25]
    assert list((tmp_path / "out" / "labels").iterdir()) == []
    sheet = yaml.safe_load((tmp_path / "out" / "data.yaml").read_text())
    assert sheet == {"train": "images", "val": "images", "names": dict(enumerate(NAMES))}


def test_predictions_that_were_copied_into_labels_are_refused(tmp_path: Path, tasks: list[Task]) -> None:
    for task in tasks:
        guess = tmp_path / "out" / "predictions" / f"{task.cid}.txt"
        guess.rename(tmp_path / "out" / "labels" / guess.name)
    found = back(tmp_path, tasks)
    assert not found.labels
    assert all("six columns" in problem.what for problem in found.problems)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("0 .5 .5 .2 .2 .9", "six columns"),
        ("0 .1 .1 .2 .2 .3 .1", "7 columns"),
        ("0 .5 .5 .2", "4 columns"),
        ("car .5 .5 .2 .2", "not five numbers"),
        ("0.5 .5 .5 .2 .2", "not five numbers"),
        ("9 .5 .5 .2 .2", "no class 9"),
        ("-1 .5 .5 .2 .2", "no class -1"),
        ("0 .5 .5 .2 nan", "leaves the image"),
        ("0 .5 .5 1e999 .2", "leaves the image"),
        ("0 .95 .5 .2 .2", "leaves the image"),
        ("0 320 240 20 20", "leaves the image"),
        ("0 .5 .5 0 .2", "no area"),
    ],
)
def test_a_line_that_is_no_label_is_a_problem_of_the_whole_frame(
    tmp_path: Path, tasks: list[Task], line: str, why: str
) -> None:
    with (tmp_path / "out" / "labels" / f"{tasks[0].cid}.txt").open("a") as file:
        file.write(f"\n{line}\n")
    found = back(tmp_path, tasks)
    assert [label.cid for label in found.labels] == [tasks[1].cid]
    (problem,) = found.problems
    assert problem.where == f"out: labels/{tasks[0].cid}.txt"
    assert why in problem.what


def test_an_empty_label_file_needs_a_verdict(tmp_path: Path, tasks: list[Task]) -> None:
    (tmp_path / "out" / "labels" / f"{tasks[0].cid}.txt").write_text("")
    found = back(tmp_path, tasks)
    assert [label.cid for label in found.labels] == [tasks[1].cid]
    assert "have no box" in found.problems[0].what
    _say(tmp_path, f"{tasks[0].cid}.jpg,nothing there")
    labels = back(tmp_path, tasks).labels
    assert {label.cid: label.verdict for label in labels} == {tasks[0].cid: "nothing", tasks[1].cid: "useful"}


def _say(folder: Path, *lines: str) -> None:
    (folder / "out" / "review.csv").write_text("\n".join(["image,verdict", *lines]))


def test_a_verdict_needs_no_label_file(tmp_path: Path, tasks: list[Task]) -> None:
    (tmp_path / "out" / "labels" / f"{tasks[0].cid}.txt").unlink()
    _say(tmp_path, f"{tasks[0].cid}.jpg,JUNK")
    assert {label.cid: label.verdict for label in back(tmp_path, tasks).labels}[tasks[0].cid] == "junk"


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (("nobody.jpg,junk",), "no candidate's id"),
        (("{cid}.jpg,junk", "{cid}.jpg,useful"), "two verdicts"),
        (('"{cid}.jpg',), "not a table"),
    ],
)
def test_a_wrong_review_is_a_problem(tmp_path: Path, tasks: list[Task], lines: tuple[str, ...], why: str) -> None:
    _say(tmp_path, *(line.format(cid=tasks[0].cid) for line in lines))
    found = back(tmp_path, tasks)
    assert len(found.labels) == 2
    assert why in found.problems[0].what


@pytest.mark.parametrize("sheet", ["names: 3", "names: {a: car}", "names: [{}]", "[", "{}", "a: *b", "!!python/x 1"])
def test_without_names_nothing_is_read(tmp_path: Path, tasks: list[Task], sheet: str) -> None:
    (tmp_path / "out" / "data.yaml").write_text(sheet)
    found = back(tmp_path, tasks)
    assert not found.labels
    assert "data.yaml" in found.problems[0].what


def test_names_may_be_in_another_order_and_a_folder_may_be_one_deeper(tmp_path: Path, tasks: list[Task]) -> None:
    folder = tmp_path / "out"
    (folder / "data.yaml").write_text(yaml.safe_dump({"names": list(reversed(NAMES)), "train": "images"}))
    folder.rename(tmp_path / "moved")
    folder.mkdir()
    (tmp_path / "moved").rename(folder / "inner")
    assert {label.boxes[0].name for label in back(tmp_path, tasks).labels} == {NAMES[-1]}


@pytest.mark.parametrize(("order", "labels"), [(NAMES, 2), (tuple(reversed(NAMES)), 0)])
def test_an_editors_own_order_of_classes_must_be_that_of_the_sheet(
    tmp_path: Path, tasks: list[Task], order: tuple[str, ...], labels: int
) -> None:
    (tmp_path / "out" / "labels" / "classes.txt").write_text("\n".join(order))
    found = back(tmp_path, tasks)
    assert len(found.labels) == labels
    assert ["classes.txt" in problem.what for problem in found.problems] == [True] * (not labels)


def test_links_that_lead_out_of_the_folder_are_refused(tmp_path: Path, tasks: list[Task]) -> None:
    label = tmp_path / "out" / "labels" / f"{tasks[0].cid}.txt"
    label.rename(tmp_path / "elsewhere.txt")
    label.symlink_to(tmp_path / "elsewhere.txt")
    found = back(tmp_path, tasks)
    assert len(found.labels) == 1
    assert "leads out of the folder" in found.problems[0].what


def test_a_person_who_moves_one_box_has_labelled_the_frame(tmp_path: Path) -> None:
    task = work.task(tmp_path, 1, guesses=[Prediction(CAR, 0.9)])
    write([task], tmp_path / "out", NAMES)
    moved = Box("car", (10, 5, 32, 40))
    tool.answer(tmp_path / "out", {task.cid: Answer((moved,))})
    (label,) = back(tmp_path, [task]).labels
    assert work.same(label.boxes, (moved,))
    assert not label.confirmed


def test_images_cannot_be_addresses(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="from the disk"):
        write([work.task(tmp_path, 1)], tmp_path / "out", NAMES, url="https://store.example")
