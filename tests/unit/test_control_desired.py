"""What the fleet wants, merged and validated as a whole, and never worse than before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.control import Desired
from agent.control.desired import STARTS_IN_TRIAL
from agent.settings import Loaded, load
from agent.wire import DesiredConfig


def base(*groups: str, cameras: tuple[str, ...] = ("gate", "yard")) -> Loaded:
    """A device's own configuration."""
    values = {
        "device": {"id": "gate-north", "groups": list(groups)},
        "broker": {"host": "broker.example", "password": "secret"},
        "cameras": {
            name: {"name": name, "source": f"rtsp://user:hush@{name}.example/stream", "password": "secret"}
            for name in cameras
        },
    }
    return load(command_line=values, environ={})


def wanted(version: int, **values: Any) -> DesiredConfig:
    return DesiredConfig(version=version, values=values)


@pytest.fixture
def desired(tmp_path: Path) -> Desired:
    return Desired(tmp_path, base("north", "test"))


def budget(desired: Desired) -> float:
    return desired.loaded.settings.selection.budget


def test_levels_are_merged_all_then_groups_in_the_devices_order_then_device(desired: Desired) -> None:
    desired.offer("device", wanted(1, selection={"window_frames": 7}))
    desired.offer("groups.test", wanted(1, selection={"budget": 0.3}))
    desired.offer("groups.north", wanted(1, selection={"budget": 0.2, "window_s": 30.0}))
    desired.offer("all", wanted(1, selection={"budget": 0.1, "window_s": 20.0, "window_frames": 9}))

    selection = desired.loaded.settings.selection
    assert (selection.budget, selection.window_s, selection.window_frames) == (0.3, 30.0, 7)


def test_what_was_applied_is_in_force_after_a_restart_and_reported(desired: Desired, tmp_path: Path) -> None:
    assert desired.offer("device", wanted(3, cameras={"gate": {"fps": 2}}))

    again = Desired(tmp_path, base("north", "test"))
    report = again.report()
    assert again.loaded.settings.cameras[0].fps == 2
    assert (report.version, report.versions.device, report.errors) == (3, 3, ())
    assert report.values["cameras"]["gate"]["fps"] == 2


def test_the_report_holds_no_secret(desired: Desired) -> None:
    text = desired.report().encode()

    assert b"secret" not in text
    assert b"hush" not in text
    assert b"rtsp://user@gate.example" in text


@pytest.mark.parametrize(
    ("values", "path"),
    [
        ({"selection": {"budget": "a lot"}}, "selection.budget"),
        ({"selection": {"budget": 7}}, "selection.budget"),
        ({"selection": {"budgt": 0.1}}, "selection.budgt"),
        ({"selection": 4}, "selection"),
        ({"selection": {"shares": {"uncertain": 0.9, "rare": 0.9}}}, "selection.shares"),
        ({"cameras": {"gate": {"masks": [[[0, 0], [1, 1]]]}}}, "cameras.gate.masks.0"),
        ({"cameras": {"gate": {"schedule": "at noon"}}}, "cameras.gate.schedule"),
        ({"cameras": {"gte": {"fps": 1}}}, "cameras.gte"),
        ({"cameras": {"gate": {"source": "/etc/passwd"}}}, "cameras.gate.source"),
        ({"cameras": []}, "cameras"),
        ({"broker": {"host": "elsewhere"}}, "broker.host"),
        ({"model": {"trusted_keys": ["mine"]}}, "model.trusted_keys"),
        ({"model": {"select_floor": 0.9}}, "model"),
        ({"nonsense": 1}, "nonsense"),
        ({"selection.budget": 0.1}, "selection.budget"),
        ({"": {"": {}}}, "."),
    ],
)
def test_an_invalid_configuration_is_refused_whole_and_its_key_reported(
    desired: Desired, values: dict[str, Any], path: str
) -> None:
    before = desired.loaded.settings
    spoiled = {"image": {"quality": 50}, **values}

    assert not desired.offer("device", DesiredConfig(version=1, values=spoiled))
    assert desired.loaded.settings == before
    problem = desired.report().errors[0]
    assert (problem.level, problem.version, problem.path) == ("device", 1, path)
    assert desired.report().seen.device == 1


def test_a_valid_configuration_takes_the_complaint_back(desired: Desired) -> None:
    desired.offer("device", wanted(1, selection={"budget": 7}))
    desired.offer("device", wanted(2, selection={"budget": 0.5}))

    assert desired.report().errors == ()
    assert budget(desired) == 0.5


