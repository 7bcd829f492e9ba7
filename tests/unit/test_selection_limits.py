"""Every limit of the configuration holds for the agent as a whole, in any 24 hours, however often it restarts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.records import Frame
from agent.selection import Selector
from agent.settings import RuleSettings, SelectionSettings
from tests.unit.test_selection import COUNTS, FREE, frame, rows

CLASSES = ("person", "car", "toaster")
STEP_S, DAY_S, RESTART_S = 60, 86_400, 21_600
SIZE, LABELS = 50_000, 2
"""Bytes and served objects of every frame."""
CAMERAS = ("a", "b")


def selector(policy: SelectionSettings, state: str) -> Selector:
    return Selector(
        policy,
        serve=0.25,
        floor=0.02,
        classes=CLASSES,
        counts=COUNTS,
        odds=2.2,
        seed=1,
        state=json.loads(state),
        cameras=CAMERAS,
    )


def picks(policy: SelectionSettings, days: float = 2.5) -> list[tuple[int, str, str]]:
    """When (s), of which camera and by which lane frames are picked, with something new in each and a restart every
    six hours, at which the cameras' own time begins anew."""
    taken: list[tuple[int, str, str]] = []
    state = "{}"
    for start in range(0, int(days * DAY_S), RESTART_S):
        chosen = selector(policy, state)
        for t in range(0, RESTART_S, STEP_S):
            index = (start + t) // STEP_S
            x = float(index * 7 % 100) * 0.6
            seen = rows((x, 10, x + 20, 40, 0.3 + index * 13 % 29 / 100, index % 3), (x, 50, x + 9, 60, 0.4, 0))
            for camera in CAMERAS:
                new = Frame(camera, frame(index, seed=index).image, index, float(t), index, index)
                chosen.consider(new, seen)
                for candidate in chosen.due():
                    chosen.charge(candidate, SIZE)
                    taken.append((start + t, candidate.frame.camera, candidate.lane))
        for candidate in chosen.close():
            chosen.charge(candidate, SIZE)
            taken.append((start + RESTART_S, candidate.frame.camera, candidate.lane))
        state = json.dumps(chosen.state())
    return taken


def most(times: list[int], span: int) -> int:
    """The most picks in any `span` seconds."""
    return max((sum(at <= other < at + span for other in times) for at in times), default=0)


@pytest.mark.parametrize(
    ("limit", "value"), [("frames_per_day", 100), ("bytes_per_day", 100 * SIZE), ("labels_per_day", 100 * LABELS)]
)
def test_limits_by_day_hold_for_the_agent_and_each_camera_gets_its_part(limit: str, value: int) -> None:
    taken = picks(SelectionSettings(**{**FREE, "budget": 0.9, limit: value}))
    times = [at for at, _, _ in taken]
    assert 75 <= most(times, DAY_S) <= 100
    for camera in CAMERAS:
        assert most([at for at, name, _ in taken if name == camera], DAY_S) <= 50


@pytest.mark.parametrize(
    ("limits", "spans"),
    [
        ({"per_hour": 3}, {3600: 3}),
        ({"per_day": 20}, {DAY_S: 20}),
        ({"per_hour": 4, "per_day": 30}, {3600: 4, DAY_S: 30}),
        ({"cooldown_s": 1800.0}, {1800: 1}),
    ],
    ids=str,
)
def test_a_rules_limits_and_cooldown_hold_per_camera(limits: dict[str, Any], spans: dict[int, int]) -> None:
    rule = RuleSettings(name="toasters", classes=("toaster",), **limits)
    taken = picks(SelectionSettings(**{**FREE, "budget": 1e-9, "rules": (rule,)}), days=1)
    for camera in CAMERAS:
        times = [at for at, name, lane in taken if (name, lane) == (camera, "rule")]
        assert {span: most(times, span) for span in spans} == spans


def test_context_frames_stay_within_the_limits_by_day() -> None:
    rule = RuleSettings(name="toasters", classes=("toaster",), cooldown_s=3600, before=20, after=5)
    taken = picks(SelectionSettings(**{**FREE, "budget": 1e-9, "frames_per_day": 200, "rules": (rule,)}), days=1.5)
    assert 100 <= most([at for at, _, _ in taken], DAY_S) <= 200


def test_a_minute_is_a_minute() -> None:
    rule = RuleSettings(name="all", per_minute=2)
    chosen = selector(SelectionSettings(**{**FREE, "budget": 1e-9, "rules": (rule,)}), "{}")
    fired = []
    for index in range(1200):
        new = Frame("a", frame(index, seed=index).image, index, index / 4, index, index)
        chosen.consider(new, rows((1, 1, 20, 20, 0.9, 0)))
        fired += [candidate.frame.t for candidate in chosen.due()]
    assert fired == [minute * 60 + second for minute in range(5) for second in (0, 0.25)]
