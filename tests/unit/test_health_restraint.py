"""How hard a device may work."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from agent.health import Restraint
from agent.health.restraint import LOOK_S
from tests.fakes.clock import FakeClock


def at_once(look: Callable[[], None]) -> None:
    look()


def test_half_of_the_configured_share_is_left_while_the_hardware_is_throttled(caplog: pytest.LogCaptureFixture) -> None:
    clock, hot = FakeClock(), [False, True, True, None]
    restraint = Restraint(lambda: 0.8, lambda: hot.pop(0), clock, at_once)
    shares = []
    for _ in range(4):
        shares.append(restraint())
        clock.advance(LOOK_S)
    assert shares == [0.8, 0.4, 0.4, 0.8], "what cannot be read does not slow it down"
    assert [record.message for record in caplog.records] == ["hardware throttled", "hardware no longer throttled"]


def test_the_sensors_are_asked_seldom() -> None:
    answers = iter([False])
    restraint = Restraint(lambda: 1.0, lambda: next(answers), FakeClock(), at_once)
    assert [restraint() for _ in range(100)] == [1.0] * 100


def test_no_frame_waits_for_sensors_that_hang_and_they_are_not_asked_twice() -> None:
    clock, asked, answer = FakeClock(), threading.Semaphore(0), threading.Event()

    def hang() -> bool:
        asked.release()
        return answer.wait()

    restraint = Restraint(lambda: 1.0, hang, clock)
    for _ in range(3):
        assert restraint() == 1.0
        clock.advance(LOOK_S)
    assert asked.acquire(timeout=10)
    assert not asked.acquire(blocking=False)
    answer.set()