def test_a_level_that_spoils_the_whole_is_the_one_that_is_refused(desired: Desired) -> None:
    desired.offer("all", wanted(1, model={"serve_threshold": 0.1}))

    assert not desired.offer("device", wanted(1, model={"select_floor": 0.2}))
    assert desired.report().errors[0].level == "device"
    assert desired.loaded.settings.model.serve_threshold == 0.1


def test_only_a_newer_version_counts_and_the_same_again_says_nothing(desired: Desired) -> None:
    desired.offer("device", wanted(5, selection={"budget": 0.5}))
    assert not desired.offer("device", wanted(5, selection={"budget": 0.5}))
    assert desired.report().errors == ()

    assert not desired.offer("device", wanted(4, selection={"budget": 0.4}))
    assert "older than version 5" in desired.report().errors[0].msg
    assert not desired.offer("device", wanted(5, selection={"budget": 0.4}))
    assert "other values under the number of version 5" in desired.report().errors[0].msg
    assert budget(desired) == 0.5


def test_a_refused_version_does_not_come_back_after_a_restart(desired: Desired, tmp_path: Path) -> None:
    desired.offer("device", wanted(5, selection={"budget": 7}))

    again = Desired(tmp_path, base("north", "test"))
    assert not again.offer("device", wanted(5, selection={"budget": 7}))
    assert again.report().errors[0].path == "selection.budget"


def test_values_that_change_nothing_need_no_trial(desired: Desired) -> None:
    assert not desired.offer("device", wanted(1, selection={"budget": 0.02}))
    assert desired.trial is None
    assert desired.report().version == 1


def test_a_roll_back_returns_to_what_was_before_the_trial_and_says_why(desired: Desired, tmp_path: Path) -> None:
    desired.offer("all", wanted(1, selection={"budget": 0.1}))
    desired.settle()
    desired.offer("device", wanted(1, selection={"budget": 0.2}))
    desired.offer("device", wanted(2, selection={"budget": 0.3}))
    desired.roll_back("no frames of gate under it")

    again = Desired(tmp_path, base("north", "test"))
    assert budget(again) == 0.1
    report = again.report()
    assert [(problem.version, problem.msg) for problem in report.errors] == [
        (2, "rolled back: no frames of gate under it")
    ]
    assert (report.version, report.seen.device) == (0, 2)


def test_a_configuration_that_keeps_the_agent_from_staying_up_is_given_up(desired: Desired, tmp_path: Path) -> None:
    desired.offer("device", wanted(1, selection={"budget": 0.5}))

    seen = [budget(Desired(tmp_path, base("north", "test"))) for _ in range(STARTS_IN_TRIAL + 2)]
    assert seen == [0.5] * STARTS_IN_TRIAL + [0.02] * 2


def test_a_stored_level_that_the_devices_own_file_no_longer_allows_is_left_out(
    desired: Desired, tmp_path: Path
) -> None:
    desired.offer("all", wanted(1, selection={"budget": 0.5}))
    desired.offer("device", wanted(1, cameras={"yard": {"fps": 1}}))
    desired.settle()

    again = Desired(tmp_path, base("north", "test", cameras=("gate",)))
    assert budget(again) == 0.5
    assert [problem.path for problem in again.report().errors] == ["cameras.yard"]
    assert (again.report().versions.all, again.report().version) == (1, 0)
    assert again.offer("all", wanted(2, selection={"budget": 0.6}))
    assert budget(again) == 0.6


def test_a_damaged_state_file_means_the_devices_own_configuration(desired: Desired, tmp_path: Path) -> None:
    desired.offer("device", wanted(1, selection={"budget": 0.5}))
    for damage in (b"{", b'{"v":1,"levels":7}', b"\xff"):
        (tmp_path / "desired.json").write_bytes(damage)
        assert budget(Desired(tmp_path, base("north", "test"))) == 0.02


def test_values_are_written_before_they_are_handed_out(tmp_path: Path) -> None:
    class PowerCutError(Exception):
        pass

    def cut(step: str) -> None:
        if step == "config.saving":
            raise PowerCutError

    desired = Desired(tmp_path, base(), trace=cut)
    with pytest.raises(PowerCutError):
        desired.offer("device", wanted(1, selection={"budget": 0.5}))
    assert budget(desired) == 0.02
