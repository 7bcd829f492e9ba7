"""What the workstation does with a model: scores against truth, calibration, golden frames and the bundle it writes."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from agent.bundle import read_bundle
from agent.detector import Detector
from agent.errors import ConfigError, ModelError
from agent.export.bundle import Facts, golden_frames, write_bundle
from agent.export.evaluate import Scored, average_precision, calibration_curve, fit_odds, iou, mean_ap, score
from agent.export.frames import PER_SEED, labelled, render_set
from agent.export.moments import moments
from agent.export.onnx import round_weights
from agent.world.classes import NAMES
from agent.world.truth import Thing

MODEL = Path(__file__).resolve().parents[2] / "agent" / "world" / "model"


def thing(x: float, cls: int = 0, visibility: float = 1.0) -> Thing:
    return Thing((x, 100.0, x + 50.0, 200.0), cls, int(x), visibility)


def row(x: float, confidence: float, cls: int = 0) -> list[float]:
    return [x, 100.0, x + 50.0, 200.0, confidence, cls]


def rows(*each: list[float]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.array(each, np.float32).reshape(-1, 6)


def test_a_perfect_detector_has_an_average_precision_of_one() -> None:
    scored = score([(rows(row(0, 0.9), row(200, 0.8)), [thing(0), thing(200)])], 1)
    assert average_precision(scored[0]) == 1.0


def test_misses_and_false_alarms_cost_average_precision() -> None:
    missed = score([(rows(row(0, 0.9)), [thing(0), thing(200)])], 1)[0]
    assert average_precision(missed) == pytest.approx(51 / 101)
    alarmed = score([(rows(row(400, 0.95), row(0, 0.9)), [thing(0)])], 1)[0]
    assert average_precision(alarmed) == pytest.approx(0.5)
    late = score([(rows(row(400, 0.1), row(0, 0.9)), [thing(0)])], 1)[0]
    assert average_precision(late) == 1.0


def test_a_second_row_on_one_object_is_a_false_alarm() -> None:
    scored = score([(rows(row(0, 0.9), row(2, 0.8)), [thing(0)])], 1)[0]
    assert scored.right.tolist() == [1.0, 0.0]


def test_the_class_must_be_right() -> None:
    scored = score([(rows(row(0, 0.9, cls=1)), [thing(0, cls=0)])], 2)
    assert (scored[0].objects, len(scored[0].right)) == (1, 0)
    assert scored[1].right.tolist() == [0.0]


def test_things_too_hidden_to_be_labelled_count_neither_way() -> None:
    hidden = thing(0, visibility=0.1)
    assert labelled([hidden, thing(100)]) == [thing(100)]
    assert score([(rows(row(0, 0.9)), [hidden])], 1)[0].right.tolist() == []
    assert score([(rows(), [hidden])], 1)[0].objects == 0


def test_classes_without_objects_are_left_out_of_the_mean() -> None:
    nothing = average_precision(Scored(np.empty(0), np.empty(0), 0))
    assert math.isnan(nothing)
    assert mean_ap([0.5, nothing, 0.7], [0, 1, 2]) == pytest.approx(0.6)
    assert average_precision(Scored(np.empty(0), np.empty(0), 3)) == 0.0


def test_overlap_of_boxes() -> None:
    overlap = iou(np.array([[0, 0, 10, 10]], np.float32), [(0, 0, 10, 10), (5, 0, 15, 10), (20, 20, 30, 30)])
    assert overlap[0] == pytest.approx([1.0, 1 / 3, 0.0])


def test_the_fitted_odds_undo_a_known_distortion() -> None:
    rng = np.random.default_rng(0)
    true = rng.uniform(0.02, 0.98, 20_000)
    shown = true / (true + 2.2 * (1 - true))
    right = (rng.random(len(true)) < true).astype(np.float64)
    odds = fit_odds([Scored(shown, right, len(true))])
    assert odds == pytest.approx(2.2, rel=0.06)
    for _, _, _, _, repaired, share in calibration_curve([Scored(shown, right, len(true))], odds):
        assert repaired == pytest.approx(share, abs=0.05)


def test_a_written_bundle_can_be_read_and_says_what_it_was_told(tmp_path: Path) -> None:
    facts = Facts("kerb-1", 7, "2026-01-02T03:04:05Z", {"checkpoint": "best.pt"}, "AGPL-3.0", odds=1.5)
    write_bundle(tmp_path / "new" / "bundle", (MODEL / "model.onnx").read_bytes(), facts)
    bundle = read_bundle(tmp_path / "new" / "bundle")
    assert bundle.manifest is not None
    assert (bundle.model_id, bundle.manifest.counter, bundle.manifest.calibration.odds) == ("kerb-1", 7, 1.5)
    assert bundle.manifest.counts is None
    assert bundle.manifest.classes == NAMES
    keys = set(json.loads((tmp_path / "new" / "bundle" / "manifest.json").read_text()))
    assert {"v", "embedding", "evaluation", "golden", "task"} <= keys


def test_facts_that_no_manifest_may_hold_are_refused_in_one_line(tmp_path: Path) -> None:
    for facts in (Facts("a name with spaces", 1, ""), Facts("x", -1, "")):
        with pytest.raises(ConfigError, match=r"the manifest: (model_id|counter)") as caught:
            write_bundle(tmp_path / "bundle", (MODEL / "model.onnx").read_bytes(), facts)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "bundle").exists()


def test_what_is_no_detector_is_not_bundled(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        write_bundle(tmp_path / "bundle", b"not a model", Facts("x", 1, ""))
    assert not (tmp_path / "bundle").exists()


def test_golden_frames_are_those_without_doubtful_rows() -> None:
    detector = Detector(MODEL, floor=0.02, threads=1)
    images = [moment.image for moment in moments(2300, 6, objects=3.0)]
    for golden in golden_frames(detector, images, 2):
        confidences = [expected[4] for expected in golden.rows]
        assert len(confidences) >= 2
        assert min(confidences) >= 0.4


def test_a_street_is_rendered_once_and_kept(tmp_path: Path) -> None:
    counts = render_set(tmp_path, 3000, 1, workers=1)
    pictures = sorted((tmp_path / "images").iterdir())
    assert len(pictures) == PER_SEED
    lines = [line for label in (tmp_path / "labels").iterdir() for line in label.read_text().splitlines()]
    assert sum(counts.values()) == len(lines)
    assert all(0 <= float(value) <= 1 for line in lines for value in line.split()[1:])
    before = pictures[0].stat().st_mtime_ns
    assert render_set(tmp_path, 3000, 1, workers=1) == counts
    assert pictures[0].stat().st_mtime_ns == before


def test_rounding_keeps_layers_within_half_a_step_and_constants_exactly(tmp_path: Path) -> None:
    weights = np.random.default_rng(1).normal(0, 0.3, (4, 3, 3, 3)).astype(np.float32)
    anchors = np.linspace(0.5, 39.5, 40, dtype=np.float32).reshape(1, 40) / np.float32(3)
    given: dict[str, NDArray[np.float32]] = {
        "model.0.conv.weight": weights,
        "/model.23/Constant_output_0": anchors,
        "model.0.conv.bias": weights[:, 0, 0, 0],
    }
    graph = onnx.helper.make_graph([], "g", [], [], [numpy_helper.from_array(v, k) for k, v in given.items()])
    onnx.save_model(onnx.helper.make_model(graph), str(tmp_path / "a.onnx"))
    round_weights(tmp_path / "a.onnx", tmp_path / "b.onnx")
    tensors = onnx.load(str(tmp_path / "b.onnx")).graph.initializer
    result = {tensor.name: numpy_helper.to_array(tensor) for tensor in tensors}
    largest = np.abs(weights).reshape(4, -1).max(axis=1)[:, None, None, None]
    error = np.abs(result["model.0.conv.weight"] - weights)
    assert error.max() > 0
    assert (error <= largest / 254).all()
    assert (result["model.0.conv.weight"].view(np.uint32) & 0xFFFF == 0).all()
    assert np.array_equal(result["/model.23/Constant_output_0"], anchors)
    assert np.array_equal(result["model.0.conv.bias"], weights[:, 0, 0, 0])
