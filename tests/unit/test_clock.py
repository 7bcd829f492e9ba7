"""Whether the wall clock can be trusted: who is asked, and what their silence means."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import pytest

from agent import clock
from agent.clock import SystemClock


def test_nobody_knows_means_no() -> None:
    assert not SystemClock([]).synced()
    assert not SystemClock([lambda: None, lambda: None]).synced()


@pytest.mark.parametrize("other", [None, False])
def test_one_who_knows_is_enough(other: bool | None) -> None:
    assert SystemClock([lambda: other, lambda: True]).synced()
    assert not SystemClock([lambda: other, lambda: False]).synced()


def test_a_clock_that_was_synchronised_stays_so_until_the_next_start() -> None:
    answers = iter([False, True, False])
    system = SystemClock([lambda: next(answers)])
    assert [system.synced() for _ in range(3)] == [False, True, True]


@pytest.mark.parametrize("which", [0, 1])
def test_a_mark_says_yes_and_its_absence_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: int) -> None:
    marks = (tmp_path / "timesyncd", tmp_path / "tailkeeper-clock")
    monkeypatch.setattr(clock, "_MARKS", marks)
    assert clock.marked() is None
    marks[which].touch()
    assert clock.marked() is True


@pytest.mark.parametrize(
    ("returned", "error_us", "word"), [(0, 1_200, True), (5, 1_200, True), (5, 16_000_000, False), (-1, 0, None)]
)
def test_the_kernel_is_believed_by_the_error_it_assumes(
    monkeypatch: pytest.MonkeyPatch, returned: int, error_us: int, word: bool | None
) -> None:
    class Libc:
        def adjtimex(self, answer: Any) -> int:
            answer._obj.maxerror = error_us
            assert answer._obj.modes == 0
            return returned

    monkeypatch.setattr(ctypes, "CDLL", lambda _: Libc())
    assert clock.kernel() is word


def test_the_real_kernel_has_an_answer() -> None:
    assert clock.kernel() in {True, False}
