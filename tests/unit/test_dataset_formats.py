"""What holds for every labelling tool: boxes come back as they were drawn, guesses never do, garbage is a problem."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.dataset.formats import FORMATS
from agent.dataset.records import Box, Labels, Prediction, Task, Verdict
from agent.errors import ConfigError, FrameError
from tests.labelling import coco, cvat, label_studio, ultralytics, work
from tests.labelling.work import NAMES, WHEN, WHO, Answer

ANSWERS: dict[str, Callable[[Path, Mapping[str, Answer]], Path]] = {
    "label-studio": label_studio.answer,
    "coco": coco.answer,
    "cvat": cvat.answer,
    "ultralytics": ultralytics.answer,
}
CAR = Box("car", (10, 5, 30.5, 40))
every_tool = pytest.mark.parametrize("tool", sorted(FORMATS))


def read(tool: str, path: Path, tasks: list[Task]) -> Labels:
    return FORMATS[tool].read(path, work.known(tasks).get, who=WHO, when=WHEN)


def round_trip(tool: str, folder: Path, tasks: list[Task], answers: Mapping[str, Answer]) -> Labels:
    FORMATS[tool].write(tasks, folder / "out", NAMES)
    return read(tool, ANSWERS[tool](folder / "out", answers), tasks)


def test_each_tool_has_somebody_who_answers() -> None:
    assert ANSWERS.keys() == FORMATS.keys()


@every_tool
@settings(deadline=None)
@given(frame=work.labelled())
def test_boxes_come_back_as_a_person_drew_them(
    tmp_path_factory: pytest.TempPathFactory,
    tool: str,
    frame: tuple[int, int, tuple[Prediction, ...], tuple[Box, ...]],
) -> None:
    width, height, guesses, drawn = frame
    folder = tmp_path_factory.mktemp("labels")
    tasks = [work.task(folder, 1, width, height, guesses)]
    said: Verdict = "useful" if drawn else "nothing"
    found = round_trip(tool, folder, tasks, {tasks[0].cid: Answer(drawn, said)})
    assert not found.problems
    (label,) = found.labels
    assert work.same(label.boxes, drawn)
    assert (label.cid, label.width, label.height, label.verdict) == (tasks[0].cid, width, height, said)
    assert (label.who, label.when, label.tool, label.confirmed) == (WHO, WHEN, tool, True)
    shutil.rmtree(folder)


@every_tool
def test_300_boxes_and_none_are_nothing_special(tmp_path: Path, tool: str) -> None:
    many = tuple(Box(NAMES[i % 5], (i, 0, i + 2, 9)) for i in range(300))
    tasks = [work.task(tmp_path, 1, 302, 10, [Prediction(box, 0.5) for box in many]), work.task(tmp_path, 2)]
    answers = {tasks[0].cid: Answer(many, "useful"), tasks[1].cid: Answer((), "nothing")}
    full, empty = sorted(round_trip(tool, tmp_path, tasks, answers).labels, key=lambda label: -len(label.boxes))
    assert work.same(full.boxes, many)
    assert (empty.boxes, empty.verdict) == ((), "nothing")


@every_tool
@pytest.mark.parametrize(
    ("said", "drawn", "verdict", "kept"),
    [
        ("useful", 1, "useful", 1),
        ("nothing", 0, "nothing", 0),
        ("junk", 1, "junk", 0),
        ("duplicate", 0, "duplicate", 0),
        (None, 1, "useful", 1),
        (None, 0, "nothing", 0),
    ],
)
def test_verdicts_are_kept(tmp_path: Path, tool: str, said: Any, drawn: int, verdict: str, kept: int) -> None:
    tasks = [work.task(tmp_path, 1)]
    found = round_trip(tool, tmp_path, tasks, {tasks[0].cid: Answer((CAR,) * drawn, said)})
    assert [(label.verdict, len(label.boxes)) for label in found.labels] == [(verdict, kept)]


@every_tool
@pytest.mark.parametrize(("said", "drawn"), [("nothing", 1), ("useful", 0), ("perhaps", 1)])
def test_a_verdict_against_the_boxes_is_a_problem(tmp_path: Path, tool: str, said: Any, drawn: int) -> None:
    tasks = [work.task(tmp_path, 1)]
    found = round_trip(tool, tmp_path, tasks, {tasks[0].cid: Answer((CAR,) * drawn, said)})
    assert not found.labels
    assert len(found.problems) == 1


@every_tool
def test_what_nobody_answered_does_not_come_back(tmp_path: Path, tool: str) -> None:
    tasks = [work.task(tmp_path, n, guesses=[work.guess("car", (1, 2, 30, 40), 0.99)]) for n in range(5)]
    assert not round_trip(tool, tmp_path, tasks, {}).labels


@every_tool
def test_an_accepted_guess_is_a_label_when_a_person_says_so(tmp_path: Path, tool: str) -> None:
    tasks = [work.task(tmp_path, 1, guesses=[Prediction(CAR, 0.9)])]
    (label,) = round_trip(tool, tmp_path, tasks, {tasks[0].cid: Answer((CAR,), "useful")}).labels
    assert work.same(label.boxes, (CAR,))
    assert label.confirmed


@pytest.mark.parametrize("tool", sorted(FORMATS.keys() - {"label-studio"}))
@pytest.mark.parametrize("drawn", [(CAR,), (CAR, CAR), (Box("car", (10.4, 5, 30.5, 39.6)),)])
def test_without_a_verdict_guesses_that_nobody_touched_are_no_label(
    tmp_path: Path, tool: str, drawn: tuple[Box, ...]
) -> None:
    guesses = [Prediction(CAR, 0.9), work.guess("car", (0, 0, 9, 9), 0.1)]
    tasks = [work.task(tmp_path, 1, guesses=guesses), work.task(tmp_path, 2, guesses=guesses)]
    answers = {tasks[0].cid: Answer(drawn), tasks[1].cid: Answer((*drawn, Box("猫, or dog", (1, 1, 5, 5))))}
    found = round_trip(tool, tmp_path, tasks, answers)
    assert [label.cid for label in found.labels] == [tasks[1].cid]
    (problem,) = found.problems
    assert "only pre-annotations" in problem.what
    assert tasks[0].cid in problem.what


@pytest.mark.parametrize("tool", sorted(FORMATS.keys() - {"label-studio"}))
def test_a_guess_that_left_the_image_is_recognised_where_it_was_cut(tmp_path: Path, tool: str) -> None:
    tasks = [work.task(tmp_path, 1, guesses=[work.guess("car", (-3, 5, 30, 51))])]
    cut = Box("car", (0, 5, 30, 48))
    assert not round_trip(tool, tmp_path, tasks, {tasks[0].cid: Answer((cut,))}).labels


@every_tool
def test_images_are_links_where_the_file_system_has_them(tmp_path: Path, tool: str) -> None:
    task = work.task(tmp_path, 1)
    for _ in range(2):
        FORMATS[tool].write([task], tmp_path / "out", NAMES)
    found = list((tmp_path / "out").rglob(f"{task.cid}.jpg"))
    assert all(path.samefile(task.image) for path in found)
    task.image.unlink()
    for path in found:
        path.unlink()
    with pytest.raises(FrameError, match="is not there"):
        FORMATS[tool].write([task], tmp_path / "out", NAMES)


@every_tool
def test_the_same_tasks_give_the_same_files(tmp_path: Path, tool: str) -> None:
    tasks = [work.task(tmp_path, n, guesses=[work.guess(NAMES[n], (1, 2, 30, 40))]) for n in range(3)]
    seen = []
    for _ in range(2):
        FORMATS[tool].write(tasks, tmp_path / "out", NAMES)
        seen.append({path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()})
    assert seen[0] == seen[1]


@every_tool
@pytest.mark.parametrize("names", [[], ["car", " "], ["two\nlines"]])
def test_classes_need_names(tmp_path: Path, tool: str, names: list[str]) -> None:
    with pytest.raises(ConfigError, match="class"):
        FORMATS[tool].write([work.task(tmp_path, 1)], tmp_path / "out", names)


@every_tool
def test_a_path_with_nothing_there_is_the_users_mistake(tmp_path: Path, tool: str) -> None:
    with pytest.raises(ConfigError, match="o such file"):
        read(tool, tmp_path / "none.json", [])


@pytest.mark.parametrize("tool", sorted(FORMATS.keys() - {"label-studio"}))
@pytest.mark.parametrize("given_", [{"who": WHO}, {"when": WHEN}, {"who": WHO, "when": "noon"}])
def test_who_and_when_are_asked_for(tmp_path: Path, tool: str, given_: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        FORMATS[tool].read(tmp_path, work.known([]).get, **given_)


trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def damaged(draw: st.DataObject, text: bytes) -> bytes:
    """The file with something wrong somewhere: in its structure where it is JSON, else in its bytes."""
    if draw.draw(st.booleans()):
        return draw.draw(st.sampled_from([text[: len(text) // 2], b"[" * 3000, b"", b"\xff\xfe\0", b"PK\3\4" + text]))
    try:
        tree: Any = json.loads(text)
    except ValueError:
        at = draw.draw(st.integers(0, len(text)))
        return text[:at] + draw.draw(st.binary(max_size=12)) + text[at + draw.draw(st.integers(0, 9)) :]
    place = tree
    while isinstance(place, (dict, list)) and place:
        key = draw.draw(st.sampled_from(list(place) if isinstance(place, dict) else list(range(len(place)))))
        if draw.draw(st.booleans()) or not isinstance(place[key], (dict, list)):
            place[key] = draw.draw(trees)
            break
        place = place[key]
    return json.dumps(tree).encode()


@every_tool
@settings(deadline=None)
@given(draw=st.data())
def test_no_garbage_crashes_a_reader(tmp_path_factory: pytest.TempPathFactory, tool: str, draw: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("garbage")
    tasks = [work.task(folder, 1)]
    FORMATS[tool].write(tasks, folder / "out", NAMES)
    path = ANSWERS[tool](folder / "out", {tasks[0].cid: Answer((CAR,), "useful")})
    files = [path] if path.is_file() else [path / "data.yaml", path / f"labels/{tasks[0].cid}.txt", path / "review.csv"]
    victim = draw.draw(st.sampled_from(files))
    victim.write_bytes(damaged(draw, victim.read_bytes()))
    found = read(tool, path, tasks)
    assert all(problem.what and problem.remedy for problem in found.problems)
    assert all("\n" not in problem.what for problem in found.problems)
    shutil.rmtree(folder)


@pytest.mark.parametrize("tool", ["coco", "cvat", "ultralytics"])
@pytest.mark.parametrize("name", ["../labels/x.txt", "/etc/passwd", "a/../../x", "c:\\x", "..\\x"])
def test_an_archive_that_leads_out_of_itself_is_refused(tmp_path: Path, tool: str, name: str) -> None:
    path = tmp_path / "export.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.yaml", "names: [car]")
        archive.writestr("annotations/instances.json", "{}")
        archive.writestr(name, "x")
    (problem,) = read(tool, path, []).problems
    assert "leads out of the archive" in problem.what


@pytest.mark.parametrize("tool", ["coco", "cvat", "ultralytics"])
def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path: Path, tool: str) -> None:
    path = tmp_path / "export.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("data.yaml", "annotations/instances.json"):
            with archive.open(name, "w", force_zip64=True) as file:
                for _ in range(300):
                    file.write(bytes(1024 * 1024))
    (problem,) = read(tool, path, []).problems
    assert "unpacks to more than 256 MiB" in problem.what
