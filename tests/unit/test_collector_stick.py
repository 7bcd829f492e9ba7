"""Candidates on a stick are as good as those that came over the broker, and checked as they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.cli import main
from agent.collector import bring, devices, listing
from agent.errors import ConfigError
from agent.records import Item
from agent.settings import CollectorSettings
from agent.spool.look import _meta_text
from tests.fakes.clock import FakeClock
from tests.fakes.items import a_picture_item

ITEMS = [a_picture_item(number) for number in range(3)]


def a_stick(folder: Path, items: list[Item]) -> Path:
    """What ``spool export`` writes."""
    for name in ("images", "meta"):
        (folder / name).mkdir(parents=True)
    for item in items:
        (folder / "images" / f"{item.cid}.jpg").write_bytes(item.image)
        (folder / "meta" / f"{item.cid}.json").write_bytes(_meta_text(item))
    return folder


def test_candidates_are_stored_once_however_often_the_stick_comes(tmp_path: Path) -> None:
    stick = a_stick(tmp_path / "stick", ITEMS)
    settings = CollectorSettings()
    assert bring(stick, settings, tmp_path / "store", FakeClock()).counts == {"stored": 3}
    assert bring(stick, settings, tmp_path / "store", FakeClock()).counts == {"duplicate": 3}
    assert {row["cid"] for row in listing(tmp_path / "store")} == {item.cid for item in ITEMS}
    assert devices(tmp_path / "store")[0]["stored"] == 3


def test_what_is_damaged_is_said_and_the_rest_is_taken(tmp_path: Path) -> None:
    stick = a_stick(tmp_path / "stick", ITEMS)
    (stick / "images" / f"{ITEMS[0].cid}.jpg").write_bytes(ITEMS[0].image[:500])
    (stick / "meta" / f"{ITEMS[1].cid}.json").write_text("{}")
    brought = bring(stick, CollectorSettings(), tmp_path / "store", FakeClock())
    assert brought.counts == {"stored": 1, "damaged": 2}
    assert set(brought.problems) == {f"{item.cid}.json" for item in ITEMS[:2]}


def test_the_collectors_limits_hold_for_a_stick(tmp_path: Path) -> None:
    settings = CollectorSettings(max_image_bytes=1000)
    brought = bring(a_stick(tmp_path / "stick", ITEMS[:1]), settings, tmp_path / "store", FakeClock())
    assert brought.counts == {"rejected": 1}
    assert "at most 1000" in brought.problems[ITEMS[0].cid]


def test_the_command_says_what_became_of_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "agent.toml").write_text(f'[collector]\nstore = "{tmp_path / "store"}"\n')
    words = ["dataset", "import", "spool", str(a_stick(tmp_path / "stick", ITEMS)), "--config"]
    assert main([*words, str(tmp_path / "agent.toml"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"stored": 3, "problems": {}}


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="name the folder with images/ and meta/"):
        bring(tmp_path, CollectorSettings(), tmp_path / "store", FakeClock())
