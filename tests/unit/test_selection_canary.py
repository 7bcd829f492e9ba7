"""The canary lane's estimate: unbiased, and its interval as wide as it says."""

from __future__ import annotations

import numpy as np
import pytest

from agent.selection.canary import estimate, uniform


def test_draws_are_fixed_by_their_arguments_and_uniform() -> None:
    draws = [uniform("7|0", frame, "canary") for frame in range(20_000)]
    assert draws[:5] == [uniform("7|0", frame, "canary") for frame in range(5)]
    assert np.mean(draws) == pytest.approx(0.5, abs=0.01)
    assert np.mean(np.array(draws) < 0.1) == pytest.approx(0.1, abs=0.01)
    assert draws[0] != uniform("8|0", 0, "canary")


def test_the_interval_holds_the_truth_in_95_of_100_draws_also_while_the_rate_is_raised() -> None:
    random = np.random.default_rng(11)
    errors = random.negative_binomial(1.2, 0.3, 20_000).astype(float)
    chance = np.where(np.arange(20_000) < 5000, 0.01, 0.005)
    held = []
    for _ in range(600):
        picked = random.random(20_000) < chance
        found = estimate(errors[picked].tolist(), chance[picked].tolist())
        assert found is not None
        held.append(found.low <= errors.mean() <= found.high)
    assert 0.93 <= np.mean(held) <= 0.97


def test_one_frame_says_nothing() -> None:
    assert estimate([3.0], [0.1]) is None
