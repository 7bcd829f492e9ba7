"""Two simulated days of one fixed camera, a frame every ten seconds: what its budget is spent on, and when."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest

from agent.records import Candidate, Frame, Rows
from agent.selection import Selector
from agent.settings import SelectionSettings

FRAME_S = 10.0
DAY = int(86_400 / FRAME_S)
CLASSES = 40
WIDTH, HEIGHT = 96, 72
VIEW = np.kron(np.random.default_rng(7).integers(20, 200, (6, 8, 3), np.uint8), np.ones((12, 12, 1), np.uint8))


def selector(share: float, state: str = "{}") -> Selector:
    return Selector(
        SelectionSettings(budget=share, frames_per_day=0, bytes_per_day=0, labels_per_day=0),
        serve=0.25,
        floor=0.02,
        classes=[f"class {i}" for i in range(CLASSES)],
        counts=[100 * (i + 1) ** 2 for i in range(CLASSES)],
        odds=2.2,
        seed=1,
        state=json.loads(state),
    )


def night(index: int) -> bool:
    return index % DAY >= DAY // 2


def picture(index: int) -> Frame:
    image = (VIEW * (0.2 if night(index) else 1.0)).astype(np.uint8)
    image[index % HEIGHT] += np.uint8(1 + index % 40)
    return Frame("gate", image, index, index * FRAME_S, index, index)


def passers_by(frames: int) -> Iterator[Rows]:
    """One thing that was never there before in every frame; by night the model sees half as much of it."""
    random = np.random.default_rng(3)
    for index in range(frames):
        x, y = random.uniform(0, WIDTH - 20), random.uniform(0, HEIGHT - 30)
        confidence = random.uniform(0.05, 0.5) * (0.5 if night(index) else 1.0)
        yield np.array([(x, y, x + 20, y + 30, confidence, random.integers(CLASSES))], np.float32)


def watched(share: float, stream: Iterator[Rows], restart_every: int | None = None) -> list[list[Candidate]]:
    """What each frame led to, everything charged; with a restart now and then."""
    chosen, due = selector(share), []
    for index, rows in enumerate(stream):
        if restart_every and index and index % restart_every == 0:
            chosen = selector(share, json.dumps(chosen.state()))
        chosen.consider(picture(index), rows)
        due.append(chosen.due())
        for candidate in due[-1]:
            chosen.charge(candidate, 50_000)
    return due


@pytest.mark.parametrize(("share", "restart_every"), [(0.02, None), (0.05, None), (0.05, DAY // 3 + 1)])
def test_two_days_of_news_spend_the_budget_by_day_and_by_night(share: float, restart_every: int | None) -> None:
    due = watched(share, passers_by(2 * DAY), restart_every)
    taken = list[Candidate]()
    for index, candidates in enumerate(due):
        assert sum(candidate.lane != "canary" for candidate in candidates) <= 2 * share * 150
        for candidate in candidates:
            taken.append(candidate)
            assert candidate.lane == "canary" or len(taken) <= share * (index + 1) + 1e-6
    assert len(taken) >= 0.95 * share * 2 * DAY
    when = Counter(night(candidate.frame.index) for candidate in taken)
    assert 0.7 <= when[True] / when[False] <= 1.4


def test_two_days_of_a_still_scene_are_left_to_chance_and_a_look_every_six_hours() -> None:
    parked = np.array([(10, 10, 40, 40, 0.3, 1), (50, 10, 80, 60, 0.15, 2)], np.float32)
    due = watched(0.05, iter([parked] * (2 * DAY)))
    assert 0 < sum(candidate.lane != "canary" for candidates in due for candidate in candidates) <= 16
