"""The detector: rows of both layouts, and models that are refused with a reason."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.bundle import Embedding
from agent.detector import PROVIDERS, Detector, usable_cores
from agent.detector.coco import COCO_COUNTS
from agent.detector.letterbox import PADDING, Letterbox, fit, unfit
from agent.detector.postprocess import ROWS, to_rows
from agent.detector.session import SWITCH_S
from agent.errors import FrameError, ModelError
from agent.records import Image
from tests.fakes.models import NAMES, a_bundle, a_model, end2end, with_external_data

NAN = math.nan


def a_picture(height: int = 64, width: int = 64) -> Image:
    return np.full((height, width, 3), 50, np.uint8)


def raw(boxes: list[tuple[list[float], list[float]]], count: int = 20) -> np.ndarray:
    """A raw output (1, 4 + classes, count) with these boxes (centre and size, confidence per class)."""
    output = np.zeros((1, 4 + len(NAMES), count), np.float32)
    for i, (box, scores) in enumerate(boxes):
        output[0, :, i] = [*box, *scores]
    return output


def test_rows_come_above_the_floor_and_best_first() -> None:
    rows = [[1, 2, 11, 12, 0.3, 1], [5, 5, 20, 20, 0.9, 0], [0, 0, 9, 9, 0.01, 2]]
    detector = Detector(a_model(end2end(rows)), floor=0.02, threads=1)
    assert detector.detect(a_picture()).tolist() == [
        pytest.approx([5, 5, 20, 20, 0.9, 0]),
        pytest.approx([1, 2, 11, 12, 0.3, 1]),
    ]
    detector.floor = 0.5
    assert len(detector.detect(a_picture())) == 1


def test_boxes_are_in_pixels_of_the_image_and_clipped_to_it() -> None:
    detector = Detector(a_model(end2end([[0, 8, 70, 40, 0.9, 0]])), floor=0.1)
    (row,) = detector.detect(a_picture(height=240, width=320))  # a fifth of it, 8 rows of padding above and below
    assert row[:4].tolist() == pytest.approx([0, 0, 320, 160])


def test_rows_with_broken_numbers_are_left_out() -> None:
    rows = to_rows(end2end([[NAN, 0, 9, 9, 0.9, 0], [0, 0, 9, 9, 0.8, 1], [0, 0, 9, 9, 7.0, 1]])[0], "end2end", 0.1)
    assert rows[:, 4].tolist() == pytest.approx([0.8])


def test_a_raw_output_gives_one_row_per_object() -> None:
    boxes = [
        ([20.0, 20, 10, 10], [0.8, 0.1, 0.0]),
        ([20.5, 20, 10, 10], [0.9, 0.1, 0.0]),  # the same person again
        ([20.0, 20, 10, 10], [0.1, 0.6, 0.0]),  # a car in the same place stays
        ([50.0, 50, 10, 10], [0.0, 0.0, 0.3]),
        ([50.0, 50, 10, 10], [0.0, 0.0, 0.01]),
    ]
    detector = Detector(a_model(raw(boxes)), floor=0.02)
    rows = detector.detect(a_picture())
    assert rows[:, 4:].tolist() == [pytest.approx(pair) for pair in ([0.9, 0], [0.6, 1], [0.3, 2])]
    assert rows[0, :4].tolist() == pytest.approx([15.5, 15, 25.5, 25])


@given(st.lists(st.tuples(st.floats(0, 1, width=32), st.integers(0, 2)), max_size=400))
def test_rows_are_always_sorted_bounded_and_above_the_floor(scores: list[tuple[float, int]]) -> None:
    boxes = [
        ([i % 20 * 30.0, i // 20 * 30.0, 8, 8], [s * (c == k) for k in range(3)]) for i, (s, c) in enumerate(scores)
    ]
    rows = to_rows(raw(boxes, count=400)[0], "raw", 0.02)
    assert len(rows) == min(ROWS, sum(score >= np.float32(0.02) for score, _ in scores))
    assert (np.diff(rows[:, 4]) <= 0).all()


def test_a_dynamic_model_gets_the_smallest_rectangle_of_its_stride() -> None:
    place = fit((360, 640), (640, 640), stride=32)
    assert (place.size, place.inner, place.top, place.left) == ((384, 640), (360, 640), 12, 0)
    model = a_model(end2end([[0, 12, 640, 372, 0.9, 0]]), size=("height", "width"), metadata={"imgsz": "[640, 640]"})
    detector = Detector(model, floor=0.1)
    assert detector.input_size == (640, 640)
    assert detector.detect(a_picture(720, 1280))[0, :4].tolist() == pytest.approx([0, 0, 1280, 720])


def test_a_half_precision_model_is_fed_half_precision() -> None:
    detector = Detector(a_model(end2end([[1, 1, 9, 9, 0.5, 2]]), half=True), floor=0.1)
    assert detector.detect(a_picture()).dtype == np.float32


def test_the_input_is_rgb_in_unit_range_with_grey_around() -> None:
    image = np.zeros((32, 64, 3), np.uint8)
    image[...] = (0, 51, 255)
    blob, _ = Letterbox((64, 64)).blob(image)
    assert blob.shape == (1, 3, 64, 64)
    assert blob[0, :, 32, 32].tolist() == pytest.approx([1, 0.2, 0])
    assert blob[0, :, 0, 0].tolist() == pytest.approx([PADDING / 255] * 3)


def test_padding_is_grey_again_after_an_image_of_another_shape() -> None:
    letterbox = Letterbox((64, 64))
    letterbox.blob(np.full((64, 64, 3), 255, np.uint8))
    blob, _ = letterbox.blob(np.zeros((32, 64, 3), np.uint8))
    assert blob[0, 0, 0, 0] == pytest.approx(PADDING / 255)


@given(st.integers(1, 3000), st.integers(1, 3000), st.sampled_from([0, 32]))
def test_boxes_come_back_from_where_the_image_went(height: int, width: int, stride: int) -> None:
    place = fit((height, width), (640, 640), stride)
    assert place.size == (640, 640) if not stride else all(side % 32 == 0 and side <= 640 for side in place.size)
    rows, columns = place.window
    box = np.array([[columns.start, rows.start, columns.stop, rows.stop]], np.float32)
    unfit(box, place, (height, width))
    assert box[0] == pytest.approx([0, 0, width, height], abs=0.01)


def test_facts_come_from_the_manifest(tmp_path: Path) -> None:
    detector = Detector(a_bundle(tmp_path, a_model(end2end([]))), floor=0.02)
    assert (detector.classes, detector.counts, detector.odds) == (NAMES, (100, 50, 3), 1.5)
    assert detector.model_id == "fake-1"
    assert detector.model.sha256 == detector.sha256


def test_facts_of_a_bare_onnx_come_from_its_metadata() -> None:
    detector = Detector(a_model(end2end([])), floor=0.02, threads=1)
    assert (detector.classes, detector.counts, detector.odds) == (NAMES, None, 2.2)
    assert (detector.input_size, detector.threads) == ((64, 64), 1)
    assert detector.providers == ("CPUExecutionProvider",)


def test_coco_classes_bring_coco_counts() -> None:
    detector = Detector(a_model(end2end([]), names=tuple(COCO_COUNTS)), floor=0.02)
    assert detector.counts is not None
    assert (len(detector.counts), sum(detector.counts)) == (80, 860_001)


@pytest.mark.parametrize("half", [False, True])
def test_an_embedding_comes_with_the_rows_of_a_model_that_has_one(tmp_path: Path, half: bool) -> None:
    model = a_model(end2end([[8, 8, 24, 24, 0.5, 1]]), embedding=5, half=half)
    said = {"name": "embedding", "length": 5}
    detector = Detector(a_bundle(tmp_path, model, embedding=said), floor=0.02)
    rows, embedding = detector.look(a_picture())
    assert rows.tolist() == detector.detect(a_picture()).tolist() != []
    assert embedding is not None
    assert embedding.dtype == np.float32
    assert embedding.tolist() == pytest.approx([50 / 255] * 5, abs=1e-3)
    assert detector.embedding == Embedding(name="embedding", length=5)


def test_a_bare_onnx_tells_of_its_embedding_in_its_metadata() -> None:
    model = a_model(end2end([]), embedding=5, metadata={"embedding": "embedding"})
    detector = Detector(model, floor=0.02)
    assert detector.embedding == Embedding(name="embedding", length=5)
    assert Detector(a_model(end2end([])), floor=0.02).look(a_picture())[1] is None


@pytest.mark.parametrize(
    ("embedding", "model"),
    [
        ({"name": "embedding", "length": 4}, a_model(end2end([]), embedding=5)),
        ({"name": "gone", "length": 5}, a_model(end2end([]), embedding=5)),
        ({"name": "output0", "length": 300}, a_model(end2end([]))),
        (None, a_model(end2end([]), embedding=5)),
    ],
    ids=["length", "name", "rows", "unsaid"],
)
def test_manifest_and_model_must_agree_on_the_embedding(
    tmp_path: Path, embedding: dict[str, Any] | None, model: bytes
) -> None:
    with pytest.raises(ModelError, match=r"no output|other outputs") as caught:
        Detector(a_bundle(tmp_path, model, embedding=embedding), floor=0.02)
    assert caught.value.remedy


def test_threads_are_physical_cores_unless_said_otherwise() -> None:
    assert Detector(a_model(end2end([])), floor=0.02).threads == usable_cores() >= 1


def test_a_provider_is_named_by_its_first_word() -> None:
    assert Detector(a_model(end2end([])), floor=0.02, providers=["cpu"]).providers == ("CPUExecutionProvider",)
    with pytest.raises(ModelError, match=r"no provider 'abacus'; it has: .*cpu"):
        Detector(a_model(end2end([])), floor=0.02, providers=["abacus"])


def test_a_provider_that_does_not_start_is_passed_over(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    start = ort.InferenceSession
    engines: list[str] = []

    def without_gpu(*args: Any, providers: list[Any], **options: Any) -> ort.InferenceSession:
        """What a build with CUDA does where CUDA's libraries are missing: fail, or go on with the CPU in silence."""
        if providers[0][0] == "TensorrtExecutionProvider":
            engines.append(providers[0][1]["trt_engine_cache_path"])
            raise RuntimeError("libnvinfer.so.10: cannot open shared object file")
        return start(*args, providers=[p for p in providers if p[0].startswith("CPU")], **options)

    monkeypatch.setattr(ort, "get_available_providers", lambda: list(PROVIDERS))
    monkeypatch.setattr(ort, "InferenceSession", without_gpu)
    detector = Detector(a_model(end2end([])), floor=0.02, cache=tmp_path)
    assert detector.providers == ("CPUExecutionProvider",)
    assert [vars(record)["provider"] for record in caplog.records] == list(PROVIDERS[:2])
    assert capsys.readouterr().out == ""
    assert engines == [str(tmp_path)]
    with pytest.raises(ModelError, match="does not start here"):
        Detector(a_model(end2end([])), floor=0.02, providers=["cuda"])


