"""The shipped model against labels that are the truth: what the fit finds, and what becomes of a bundle."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import pytest
import yaml

from agent.bundle import read_bundle
from agent.cli import main
from agent.errors import ConfigError, ModelError
from agent.export.bundle import amend
from agent.export.calibrate import calibrate
from agent.export.frames import labelled, yolo_line
from agent.export.moments import moments
from agent.export.sheet import Sheet, read_sheet
from agent.models import keygen, sign
from agent.world.classes import NAMES

MODEL = Path(__file__).resolve().parents[2] / "agent" / "world" / "model"


def write_version(folder: Path, frames: int) -> Sheet:
    """Held-out moments of the world with their truth as the split `test`."""
    for part in ("images", "labels"):
        (folder / part / "test").mkdir(parents=True)
    for number, moment in enumerate(moments(2400, frames)):
        cv2.imwrite(str(folder / "images" / "test" / f"{number}.jpg"), moment.image)
        lines = "".join(yolo_line(thing) for thing in labelled(moment.things))
        (folder / "labels" / "test" / f"{number}.txt").write_text(lines)
    sheet = {"train": "images/test", "val": "images/test", "test": "images/test", "names": list(NAMES)}
    (folder / "data.yaml").write_text(yaml.safe_dump(sheet))
    return read_sheet(folder)


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Sheet:
    return write_version(tmp_path_factory.mktemp("v1"), 30)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "kerb-2"
    shutil.copytree(MODEL, folder)
    return folder


def test_the_fit_explains_the_rows_at_least_as_well_as_before(version: Sheet) -> None:
    found = calibrate(MODEL, version, "test")
    assert found.rows > 200
    assert found.loss <= found.loss_before
    assert 0.5 < found.odds / found.before < 2, "fitted to other streets of the same world"


def test_too_few_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least 200 rows"):
        calibrate(MODEL, write_version(tmp_path, 1), "test")


def test_a_model_of_other_classes_is_refused(version: Sheet) -> None:
    other = Sheet(version.file, (*NAMES[:-1], "crane"), version.splits)
    with pytest.raises(ModelError, match="without crane; with forklift"):
        calibrate(MODEL, other, "test")
    swapped = Sheet(version.file, (NAMES[1], NAMES[0], *NAMES[2:]), version.splits)
    with pytest.raises(ModelError, match="the same in another order"):
        calibrate(MODEL, swapped, "test")


def test_the_command_writes_the_factor_and_takes_the_signature_away(
    bundle: Path, version: Sheet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keygen(tmp_path / "key")
    sign(bundle, tmp_path / "key")
    assert main(["model", "calibrate", str(bundle), "--data", str(version.file.parent), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    manifest = read_bundle(bundle).manifest
    assert manifest is not None
    assert manifest.calibration.odds == document["odds"] != document["before"]
    assert document["sign_again"]
    assert not (bundle / "manifest.sig").exists()
    assert main(["model", "calibrate", str(bundle), "--data", str(version.file)]) == 0
    assert "sign it again" not in capsys.readouterr().out


def test_a_bundle_that_is_amended_keeps_all_the_rest(bundle: Path) -> None:
    before = read_bundle(bundle).manifest
    assert before is not None
    assert not amend(bundle, evaluation={"verdict": "same"})
    after = read_bundle(bundle).manifest
    assert after == before.model_copy(update={"evaluation": {"verdict": "same"}})


def test_a_bare_model_cannot_be_amended() -> None:
    with pytest.raises(ModelError, match="bare ONNX"):
        amend(MODEL / "model.onnx", evaluation=None)


@pytest.mark.parametrize("data", ["nowhere", "kerb-2"])
def test_a_version_that_is_none_is_a_usage_error(
    data: str, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["model", "calibrate", str(bundle), "--data", str(tmp_path / data)]) == 2
    assert "data.yaml" in capsys.readouterr().err
