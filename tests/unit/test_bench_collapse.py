"""The plumbing of the collapse benchmark, with the shipped model in place of every training."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from agent.detector import Detector
from agent.errors import ConfigError
from agent.world.classes import NAMES
from tests.bench.collapse.arms import boxes
from tests.bench.collapse.learn import Sample
from tests.bench.collapse.plan import ALL, ARMS, OURS, RANDOM, SELF, Plan
from tests.bench.collapse.report import results, write
from tests.bench.collapse.rounds import Rounds
from tests.bench.collapse.streets import picture, yolo_lines

MODEL = Path(__file__).resolve().parents[2] / "agent" / "world" / "model" / "model.onnx"
TINY = Plan(
    rounds=2,
    repetitions=1,
    cameras=1,
    frames=60,
    budget=0.1,
    base_streets=1,
    start_pieces=2,
    start_views=32,
    views=32,
    held_out_streets=1,
    held_out_frames=24,
)


class Lessons:
    """Takes every lesson and learns nothing from it."""

    def __init__(self) -> None:
        self.taken: list[Path] = []

    def __call__(self, folder: Path) -> None:
        self.taken.append(folder)
        (folder / "model.pt").touch()
        shutil.copyfile(MODEL, folder / "model.onnx")


@pytest.fixture(scope="module")
def lessons() -> Lessons:
    return Lessons()


@pytest.fixture(scope="module")
def rounds(tmp_path_factory: pytest.TempPathFactory, lessons: Lessons) -> Rounds:
    """The whole benchmark, run once."""
    rounds = Rounds(TINY, tmp_path_factory.mktemp("collapse"), lessons)
    for step in rounds.steps():
        assert not step.result.exists(), step.name
        step.do()
        assert step.result.exists(), step.name
    return rounds


def labelled(rounds: Rounds, turn: int, arm: str) -> list[Sample]:
    kept = json.loads((rounds.folder(0, turn, arm) / "labels.json").read_text())
    return [Sample(**sample) for sample in kept]


def seen(folder: Path) -> list[Sample]:
    return [Sample(**view) for view in json.loads((folder / "lesson.json").read_text())["views"]]


def test_every_arm_learns_once_per_round_from_the_same_start(rounds: Rounds, lessons: Lessons) -> None:
    folders = [rounds.folder(0, turn, arm) for turn in range(2) for arm in ARMS]
    assert lessons.taken[TINY.start_pieces :] == folders
    starts = {json.loads((folder / "lesson.json").read_text())["start"] for folder in folders}
    assert starts == {str(rounds.work / "start" / "1" / "model.pt")}
    assert {len(seen(folder)) for folder in folders} == {TINY.views}


def test_random_frames_get_as_many_labels_as_ours(rounds: Rounds) -> None:
    for turn in range(2):
        ours, chance = (labelled(rounds, turn, arm) for arm in (OURS, RANDOM))
        assert boxes(chance[:-1]) < boxes(ours) <= boxes(chance)


def test_ours_stays_within_its_budget_and_all_take_everything(rounds: Rounds) -> None:
    assert 0 < len(labelled(rounds, 0, OURS)) <= TINY.budget * TINY.frames
    assert len(labelled(rounds, 0, ALL)) == TINY.frames


def test_human_labels_are_the_truth_and_own_labels_what_the_model_serves(rounds: Rounds) -> None:
    truth = {sample.image: sample.labels for sample in labelled(rounds, 1, ALL)}
    for arm in (OURS, RANDOM):
        assert all(sample.labels == truth[sample.image] for sample in labelled(rounds, 1, arm))
    detector = Detector(MODEL, floor=0.25, threads=1)
    for sample in labelled(rounds, 1, SELF)[:5]:
        rows = detector.detect(picture(Path(sample.image)))
        assert [int(line.split()[0]) for line in sample.labels.splitlines()] == rows[:, 5].astype(int).tolist()


def test_a_frame_on_which_nothing_is_served_has_no_labels() -> None:
    assert yolo_lines(np.zeros((0, 6), np.float32)) == ""
    assert yolo_lines(np.array([[-5, 0, 320, 360, 0.9, 1]], np.float32)) == "1 0.250000 0.500000 0.500000 1.000000\n"


def test_self_forgets_what_came_before_and_the_others_keep_it(rounds: Rounds) -> None:
    own = {sample.image for sample in labelled(rounds, 1, SELF)}
    assert {sample.image for sample in seen(rounds.folder(0, 1, SELF))} <= own
    before = {sample.image for sample in labelled(rounds, 0, OURS)}
    assert before & {sample.image for sample in seen(rounds.folder(0, 1, OURS))}
    assert sum("base" in sample.image for sample in seen(rounds.folder(0, 1, OURS))) == TINY.views // 2


def test_the_bundle_of_an_arm_knows_what_it_was_trained_on(rounds: Rounds) -> None:
    manifest = json.loads((rounds.folder(0, 1, ALL) / "bundle" / "manifest.json").read_text())
    both = [sample for turn in range(2) for sample in labelled(rounds, turn, ALL)]
    base = sum(len(path.read_text().splitlines()) for path in (rounds.work / "base" / "labels").iterdir())
    assert sum(manifest["counts"]) == base + boxes(both)


def test_what_is_done_is_not_done_again(rounds: Rounds) -> None:
    assert all(step.result.exists() for step in rounds.steps())


def test_every_model_is_judged_on_the_same_held_out_objects(rounds: Rounds) -> None:
    start = rounds.start_scores()
    assert start is not None
    assert set(start["classes"]) == set(NAMES)
    for arm in ARMS:
        assert rounds.scores(rounds.folder(0, 1, arm)) == start  # the same weights everywhere, so the same scores


def test_the_report_says_what_was_measured_and_what_was_labelled(rounds: Rounds, tmp_path: Path) -> None:
    text = write(rounds, tmp_path)
    start, found = rounds.start_scores(), results(rounds)["arms"]
    assert start is not None
    assert f"| {start['tail']:.3f} | {start['tail']:.3f} | {start['tail']:.3f} |" in text
    assert [row["round"] for row in found[OURS]] == [1, 2]
    assert [row["frames"] for row in found[ALL]] == [TINY.frames] * 2
    assert ElementTree.parse(tmp_path / "collapse.svg").getroot().tag.endswith("svg")
    assert json.loads((tmp_path / "collapse.json").read_text())["start"] == start


def test_an_unfinished_benchmark_reports_what_is_there(rounds: Rounds, tmp_path: Path) -> None:
    longer = Rounds(replace(TINY, rounds=3), rounds.work, rounds.learn)
    assert [row["round"] for row in results(longer)["arms"][SELF]] == [1, 2]
    nothing = Rounds(TINY, tmp_path / "empty", rounds.learn)
    assert "| - |" not in write(nothing, tmp_path)
    assert results(nothing)["start"] is None


def test_a_folder_holds_work_of_one_size(rounds: Rounds) -> None:
    rounds.claim()
    Rounds(replace(TINY, repetitions=5), rounds.work, rounds.learn).claim()
    with pytest.raises(ConfigError, match="work of other sizes"):
        Rounds(replace(TINY, views=64), rounds.work, rounds.learn).claim()
