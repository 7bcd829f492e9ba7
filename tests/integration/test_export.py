"""From a checkpoint to a bundle, and two models against each other, with Ultralytics itself (`make test-export`)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from onnx import numpy_helper

from agent.bundle import read_bundle
from agent.cli import main
from agent.detector import Detector
from agent.export.frames import render_set
from agent.fleet.bundle import update_of
from agent.models import keygen, sign
from agent.world.classes import NAMES
from tests.fakes.vision import lend_torchvision

ultralytics = pytest.importorskip("ultralytics", reason="ultralytics is a workstation extra")
torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore")
"""Of PyTorch, about the exporter that Ultralytics uses."""
lend_torchvision()
SHIPPED = Path(__file__).resolve().parents[2] / "agent" / "world" / "model"


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty held-out moments of the world with their truth, as train and test."""
    folder = tmp_path_factory.mktemp("v1")
    render_set(folder / "street", 2500, 1, 1)
    images = "street/images"
    sheet = {"path": str(folder), "train": images, "val": images, "test": images, "names": list(NAMES)}
    (folder / "data.yaml").write_text(yaml.safe_dump(sheet))
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained detector of two classes, as Ultralytics saves it."""
    return saved(tmp_path_factory.mktemp("checkpoint") / "two.pt", "yolo26n.yaml", ["cat", "dog"])


def saved(file: Path, architecture: str, names: list[str]) -> Path:
    torch.manual_seed(1)
    yolo = ultralytics.YOLO(architecture, verbose=False)
    if names:
        yolo.model = type(yolo.model)(architecture, nc=len(names), verbose=False)
        yolo.model.names = dict(enumerate(names))
    yolo.model.args = {"task": yolo.task, "model": architecture}
    yolo.ckpt = {"model": yolo.model, "train_args": {"task": yolo.task, "imgsz": 64}}
    torch.save({**yolo.ckpt, "version": ultralytics.__version__}, file)
    return file


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    capsys.readouterr()
    status = main([str(word) for word in words])
    out, err = capsys.readouterr()
    return status, out, err


def export(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    return run(capsys, "model", "export", *words)


# From a checkpoint to a bundle


def test_the_real_checkpoint_becomes_a_bundle_that_sees_the_same(
    assets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = tmp_path / "samples"
    samples.mkdir()
    for path in sorted((assets / "data" / "coco_val_a" / "images").iterdir())[:4]:
        (samples / path.name).symlink_to(path.resolve())
    checkpoint = assets / "models" / "yolo26n.pt"
    status, out, err = export(capsys, checkpoint, "--out", tmp_path / "b", "--samples", samples, "--json")
    assert status == 0, err
    assert json.loads(out)["difference"] < 0.01
    status, out, _ = run(capsys, "model", "info", tmp_path / "b", "--json")
    facts = json.loads(out)
    assert (status, facts["bundle"], len(facts["classes"]), facts["input"]) == (0, True, 80, [640, 640])
    assert min(facts["counts"]) == facts["counts"][facts["classes"].index("hair drier")], "COCO's own counts"


def test_training_counts_come_from_the_training_set(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    (tmp_path / "images" / "a.png").touch()
    (tmp_path / "labels" / "a.txt").write_text("1 .5 .5 .1 .1\n1 .5 .5 .1 .1\n0 .5 .5 .1 .1\n")
    sheet = {"path": str(tmp_path), "train": "images", "val": "images", "names": ["cat", "dog"]}
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(sheet))
    status, out, err = export(capsys, checkpoint, "--imgsz", 64, "--out", tmp_path / "b", "--data", tmp_path, "--json")
    assert status == 0, err
    assert json.loads(out)["counts"] == [1, 2]
    assert Detector(tmp_path / "b", floor=0.1, threads=1).counts == (1, 2)


def test_a_training_set_of_other_classes_is_refused(
    checkpoint: Path, version: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = export(capsys, checkpoint, "--imgsz", 64, "--out", tmp_path / "b", "--data", version)
    assert status == 1
    assert "detects other classes than" in err
    assert not (tmp_path / "b").exists()


def test_half_precision_halves_the_file_and_still_loads(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = []
    for name, flags in (("full", []), ("half", ["--half"]), ("both", ["--half", "--embedding"])):
        status, out, err = export(capsys, checkpoint, "--imgsz", 64, "--out", tmp_path / name, *flags, "--json")
        assert status == 0, err
        sizes.append(json.loads(out)["size"])
        Detector(tmp_path / name, floor=0.1, threads=1).detect(np.zeros((48, 64, 3), np.uint8))
    assert sizes[1] < 0.6 * sizes[0]


def test_a_detector_that_needs_nms_says_so_in_its_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    older = saved(tmp_path / "older.pt", "yolo11n.yaml", ["cat", "dog"])
    status, _, err = export(capsys, older, "--imgsz", 64, "--out", tmp_path / "b")
    assert status == 0, err
    manifest = read_bundle(tmp_path / "b").manifest
    assert manifest is not None
    assert manifest.output == "raw"


# What is refused


@pytest.mark.parametrize(
    ("architecture", "task"),
    [("yolo26n-cls", "classify"), ("yolo26n-seg", "segment"), ("yolo26n-pose", "pose"), ("yolo26n-obb", "obb")],
)
def test_a_model_for_another_task_is_refused(
    architecture: str, task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = saved(tmp_path / "other.pt", f"{architecture}.yaml", [])
    refused(capsys, other, tmp_path, f"is a model for the task '{task}'")


def test_a_checkpoint_with_too_few_class_names_is_refused(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = torch.load(checkpoint, weights_only=False)
    content["model"].names = {0: "cat"}
    torch.save(content, tmp_path / "nameless.pt")
    refused(capsys, tmp_path / "nameless.pt", tmp_path, "detects 2 classes and names 1")


@pytest.mark.parametrize(
    "content", [b"", b"not a checkpoint", "cut", "weights", "list", "onnx"], ids=lambda value: str(value)[:12]
)
def test_a_file_that_is_no_checkpoint_is_refused(
    content: Any, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = tmp_path / "wrong.pt"
    if content == "weights":
        torch.save(torch.load(checkpoint, weights_only=False)["model"].state_dict(), wrong)
    elif content == "list":
        torch.save([1, 2, 3], wrong)
    else:
        known = {"cut": checkpoint.read_bytes()[:200_000], "onnx": (SHIPPED / "model.onnx").read_bytes()}
        wrong.write_bytes(known.get(content, content))
    refused(capsys, wrong, tmp_path, "is no checkpoint")


def refused(capsys: pytest.CaptureFixture[str], wrong: Path, folder: Path, complaint: str) -> None:
    """One line that names the file and what is wrong, and nothing written."""
    status, out, err = export(capsys, wrong, "--imgsz", 64, "--out", folder / "bundle")
    assert (status, out) == (1, "")
    line = err.splitlines()[-1]
    assert line.startswith(f"tailkeeper: {wrong}")
    assert complaint in line
    assert not (folder / "bundle").exists()


def test_a_checkpoint_that_is_nowhere_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = export(capsys, tmp_path / "yolo26n.pt")
    assert status == 2
    assert "no such checkpoint" in err


@pytest.mark.parametrize("side", ["0", "100", "-32", "wide"])
def test_a_side_that_no_model_has_is_a_usage_error(side: str, checkpoint: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["model", "export", str(checkpoint), f"--imgsz={side}"])
    assert caught.value.code == 2


# Old against new


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SHIPPED, tmp_path / "kerb-2"))


def damage(bundle: Path, share: float) -> None:
    """Add noise to the weights, so much of each tensor's own spread."""
    rng = np.random.default_rng(0)
    model = onnx.load(str(bundle / "model.onnx"))
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.name.startswith("model.") and values.ndim == 4:
            noisy = values + share * values.std() * rng.standard_normal(values.shape)
            tensor.CopyFrom(numpy_helper.from_array(noisy.astype(np.float32), tensor.name))
    content = model.SerializeToString()
    (bundle / "model.onnx").write_bytes(content)
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest |= {
        "sha256": __import__("hashlib").sha256(content).hexdigest(),
        "size": len(content),
        "model_id": "kerb-2",
    }
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def compare(capsys: pytest.CaptureFixture[str], old: Path, new: Path, data: Path) -> dict[str, Any]:
    status, out, err = run(capsys, "model", "compare", old, new, "--data", data, "--draws", 100, "--json")
    assert status == 0, err
    return dict(json.loads(out))


