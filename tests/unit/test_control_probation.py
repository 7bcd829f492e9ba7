"""A configuration on probation is blamed only for what it stopped without being asked to."""

from __future__ import annotations

from agent.control.probation import Probation, Vitals, vitals
from agent.settings import CameraSettings, HealthSettings, Settings
from tests.fakes.clock import FakeClock

SETTINGS = Settings(
    cameras=(
        CameraSettings(name="gate", source="0", fps=5),
        CameraSettings(name="yard", source="1", fps=0.05),
    ),
    health=HealthSettings(frame_age_limit_s=10),
)


def look(gate: float | None = 0.1, yard: float | None = 0.1, *, connected: bool = True) -> Vitals:
    return vitals({"gate": gate, "yard": yard}, SETTINGS, connected=connected)


WELL = look()


def verdict(before: Vitals | None, after: Vitals) -> str | None:
    probation = Probation(FakeClock(), lambda: after)
    probation.begin(60, before)
    return probation.verdict()


def test_a_camera_that_fell_silent_speaks_against_the_configuration() -> None:
    assert verdict(WELL, look(gate=11)) == "no frames of gate under it"
    assert verdict(WELL, look(gate=None, yard=None)) == "no frames of gate, yard under it"


def test_a_low_frame_rate_is_given_its_intervals() -> None:
    assert verdict(WELL, look(yard=50)) is None
    assert verdict(WELL, look(yard=61)) == "no frames of yard under it"


def test_a_camera_that_rests_on_purpose_is_not_missed() -> None:
    assert verdict(WELL, vitals({"gate": 0.1}, SETTINGS, connected=True)) is None


def test_a_camera_that_was_dead_before_is_not_blamed_on_the_configuration() -> None:
    assert verdict(look(gate=500), look(gate=560)) is None


def test_a_lost_connection_counts_where_there_was_one() -> None:
    assert verdict(WELL, look(connected=False)) == "the connection to the broker was lost under it"
    assert verdict(look(connected=False), look(connected=False)) is None


def test_after_a_restart_every_camera_is_expected_to_live() -> None:
    assert verdict(None, look(gate=500)) == "no frames of gate under it"
    assert verdict(None, look(connected=False)) is None


def test_a_second_change_on_trial_answers_for_the_first() -> None:
    clock = FakeClock()
    probation = Probation(clock, lambda: look(gate=100))
    probation.begin(60, WELL)
    clock.advance(50)
    probation.begin(60, look(gate=50))
    clock.advance(50)
    assert not probation.over()
    clock.advance(11)
    assert probation.over()
    assert probation.verdict() == "no frames of gate under it"
