"""How hard a device may work."""

from __future__ import annotations

import pytest

from agent.health import Restraint
from agent.health.restraint import LOOK_S
from tests.fakes.clock import FakeClock


def test_half_of_the_configured_share_is_left_while_the_hardware_is_throttled(caplog: pytest.LogCaptureFixture) -> None:
    clock, hot = FakeClock(), [False, True, True, None]
    restraint = Restraint(lambda: 0.8, lambda: hot.pop(0), clock)
    shares = []
    for _ in range(4):
        shares.append(restraint())
        clock.advance(LOOK_S)
    assert shares == [0.8, 0.4, 0.4, 0.8], "what cannot be read does not slow it down"
    assert [record.message for record in caplog.records] == ["hardware throttled", "hardware no longer throttled"]


def test_the_sensors_are_asked_seldom() -> None:
    answers = iter([False])
    restraint = Restraint(lambda: 1.0, lambda: next(answers), FakeClock())
    assert [restraint() for _ in range(100)] == [1.0] * 100
