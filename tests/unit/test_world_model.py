"""The shipped model: a real YOLO26n in a valid bundle, small in git, trained on a long tail, and honest about it."""

from __future__ import annotations

import base64
import zlib
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from agent.bundle import read_bundle
from agent.detector import Detector
from agent.export.onnx import IR_VERSION, OPSET, parameters
from agent.world.classes import HEAD, NAMES, TAIL

MODEL = Path(__file__).resolve().parents[2] / "agent" / "world" / "model"
FUSED = 2_377_566
"""Parameters of ultralytics 8.4's yolo26n.yaml with 14 classes after `fuse()` on its one-to-one head
("YOLO26n summary (fused)" that training prints). Its 80 classes for COCO make 2,408,932."""
PER_CLASS = 475
"""By how much one class more changes that number: (2,408,932 - 2,377,566) / 66, for the three detection layers."""
TENSORS = 204
"""Convolutions of the fused network, each with weight and bias."""


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector(MODEL, floor=0.25, threads=1)


def layers(path: Path) -> set[str]:
    """Names of the convolutions, as the architecture gives them."""
    return {node.name for node in onnx.load(str(path)).graph.node if node.op_type == "Conv"}


def test_the_bundle_is_valid_and_knows_the_worlds_classes() -> None:
    manifest = read_bundle(MODEL).manifest
    assert manifest is not None
    assert manifest.classes == NAMES
    assert (manifest.input.w, manifest.input.h, manifest.output) == (320, 192, "end2end")
    assert (manifest.thresholds.serve, manifest.thresholds.floor) == (0.25, 0.02)
    assert manifest.licence == "AGPL-3.0"
    assert manifest.embedding is None
    assert manifest.evaluation is None


def test_its_training_set_had_a_long_tail() -> None:
    manifest = read_bundle(MODEL).manifest
    assert manifest is not None
    counts = manifest.counts
    assert counts is not None
    assert min(counts[cls] for cls in HEAD) > 5 * max(counts[cls] for cls in TAIL)
    assert counts[0] > 100 * min(counts)
    assert all(np.diff([counts[cls] for cls in (*HEAD, 4, 5, 6, 7)]) < 0)


def test_golden_frames_give_the_rows_they_gave_at_the_export(detector: Detector) -> None:
    manifest = read_bundle(MODEL).manifest
    assert manifest is not None
    assert len(manifest.golden) == 3
    for golden in manifest.golden:
        jpeg = np.frombuffer(base64.b64decode(golden.jpeg), np.uint8)
        rows = detector.detect(np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR), np.uint8))
        expected = np.array(golden.rows)
        assert len(rows) == len(expected) >= 2
        assert np.abs(rows[:, :4] - expected[:, :4]).max() <= golden.tolerance.px
        assert np.abs(rows[:, 4] - expected[:, 4]).max() <= golden.tolerance.conf
        assert (rows[:, 5] == expected[:, 5]).all()


def test_it_is_a_yolo26n_by_its_weights_and_layers() -> None:
    weights = parameters(MODEL / "model.onnx")
    assert sum(weights.values()) == FUSED
    assert len(weights) == TENSORS
    assert {name.split(".")[1] for name in weights} == {
        str(n) for n in (*range(11), 13, *range(16, 24)) if n not in (18, 21)
    }
    assert any(name.startswith("model.23.one2one_cv3") for name in weights)


def test_its_layers_are_those_of_the_real_yolo26n(assets: Path) -> None:
    assert layers(MODEL / "model.onnx") == layers(assets / "models" / "yolo26n.onnx")


def test_its_weights_are_those_of_the_architecture_where_ultralytics_is_installed() -> None:
    tasks = pytest.importorskip("ultralytics.nn.tasks", reason="ultralytics is a workstation extra")
    network = tasks.DetectionModel("yolo26n.yaml", nc=len(NAMES), verbose=False)
    network.end2end = True
    network.fuse(verbose=False)
    named = {f"{name}": value.numel() for name, value in network.named_parameters()}
    assert parameters(MODEL / "model.onnx") == named


def test_an_old_onnxruntime_can_read_it() -> None:
    model = onnx.load(str(MODEL / "model.onnx"))
    assert model.ir_version <= IR_VERSION
    assert [entry.version for entry in model.opset_import if not entry.domain] == [OPSET]


def test_its_metadata_names_classes_stride_and_size_but_no_workstation() -> None:
    content = (MODEL / "model.onnx").read_bytes()
    facts = {entry.key: entry.value for entry in onnx.load_from_string(content).metadata_props}
    assert (facts["stride"], facts["imgsz"], facts["end2end"]) == ("32", "[192, 320]", "True")
    assert all(name in facts["names"] for name in NAMES)
    for trace in (b"/home/", b"/work/", b"/tmp/", b"/root/", b"site-packages"):
        assert trace not in content


def test_shipped_files_pack_into_less_than_8_mb() -> None:
    packed = sum(len(zlib.compress(path.read_bytes())) for path in MODEL.iterdir())
    assert packed < 8_000_000


def test_notices_say_what_the_weights_are() -> None:
    notice, card = (MODEL / "LICENCE").read_text(), (MODEL / "MODEL_CARD.md").read_text()
    assert "Ultralytics" in notice
    assert "AGPL-3.0" in notice
    for name in NAMES:
        assert f"| {name} |" in card


def test_it_finds_a_car_in_plain_daylight(detector: Detector) -> None:
    from agent.world.light import light_at
    from agent.world.stage import Placement, Stage

    stage = Stage(3)
    car = Placement(NAMES.index("car"), 1, 77, 300.0, 284.0, False, 0)
    rows = detector.detect(stage.render([car], light_at(3, 0, 12.0), (0, 0), 5))
    assert NAMES[int(rows[0, 5])] == "car"
    assert rows[0, 4] > 0.5
