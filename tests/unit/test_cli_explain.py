"""`tailkeeper model info`: what it says of a bundle, and of a bare file whose manifest it has to imagine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from agent.cli import main
from agent.export.bundle import amend
from agent.models import keygen, sign

MODEL = Path(__file__).resolve().parents[2] / "agent" / "world" / "model"
GROUP = {"old": 0.5, "new": 0.4, "low": -0.15, "high": -0.05}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return Path(shutil.copytree(MODEL, tmp_path / "kerb-2"))


def info(capsys: pytest.CaptureFixture[str], model: Path, *words: str) -> str:
    assert main(["model", "info", str(model), *words]) == 0
    return capsys.readouterr().out


def test_a_bundle_tells_what_is_rare_and_what_was_never_done(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = info(capsys, bundle)
    assert "bundle, not signed" in text
    assert "input 320 x 192, output end2end" in text
    assert "rarest: forklift 55, wheelchair 78, horse 80" in text
    assert "never compared" in text
    assert "3 golden frames\n" in text


def test_a_bare_file_shows_what_is_assumed(capsys: pytest.CaptureFixture[str]) -> None:
    text = info(capsys, MODEL / "model.onnx")
    assert "bare ONNX" in text
    assert "training counts unknown: what the cameras see is counted instead" in text
    assert "x 2.2, the default" in text
    assert "a device cannot tell" in text


def test_counts_of_coco_are_said_to_be_cocos(assets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = info(capsys, assets / "models" / "yolo26n.onnx")
    assert "training counts known, of COCO train2017; rarest: hair drier" in text
    assert "80 classes: person, bicycle" in text
    assert "and 68 more" in text


def test_signature_and_verdict_are_shown(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    groups = {"all": GROUP, "tail": GROUP | {"old": None, "new": None}}
    report = {"verdict": "tail degraded", "frames": 512, "groups": groups, "against": {"model": "kerb-1"}}
    amend(bundle, evaluation=report)
    keygen(tmp_path / "key")
    sign(bundle, tmp_path / "key")
    text = info(capsys, bundle)
    assert "bundle, signed" in text
    assert "tail degraded against kerb-1 on 512 frames: all 0.500 -> 0.400" in text
    assert json.loads(info(capsys, bundle, "--json"))["manifest"]["evaluation"] == report
