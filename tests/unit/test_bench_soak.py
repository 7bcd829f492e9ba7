"""What the soak calls growth."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from agent.health import Counters
from tests.bench.soak.figures import ENOUGH, Keeper, Sample, broken, figures, slope
from tests.bench.soak.leak import leak

ROUND_H = 1 / 64


def rounds(n: int, mb_per_hour: float, noise_mb: float = 0.0) -> list[Sample]:
    """So many rounds of a process that grows."""
    rng = random.Random(1)
    memory = [160 + mb_per_hour * i * ROUND_H + rng.gauss(0, noise_mb) for i in range(n)]
    return [Sample(i * ROUND_H, mb, mb - 70, 13, 17) for i, mb in enumerate(memory)]


def a_result(run: list[Sample], lost: int = 0) -> dict[str, Any]:
    return {"lost": lost, "candidates": 1000, "run": figures(run), "collect": figures(rounds(20, 0.0))}


def test_a_slope_is_in_mb_an_hour_and_lies_in_its_interval() -> None:
    assert slope(rounds(20, 3.0)) == pytest.approx((3.0, 3.0, 3.0))
    middle, low, high = slope(rounds(20, 3.0, noise_mb=0.3))
    assert low < middle < high


def test_one_round_that_was_lifted_is_not_growth() -> None:
    late = rounds(20, 0.0, noise_mb=0.1)
    late[-2] = late[-2]._replace(rss_mb=190.0)
    assert not list(broken(a_result(late)))


def test_a_leak_of_five_mb_an_hour_is_found_in_a_quarter_of_an_hour() -> None:
    assert "grows by" in next(broken(a_result(rounds(15, 5.0, noise_mb=0.3))))
    assert not list(broken(a_result(rounds(15, 0.0, noise_mb=0.3))))


def test_too_few_rounds_say_nothing_about_memory() -> None:
    assert not list(broken(a_result(rounds(ENOUGH - 1, 50.0))))


def test_more_threads_than_before_and_what_was_lost_are_broken_promises() -> None:
    calm = rounds(20, 0.0)
    more = calm[:10] + [sample._replace(threads=18) for sample in calm[10:]]
    assert list(broken(a_result(more, lost=2))) == ["2 of 1000 lost", "run: threads [17, 18]"]


def test_every_sample_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "out" / "samples.jsonl"
    keeper = Keeper(path)
    keeper.keep("run", 3, Sample(0.5, 160.0, 90.0, 13, 17))
    keeper.close()
    assert json.loads(path.read_text("utf-8")) == {
        "process": "run",
        "round": 3,
        "t": 0.5,
        "rss_mb": 160.0,
        "anonymous_mb": 90.0,
        "descriptors": 13,
        "threads": 17,
    }


def test_a_device_that_leaks_on_purpose_still_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Counters, "add", Counters.add)  # put back afterwards
    leak(1e6)
    counters = Counters()
    for _ in range(3):
        counters.add("frames")
    assert counters["frames"] == 3
    assert len(vars(counters)["leaked"]) == 3
