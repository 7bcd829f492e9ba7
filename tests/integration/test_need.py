"""A need map from a version to a device's selection, over a real broker."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent.cli import main
from tests.fakes.folders import a_folder
from tests.fakes.mosquitto import Mosquitto
from tests.fakes.stores import CLASSES, a_scene, a_store
from tests.integration.delivery import broker_settings, wait_until
from tests.integration.fleet import Controlled


@pytest.fixture
def config(tmp_path: Path, mosquitto: Mosquitto) -> Path:
    store = a_store(tmp_path / "store", [a_scene(0)])
    path = tmp_path / "operator.toml"
    broker = f'[broker]\nhost = "127.0.0.1"\nport = {mosquitto.port}\ntls = false\n'
    path.write_text(f'{broker}[collector]\nstore = "{store}"\n')
    return path


@pytest.fixture
def version(tmp_path: Path, config: Path) -> Path:
    """Twelve pictures with a car each, and no other class."""
    sheet = a_folder(tmp_path / "street", train=range(100, 112))
    build = ["dataset", "build", "--out", tmp_path / "versions", "--base", sheet, "--config", config]
    assert main([str(word) for word in build]) == 0
    (folder,) = (tmp_path / "versions").glob("v0001-*")
    return folder


def need(capsys: pytest.CaptureFixture[str], version: Path, config: Path, *words: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["dataset", "need", str(version), "--config", str(config), "--json", *words]) == 0
    return dict(json.loads(capsys.readouterr().out))


def test_devices_take_over_what_the_newest_training_set_needs(
    version: Path, config: Path, tmp_path: Path, mosquitto: Mosquitto, capsys: pytest.CaptureFixture[str]
) -> None:
    with Controlled(tmp_path / "device", broker_settings(mosquitto.port, will_delay_s=0)) as device:
        sent = need(capsys, version, config, "--publish")
        wait_until(lambda: ("need", sent["weights"]) in device.agent.calls, "the map of all")
        assert sent["weights"]["car"] < min(sent["weights"][name] for name in CLASSES if name != "car")
        assert sent["published"] == 1
        assert need(capsys, version, config, "--publish")["published"] == 2, "a higher version than is there"
        assert need(capsys, version, config, "--publish", "--to", "group:north")["published"] == 1


def test_without_publish_nothing_is_sent(version: Path, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert need(capsys, version, config)["published"] is None
    assert need(capsys, version, config, "--publish")["published"] == 1
    assert main(["dataset", "need", str(version), "--config", str(config)]) == 0
    assert "car (12 in train)" in capsys.readouterr().out


def test_a_need_map_is_not_for_one_device(version: Path, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["dataset", "need", str(version), "--config", str(config), "--publish", "--to", "gate-north"]
    assert main(words) == 2
    assert "for all or for group:NAME" in capsys.readouterr().err
