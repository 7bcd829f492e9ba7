"""`tailkeeper fleet` and `tailkeeper model` as they are typed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.cli import main
from tests.fakes.bundles import a_bundle
from tests.fakes.devices import SimulatedFleet, names
from tests.fakes.mosquitto import Mosquitto
from tests.integration.delivery import wait_until

DEVICES = names(5)


@pytest.fixture
def fleet(mosquitto: Mosquitto) -> Iterator[SimulatedFleet]:
    with SimulatedFleet(mosquitto.port, DEVICES) as fleet:
        wait_until(lambda: fleet.up == len(DEVICES), "all devices")
        yield fleet


@pytest.fixture
def config(tmp_path: Path, mosquitto: Mosquitto) -> Path:
    path = tmp_path / "operator.toml"
    path.write_text(f'[broker]\nhost = "127.0.0.1"\nport = {mosquitto.port}\ntls = false\n')
    return path


def run(capsys: pytest.CaptureFixture[str], *argv: object, status: int = 0) -> Any:
    """The JSON document that a command prints."""
    assert main([str(arg) for arg in argv]) == status
    return json.loads(capsys.readouterr().out)


def test_ls_and_show(fleet: SimulatedFleet, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = run(capsys, "fleet", "ls", "--config", config, "--json")["devices"]
    assert [(row["device"], row["state"]) for row in rows] == [(name, "online") for name in DEVICES]
    assert run(capsys, "fleet", "show", DEVICES[0], "--config", config, "--json")["info"]["agent"] == "simulated"
    assert main(["fleet", "ls", "--config", str(config)]) == 0
    assert "5 devices, 5 online" in capsys.readouterr().out
    assert main(["fleet", "show", "nobody", "--config", str(config)]) == 2
    assert "never heard of" in capsys.readouterr().err


def test_config_set_get_and_diff(fleet: SimulatedFleet, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = run(
        capsys, "fleet", "config", "set", DEVICES[0], "selection.budget=0.5", "--wait", 10, "--config", config, "--json"
    )
    assert (done["version"], done["answered"], done["errors"]) == (1, True, [])
    got = run(capsys, "fleet", "config", "get", DEVICES[0], "--config", config, "--json")
    assert got["desired"]["values"] == {"selection": {"budget": 0.5}}
    assert run(capsys, "fleet", "config", "diff", DEVICES[0], "--config", config, "--json")["differences"] == []
    assert main(["fleet", "config", "set", "all", "selection.budgt=1", "--config", str(config)]) == 2
    assert "did you mean 'budget'" in capsys.readouterr().err


def test_command_is_followed_to_its_end(
    fleet: SimulatedFleet, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        run(capsys, "fleet", "command", DEVICES[0], "diag", "--config", config, "--json")["state"]["status"]
        == "successful"
    )
    assert main(["fleet", "command", DEVICES[0], "explode", "--config", str(config)]) == 1
    assert "knows no op 'explode'" in capsys.readouterr().err


def test_a_roll_out_is_planned_then_carried_out_then_resumed(
    fleet: SimulatedFleet, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rollout = ["fleet", "rollout", "config", "selection.budget=0.5", "--canary", DEVICES[0], "--percent", "50"]
    rollout += ["--soak", "0", "--plan", str(tmp_path / "plan.json"), "--config", str(config), "--json"]
    planned = run(capsys, *rollout, "--dry-run")
    assert [stage["name"] for stage in planned["stages"]] == ["canaries", "40 %", "100 %"]

    fleet.refusal = lambda name: "no room" if name != DEVICES[0] else None
    assert run(capsys, *rollout, status=1)["state"] == "stopped"
    fleet.refusal = lambda _: None
    resumed = ["fleet", "rollout", "resume", tmp_path / "plan.json", "--retry", "--config", config, "--json"]
    assert run(capsys, *resumed)["state"] == "done"


def test_a_bundle_is_signed_verified_and_rolled_out_through_the_broker(
    fleet: SimulatedFleet, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    public = run(capsys, "model", "keygen", tmp_path / "key.pem", "--json")["public"]
    bundle = a_bundle(tmp_path / "bundle", counter=7)
    rollout = ["fleet", "rollout", "model", bundle, "--plan", tmp_path / "plan", "--config", config, "--json"]
    assert main([str(arg) for arg in rollout]) == 1
    assert "not signed" in capsys.readouterr().err

    run(capsys, "model", "sign", bundle, "--key", tmp_path / "key.pem", "--json")
    assert run(capsys, "model", "verify", bundle, "--trust", public, "--json")["counter"] == 7
    assert run(capsys, "model", "info", bundle, "--json")["bundle"]
    assert run(capsys, *rollout)["state"] == "done"


def test_the_devices_models_are_listed_and_there_is_nothing_before_the_configured_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "agent.toml"
    bundle = a_bundle(tmp_path / "bundle", counter=7)
    config.write_text(f'[device]\nstate_dir = "{tmp_path}"\n[model]\npath = "{bundle}"\n')

    rows = run(capsys, "model", "ls", "--config", config, "--json")["models"]
    assert [(row["role"], row["counter"]) for row in rows] == [("active", 7)]
    assert main(["model", "rollback", "--config", str(config)]) == 1
    assert "nothing before it" in capsys.readouterr().err
