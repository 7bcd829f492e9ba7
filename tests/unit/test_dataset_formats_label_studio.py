"""Label Studio: what is exported, what comes back, and what does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.dataset.formats import FORMATS
from agent.dataset.records import Box, Labels, Task
from agent.errors import ConfigError
from tests.labelling import label_studio as tool
from tests.labelling import work
from tests.labelling.work import NAMES, WHO, Answer

write, read = FORMATS["label-studio"].write, FORMATS["label-studio"].read
CAR = Box("car", (10, 5, 30.5, 40))


def back(folder: Path, tasks: list[Task], tree: Any) -> Labels:
    path = folder / "export.json"
    path.write_text(tree if isinstance(tree, str) else json.dumps(tree))
    return read(path, work.known(tasks).get)


def test_all_guesses_of_a_frame_are_one_prediction_with_scores_in_percent_of_the_image(tmp_path: Path) -> None:
    guesses = [work.guess("car", (0, 0, 32, 24), 0.25), work.guess(NAMES[3], (-3, 40, 64, 51), 0.75)]
    write([work.task(tmp_path, 1, guesses=guesses)], tmp_path / "out", NAMES)
    (task,) = json.loads((tmp_path / "out" / "tasks.json").read_text())
    (prediction,) = task["predictions"]
    assert (prediction["model_version"], prediction["score"]) == ("model-a", 0.5)
    first, second = prediction["result"]
    assert first["value"] == {"x": 0, "y": 0, "width": 50, "height": 50, "rotation": 0, "rectanglelabels": ["car"]}
    assert (first["score"], second["score"]) == (0.25, 0.75)
    assert second["value"]["x"] == 0
    assert second["value"]["y"] + second["value"]["height"] == pytest.approx(100)
    assert "annotations" not in task
    facts = {"lane": "uncertain", "reasons": "small, dim", "device": "gate-7", "camera": "front", "cid": work.cid(1)}
    assert facts.items() <= task["data"].items()


def test_300_guesses_and_none_are_exported(tmp_path: Path) -> None:
    many = [work.guess("car", (i, 0, i + 2, 9)) for i in range(300)]
    write([work.task(tmp_path, 1, 400, 10, many), work.task(tmp_path, 2)], tmp_path / "out", NAMES)
    full, empty = json.loads((tmp_path / "out" / "tasks.json").read_text())
    assert [len(task["predictions"][0]["result"]) for task in (full, empty)] == [300, 0]


def test_images_are_links_or_addresses(tmp_path: Path) -> None:
    task = work.task(tmp_path, 1)
    write([task], tmp_path / "out", NAMES)
    (local,) = json.loads((tmp_path / "out" / "tasks.json").read_text())
    assert local["data"]["image"] == f"/data/local-files/?d=out/images/{task.cid}.jpg"
    assert (tmp_path / "out" / "images" / f"{task.cid}.jpg").samefile(task.image)
    write([task], tmp_path / "far", NAMES, url="https://store.example/images/")
    (remote,) = json.loads((tmp_path / "far" / "tasks.json").read_text())
    assert remote["data"]["image"] == f"https://store.example/images/{task.cid[:2]}/{task.cid}.jpg"
    assert not (tmp_path / "far" / "images").exists()


def _set(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda annotation: annotation.update(changes)


def _region(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda annotation: annotation["result"][0].update(changes)


def _value(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda annotation: annotation["result"][0]["value"].update(changes)


def _said(word: str) -> Callable[[dict[str, Any]], None]:
    return lambda annotation: annotation["result"].append({"type": "choices", "value": {"choices": [word]}})


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_set(lead_time=None), "no time was spent"),
        (_set(lead_time=0), "no time was spent"),
        (_set(completed_by=None), "nobody is named"),
        (_set(was_cancelled=True), "skipped by ann"),
        (_set(updated_at="yesterday"), "no date and time"),
        (_set(result=None), "result"),
        (_region(type="brushlabels", value={"format": "rle", "rle": [1], "brushlabels": ["car"]}), "'brush'"),
        (_region(type="polygonlabels"), "'polygon'"),
        (_region(type="rectangle"), "'rectangle'"),
        (_region(original_width=640), "drawn on an image of 640x48"),
        (_region(image_rotation=90), "rotated"),
        (_value(rotation=12.5), "rotated"),
        (_value(width=0), "no area"),
        (_value(x=float("nan")), "x: "),
        (_value(x=10**400), "x: "),
        (_value(rectanglelabels=[]), "rectanglelabels"),
        (_value(rectanglelabels=["\n"]), "name of a class"),
        (_said("nothing there"), "nothing there, and 1 boxes"),
        (_said("perhaps"), "no verdict"),
    ],
)
def test_what_cannot_be_taken_is_a_problem_of_the_whole_frame(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], why: str
) -> None:
    tasks = [work.task(tmp_path, 1), work.task(tmp_path, 2)]
    write(tasks, tmp_path / "out", NAMES)
    tree = tool.export(tmp_path / "out", {one.cid: Answer((CAR, CAR)[:1]) for one in tasks})
    change(tree[0]["annotations"][0])
    found = back(tmp_path, tasks, tree)
    assert [label.cid for label in found.labels] == [tasks[1].cid]
    (problem,) = found.problems
    assert problem.where == "export.json: task 1, annotation 100"
    assert why in problem.what
    assert problem.remedy


def test_predictions_of_unlabelled_tasks_never_come_back(tmp_path: Path) -> None:
    tasks = [work.task(tmp_path, n, guesses=[work.guess("car", (1, 2, 30, 40), 0.99)]) for n in (1, 2)]
    write(tasks, tmp_path / "out", NAMES)
    assert back(tmp_path, tasks, tool.export(tmp_path / "out", {})) == Labels(())
    made = tool.export(tmp_path / "out", {})
    for task in made:  # what "create annotations from predictions" leaves
        (prediction,) = task["predictions"]
        task["annotations"] = [{"id": 9, "completed_by": 1, "result": prediction["result"], "updated_at": work.WHEN}]
    found = back(tmp_path, tasks, made)
    assert not found.labels
    assert all("made from a prediction" in problem.what for problem in found.problems)
    assert len(found.problems) == 2


def test_the_exported_tasks_themselves_are_not_labels(tmp_path: Path) -> None:
    tasks = [work.task(tmp_path, 1, guesses=[work.guess("car", (1, 2, 30, 40))])]
    write(tasks, tmp_path / "out", NAMES)
    found = read(tmp_path / "out" / "tasks.json", work.known(tasks).get)
    assert not found.labels
    assert "holds no annotations" in found.problems[0].what


def test_two_people_on_one_task_are_two_labels_and_drafts_and_strangers_are_problems(tmp_path: Path) -> None:
    tasks = [work.task(tmp_path, n) for n in (1, 2, 3)]
    write(tasks, tmp_path / "out", NAMES)
    tree = tool.export(tmp_path / "out", {tasks[0].cid: Answer((CAR,)), tasks[2].cid: Answer((CAR,))})
    other = {**tree[0]["annotations"][0], "id": 7, "completed_by": 12}
    tree[0]["annotations"].append(other)
    tree[1]["drafts"] = [{"result": []}]
    found = back(tmp_path, tasks[:2], tree)
    assert [label.who for label in found.labels] == [WHO, "user 12"]
    assert [problem.what.partition(" ")[0] for problem in found.problems] == ["only", tasks[2].cid]


def test_a_task_with_another_candidates_image_is_refused(tmp_path: Path) -> None:
    tasks = [work.task(tmp_path, n) for n in (1, 2)]
    write(tasks, tmp_path / "out", NAMES)
    tree = tool.export(tmp_path / "out", {tasks[0].cid: Answer((CAR,))})
    tree[0]["data"]["image"] = tree[1]["data"]["image"]
    found = back(tmp_path, tasks, tree)
    assert not found.labels
    assert "another candidate's image" in found.problems[0].what


@pytest.mark.parametrize(
    "when", ["2026-03-01T13:00:00.1234567+01:00", "2026-03-01T12:00:00.12Z", "2026-03-01 12:00:00"]
)
def test_times_are_told_in_one_way(tmp_path: Path, when: str) -> None:
    tasks = [work.task(tmp_path, 1)]
    write(tasks, tmp_path / "out", NAMES)
    tree = tool.export(tmp_path / "out", {tasks[0].cid: Answer((CAR,))})
    tree[0]["annotations"][0]["updated_at"] = when
    (label,) = back(tmp_path, tasks, tree).labels
    assert label.when in ("2026-03-01T12:00:00.123Z", "2026-03-01T12:00:00.120Z", "2026-03-01T12:00:00.000Z")


def test_a_file_that_is_not_there_or_too_large_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read(tmp_path / "none.json", work.known([]).get)
    large = tmp_path / "large.json"
    with large.open("wb") as file:
        file.truncate(300 * 1024 * 1024)
    (problem,) = read(large, work.known([]).get).problems
    assert "larger than 256 MiB" in problem.what