@pytest.mark.parametrize(
    ("model", "complaint"),
    [
        (a_model(end2end([]), task="segment"), "made for the task 'segment'"),
        (a_model(end2end([]), extra_output=True), "other outputs than a detector: output0 .*output1"),
        (a_model(np.zeros((1, 1000))), "other outputs than a detector"),
        (a_model(np.zeros((1, 300, 7))), "not a detector's"),
        (a_model(np.full((1, 300, 6), 2.0)), "not a detector's"),
        (a_model(end2end([]), channels=1), "takes no image"),
        (a_model(end2end([]), names=None), "no class names"),
        (a_model(end2end([]), names=None, metadata={"names": "os.getcwd()"}), "class names that cannot be read"),
        (a_model(end2end([[0, 0, 9, 9, 0.001, 7]])), "at least 8 classes and names 3"),
        (a_model(np.zeros((1, 8, 100))), "at least 4 classes and names 3"),
        (b"no model", "is not an ONNX model"),
    ],
)
def test_what_is_no_detector_is_refused_in_one_line(model: bytes, complaint: str) -> None:
    with pytest.raises(ModelError, match=complaint) as caught:
        Detector(model, floor=0.02)
    assert "\n" not in str(caught.value)
    assert caught.value.remedy


def test_a_graph_that_onnxruntime_refuses_is_refused_in_one_line() -> None:
    broken = a_model(end2end([])).replace(b"ReduceMean", b"ReduceMeat")
    with pytest.raises(ModelError, match="cannot be loaded") as caught:
        Detector(broken, floor=0.02)
    assert "\n" not in str(caught.value)


def test_metadata_and_manifest_must_name_the_same_classes(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="other classes"):
        Detector(a_bundle(tmp_path, a_model(end2end([])), classes=["a", "b", "c"]), floor=0.02)


def test_external_data_never_reaches_onnxruntime(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="other files"):
        Detector(with_external_data(tmp_path), floor=0.02)


@pytest.mark.parametrize(
    "image", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3), np.float32), np.zeros((0, 9, 3), np.uint8)]
)
def test_what_is_no_image_is_rejected(image: Image) -> None:
    with pytest.raises(FrameError, match="shape"):
        Detector(a_model(end2end([])), floor=0.02).detect(image)


def test_threads_that_come_back_from_an_inference_do_not_wait_long_for_python() -> None:
    sys.setswitchinterval(0.005)
    Detector(a_model(end2end([])), floor=0.1)
    assert sys.getswitchinterval() == pytest.approx(SWITCH_S)