def test_a_bundle_against_itself_is_the_same_and_says_so_in_its_manifest(
    bundle: Path, version: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = compare(capsys, SHIPPED, bundle, version)
    manifest = read_bundle(bundle).manifest
    assert manifest is not None
    assert manifest.evaluation is not None
    assert manifest.evaluation["verdict"] == report["verdict"] == "same"
    assert report["groups"]["all"]["low"] == report["groups"]["all"]["high"] == 0
    assert report["frames"] == 40
    assert {name for name, row in report["classes"].items() if row["group"] == "tail"} >= {"forklift", "horse"}
    assert not list(version.rglob("*.cache")), "a version is never written to"


def test_the_figures_are_those_of_ultralytics(version: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = SHIPPED / "model.onnx"
    report = compare(capsys, model, model, version)
    assert not report["written"]
    copy = version.parent / "copy"
    if not copy.exists():
        shutil.copytree(version, copy)
    sheet = yaml.safe_load((copy / "data.yaml").read_text()) | {"path": str(copy)}
    (copy / "data.yaml").write_text(yaml.safe_dump(sheet))
    theirs = ultralytics.YOLO(str(model), task="detect").val(
        data=str(copy / "data.yaml"), project=str(copy), nms=False, plots=False, verbose=False, device="cpu", workers=0
    )
    assert report["groups"]["all"]["new"] == pytest.approx(theirs.box.map50, abs=0.02)
    for cls, value in zip(theirs.box.ap_class_index, theirs.box.ap50, strict=True):
        assert report["classes"][NAMES[cls]]["new"] == pytest.approx(value, abs=0.06)


def test_a_degraded_model_is_only_rolled_out_by_force(
    bundle: Path, version: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(bundle, 0.6)
    keygen(tmp_path / "key")
    sign(bundle, tmp_path / "key")
    report = compare(capsys, SHIPPED, bundle, version)
    assert report["verdict"] == "degraded"
    assert report["sign_again"]
    with pytest.raises(Exception, match="is not signed"):
        update_of(bundle)
    sign(bundle, tmp_path / "key")
    with pytest.raises(Exception, match="`model compare` says degraded; --force"):
        update_of(bundle)
    assert update_of(bundle, force=True).model_id == "kerb-2"


def test_models_of_other_classes_are_not_compared(
    checkpoint: Path, version: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = run(capsys, "model", "compare", SHIPPED, checkpoint, "--data", version)
    assert status == 1
    assert "detects other classes than" in err.splitlines()[-1]
