"""Rules as other systems have them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from agent.records import Rows
from agent.selection.rules import Ages, Rule
from agent.settings import RuleSettings

CLASSES = ("person", "dog", "cat")


def rule(ages: Ages | None = None, **settings: Any) -> Rule:
    return Rule(RuleSettings(name="r", **settings), CLASSES, 0.25, ages or {})


def rows(*confidences: tuple[str, float]) -> Rows:
    table = [(0, 0, 10, 10, confidence, CLASSES.index(name)) for name, confidence in confidences]
    return np.array(table, np.float32).reshape(-1, 6)


def fires(one: Rule, its_rows: Rows, t: float = 0.0) -> bool:
    return one.fires(t, its_rows, lambda: 0.5)


@pytest.mark.parametrize(
    ("settings", "wanted", "unwanted"),
    [
        ({"classes": ["dog"]}, rows(("dog", 0.9)), rows(("cat", 0.9), ("dog", 0.1))),
        ({"confidence": (0.4, 0.6)}, rows(("cat", 0.5)), rows(("cat", 0.7))),
        ({"classes": ["dog"], "confidence": (0.05, 0.2)}, rows(("dog", 0.1)), rows(("cat", 0.1))),
        ({"count": (2, 3)}, rows(("dog", 0.9), ("cat", 0.9)), rows(("dog", 0.9))),
        ({"classes": ["cat"], "count": (0, 0)}, rows(("dog", 0.9)), rows(("cat", 0.9))),
        ({"none_detected": True}, rows(("dog", 0.1)), rows(("dog", 0.3))),
        ({"classes": ["dog"], "none_detected": True}, rows(("cat", 0.9)), rows(("dog", 0.3))),
    ],
)
def test_a_rule_fires_on_what_it_names(settings: dict[str, Any], wanted: Rows, unwanted: Rows) -> None:
    assert fires(rule(**settings), wanted)
    assert not fires(rule(**settings), unwanted)


def test_a_timed_rule_fires_at_its_interval() -> None:
    one = rule(every_s=10)
    assert [t for t in range(31) if fires(one, rows(), float(t))] == [0, 10, 20, 30]


def test_a_random_rule_asks_the_draw() -> None:
    assert not fires(rule(probability=0.4), rows())
    assert fires(rule(probability=0.6), rows())


def test_limits_by_minute_hour_and_day_hold_together() -> None:
    one = rule(per_minute=2, per_hour=5, per_day=7)
    fired = [t for t in range(0, 86_400, 10) if fires(one, rows(), float(t))]
    assert fired[:5] == [0, 10, 60, 70, 120]
    assert len(fired) == 7


def test_cooldown_and_limits_survive_a_restart_on_a_new_time_line() -> None:
    before = rule(cooldown_s=100, per_day=2)
    assert fires(before, rows(), 5000.0)
    fires(before, rows(), 5050.0)
    after = rule(before.ages(), cooldown_s=100, per_day=2)
    assert [t for t in range(300) if fires(after, rows(), float(t))] == [50]


def test_limits_and_cooldown_can_hold_for_each_class_by_itself_over_a_restart_too() -> None:
    limits: dict[str, Any] = {"per_minute": 1, "per_day": 2, "cooldown_s": 5, "each_class": True}
    dog, cat, both = rows(("dog", 0.9)), rows(("cat", 0.9)), rows(("dog", 0.9), ("cat", 0.9))
    one = rule(**limits)
    assert [t for t in range(120) if fires(one, dog, float(t))] == [0, 60]
    assert fires(one, cat, 121.0)
    assert not fires(one, both, 130.0)
    assert fires(one, both, 185.0)  # for the cat; the dog has had its two
    again = rule(json.loads(json.dumps(one.ages())), **limits)
    assert not fires(again, both, 0.0)
    assert not fires(again, cat, 80_000.0)
    assert fires(again, dog, 86_400.0 - 125)
    assert fires(again, cat, 86_400.0)


def test_a_rule_remembers_no_more_firings_than_its_limits_ask_for() -> None:
    unlimited, limited = rule(), rule(per_hour=3)
    for t in range(5000):
        assert fires(unlimited, rows(), float(t))
        fires(limited, rows(), float(t))
    assert {len(old) for one in (unlimited, limited) for old in one.ages().values()} == {1, 3}


def test_a_time_line_that_goes_back_does_not_hold_a_rule_for_ever() -> None:
    one = rule(cooldown_s=10)
    assert [fires(one, rows(), t) for t in (1e6, 5.0, 9.0, 15.0)] == [True, True, False, True]
