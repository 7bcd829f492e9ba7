"""Budgets over simulated days: never above, close below, paced, and the same after a restart."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest

from agent.records import Lane
from agent.selection.budgets import DAY_S, RANKED, Budget, DayLimit
from agent.settings import SelectionSettings

FREE = {"frames_per_day": 0, "bytes_per_day": 0, "labels_per_day": 0}
FRAME_S = 0.2
TWO_DAYS = int(2 * DAY_S / FRAME_S)


def budget(**policy: Any) -> Budget:
    return Budget(SelectionSettings(**{**FREE, **policy}))


def spend(one: Budget, frames: int, *, frame_s: float = FRAME_S, chance: Random | None = None) -> list[int]:
    """Picks per window of 150 frames on a stream where every frame has something new; with canary draws by `chance`."""
    per_window = []
    for _ in range(frames // 150):
        drawn = 0
        for _ in range(150):
            one.earn(frame_s)
            if chance and chance.random() < one.canary():
                one.charge("canary", 100_000, 4)
                drawn += 1
        picks = one.quota()
        for _ in range(picks):
            lane: Lane = max(RANKED, key=lambda name: one.balance[name])
            one.charge(lane, 100_000, 4)
        per_window.append(picks + drawn)
    return per_window


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("share", [0.02, 0.05])
def test_48_hours_of_news_spend_the_budget_and_never_more(share: float, seed: int) -> None:
    one = budget(budget=share)
    per_window = spend(one, TWO_DAYS, chance=Random(seed))
    assert 0.99 * share * TWO_DAYS <= sum(per_window) <= share * TWO_DAYS
    assert max(per_window) <= 3 * share * 150  # its own share, and two that were carried


def test_a_lane_that_spends_nothing_leaves_its_share_to_the_others() -> None:
    one = budget(budget=0.02, shares={"uncertain": 0.5, "temporal": 0.5})
    for _ in range(150 * 50):
        one.earn(FRAME_S)
        for _ in range(one.quota() if one.balance["uncertain"] >= 1 else 0):
            one.charge("uncertain", 100_000, 4)
    assert one.spent["uncertain"] == pytest.approx(150, abs=4)
    assert one.balance["rare"] == 0


def test_debt_is_carried_for_two_windows_and_then_forgotten() -> None:
    one = budget(budget=0.02, shares={"uncertain": 1.0})
    for _ in range(150 * 50):
        one.earn(FRAME_S)
    assert one.quota() == 6


def test_daily_limits_are_paced_and_hold_in_every_24_hours() -> None:
    one = budget(budget=0.05, frames_per_day=500)
    per_window = spend(one, TWO_DAYS)
    windows_per_day = int(DAY_S / FRAME_S / 150)
    for start in range(0, len(per_window) - windows_per_day, 50):
        assert 0.95 * 500 <= sum(per_window[start : start + windows_per_day]) <= 500
    morning, night = sum(per_window[: windows_per_day // 3]), sum(per_window[windows_per_day // 2 : windows_per_day])
    assert morning < 200
    assert night > 200


@pytest.mark.parametrize(("limit", "cost"), [("bytes_per_day", 100_000), ("labels_per_day", 4)])
def test_bytes_and_labels_are_limits_too(limit: str, cost: int) -> None:
    one = budget(budget=0.05, **{limit: 300 * cost})
    picks = sum(spend(one, TWO_DAYS // 2))
    assert 0.9 * 300 <= picks <= 300


def test_two_cameras_share_a_daily_limit() -> None:
    policy = SelectionSettings(**{**FREE, "frames_per_day": 500})
    assert sum(spend(Budget(policy, cameras=2), TWO_DAYS // 2)) <= 250


def test_a_restart_every_hour_changes_nothing() -> None:
    policy = SelectionSettings(**{**FREE, "budget": 0.02, "frames_per_day": 5000})
    whole, parts, state = Budget(policy), 0, json.dumps({})
    hour = int(3600 / FRAME_S)
    for _ in range(24):
        one = Budget.restore(policy, 1, json.loads(state))
        parts += sum(spend(one, hour))
        state = json.dumps(one.state())
    assert parts == sum(spend(whole, 24 * hour))


def test_the_canary_rate_is_its_share_of_the_budget_slowed_to_the_daily_limit() -> None:
    assert budget(budget=0.02).canary() == pytest.approx(0.002)
    assert budget(budget=1.0).canary() == 1.0
    one = budget(budget=0.02, frames_per_day=864)
    for _ in range(500):
        one.earn(FRAME_S)
    assert one.canary() == pytest.approx(0.002 * 0.1 * 0.96)


@pytest.mark.parametrize("limit", [1, 2, 5, 20])
def test_a_small_daily_limit_is_used_and_never_exceeded(limit: int) -> None:
    for name, cost in (("frames_per_day", 1), ("bytes_per_day", 100_000), ("labels_per_day", 4)):
        per_window = spend(budget(budget=0.5, **{name: limit * cost}), 8 * 5760, frame_s=15.0)
        day = len(per_window) // 8
        assert max(sum(per_window[start : start + day]) for start in range(7 * day)) <= limit
        assert sum(per_window) >= 8 * max(0.5, 0.6 * (limit - 1))


def test_a_limit_that_comes_after_days_without_one_starts_afresh() -> None:
    one = budget(budget=0.05)
    spend(one, TWO_DAYS)
    kept = json.loads(json.dumps(one.state()))
    policy = SelectionSettings(**{**FREE, "budget": 0.05, "frames_per_day": 500})
    assert 400 <= sum(spend(Budget.restore(policy, 1, kept), TWO_DAYS // 2)) <= 500


def test_a_clock_that_jumps_earns_nothing() -> None:
    limit = DayLimit(100)
    limit.spend(limit.tokens)
    one = budget(frames_per_day=100)
    one.frames = limit
    for jump in (-5.0, float("nan"), 1e12):
        one.earn(jump)
    assert limit.tokens == 0
