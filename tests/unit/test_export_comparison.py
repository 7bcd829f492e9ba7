"""Old model against new: what counts as better, and when nothing can be said."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.export.comparison import Judged, compare, tail_of

CLASSES, TAIL = 4, (2, 3)
COMMON = (0.4, 0.4, 0.1, 0.1)


def frames(count: int, seed: int = 0, objects: int = 4) -> list[list[int]]:
    """Classes of the objects in each frame."""
    rng = np.random.default_rng(seed)
    return [rng.choice(CLASSES, objects, p=COMMON).tolist() for _ in range(count)]


def judged(there: list[list[int]], recall: dict[int, float], seed: int) -> list[Judged]:
    """A model that finds each object of a class with that chance, and has one false alarm of each class per frame."""
    rng = np.random.default_rng(seed)
    result = []
    for classes in there:
        rows = [(rng.uniform(0.3, 1.0), cls, True) for cls in classes if rng.random() < recall.get(cls, 0.7)]
        rows += [(rng.uniform(0.0, 0.5), cls, False) for cls in range(CLASSES)]
        confidence, numbers, right = (np.array(column) for column in zip(*rows, strict=True))
        result.append(Judged(confidence, numbers.astype(np.int64), right.astype(bool), np.array(classes, np.int64)))
    return result


def verdict(old: dict[int, float], new: dict[int, float], count: int = 300) -> str:
    there = frames(count)
    return compare(judged(there, old, 1), judged(there, new, 2), CLASSES, TAIL, draws=200, seed=0).verdict


def test_a_model_against_itself_is_the_same_without_any_doubt() -> None:
    one = judged(frames(40), {}, 1)
    report = compare(one, one, CLASSES, TAIL, draws=50, seed=0)
    assert report.verdict == "same"
    assert {(group.low, group.high) for group in report.groups.values()} == {(0.0, 0.0)}


def test_verdicts_of_clear_cases() -> None:
    assert verdict({}, {0: 0.9, 1: 0.9, 2: 0.9, 3: 0.9}) == "better"
    assert verdict({}, {0: 0.5, 1: 0.5}) == "degraded"
    assert verdict({}, {2: 0.2, 3: 0.2, 0: 0.8, 1: 0.8}) in ("degraded", "tail degraded")
    assert verdict({}, {2: 0.45, 3: 0.45, 0: 0.97, 1: 0.97}) == "tail degraded"


def test_a_lost_tail_is_seen_behind_a_better_head() -> None:
    there = frames(400)
    old, new = judged(there, {}, 1), judged(there, {2: 0.5, 3: 0.5, 0: 0.95, 1: 0.95}, 2)
    report = compare(old, new, CLASSES, TAIL, draws=200, seed=0)
    assert report.groups["head"].better
    assert report.groups["tail"].worse
    assert report.verdict == "tail degraded"


def test_few_frames_prove_nothing() -> None:
    assert verdict({}, {2: 0.55, 3: 0.55}, count=15) == "same"


def test_the_interval_covers_no_difference_where_there_is_none() -> None:
    covered = 0
    for trial in range(30):
        there = frames(80, seed=trial)
        report = compare(
            judged(there, {}, 100 + trial), judged(there, {}, 500 + trial), CLASSES, TAIL, draws=120, seed=trial
        )
        covered += report.groups["all"].low <= 0 <= report.groups["all"].high
    assert covered >= 25, "of 30; 28.5 are expected"


def test_pairing_narrows_the_interval() -> None:
    there = frames(120)
    old = judged(there, {}, 1)
    slightly = [Judged(one.confidence * 0.99, one.classes, one.right, one.there) for one in old]
    paired = compare(old, slightly, CLASSES, TAIL, draws=100, seed=0).groups["all"]
    apart = compare(old, judged(there, {}, 2), CLASSES, TAIL, draws=100, seed=0).groups["all"]
    assert paired.high - paired.low < (apart.high - apart.low) / 5


def test_classes_that_the_frames_do_not_show_are_left_out() -> None:
    there = [[0, 0], [0]]
    one = judged(there, {0: 1.0}, 1)
    report = compare(one, one, CLASSES, TAIL, draws=20, seed=0)
    document = report.document(["a", "b", "c", "d"])
    assert document["groups"]["tail"] == {"old": None, "new": None, "low": None, "high": None}
    assert document["classes"]["a"]["objects"] == 3
    assert document["classes"]["b"]["old"] is None
    assert document["verdict"] == "same"
    assert json.loads(json.dumps(document, allow_nan=False)) == document


def test_the_plain_figures_are_those_of_all_frames_once() -> None:
    there = frames(50)
    old, new = judged(there, {}, 1), judged(there, {}, 2)
    few, many = (compare(old, new, CLASSES, TAIL, draws=draws, seed=draws) for draws in (10, 100))
    assert few.groups["all"].old == many.groups["all"].old
    assert [one.new for one in few.classes] == [one.new for one in many.classes]
    assert few.groups["all"].old == pytest.approx(np.mean([one.old for one in few.classes]))


def test_a_model_that_finds_nothing_scores_nothing() -> None:
    there = frames(30)
    nothing = [Judged(np.zeros(0), np.zeros(0, np.int64), np.zeros(0, bool), np.array(one, np.int64)) for one in there]
    report = compare(judged(there, {}, 1), nothing, CLASSES, TAIL, draws=50, seed=0)
    assert report.groups["all"].new == 0.0
    assert report.verdict == "degraded"


def test_the_frames_of_both_models_must_be_the_same() -> None:
    one = judged(frames(3), {}, 1)
    with pytest.raises(ValueError, match="3 frames of the old model and 2 of the new"):
        compare(one, one[:2], CLASSES, TAIL, draws=1, seed=0)


def test_the_tail_is_the_rarest_third() -> None:
    assert tail_of([900, 5, 300, 7, 100, 50]) == (1, 3)
    assert tail_of([3, 2]) == (1,)
    assert tail_of([1, 1, 1]) == (2,)


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=80))
def test_no_class_outside_the_tail_is_rarer_than_one_in_it(counts: list[int]) -> None:
    tail = tail_of(counts)
    rest = [count for cls, count in enumerate(counts) if cls not in tail]
    assert tail
    assert max(counts[cls] for cls in tail) <= min(rest, default=max(counts))
