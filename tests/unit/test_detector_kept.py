"""The optimised graph that is kept for the next start, and never trusted where it is damaged."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from agent.detector import Detector
from agent.detector.kept import KEEPER, KEPT
from tests.fakes.models import a_model, end2end

ROW = [5.0, 5.0, 20.0, 20.0, 0.5, 1.0]
PICTURE = np.full((64, 64, 3), 50, np.uint8)


def opened(folder: Path, confidence: float = 0.5) -> Detector:
    """A detector whose graph has been kept."""
    model = a_model(end2end([[*ROW[:4], confidence, 1]]))
    detector = Detector(model, floor=0.02, threads=1, providers=["cpu"], cache=folder)
    for thread in threading.enumerate():
        if thread.name == KEEPER:
            thread.join()
    return detector


def kept(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.onnx"))


def test_the_second_start_reads_what_the_first_one_optimised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "engines"
    opened(folder)
    (graph,) = kept(folder)
    loaded: list[bytes] = []
    real = ort.InferenceSession

    def spy(onnx: bytes, *arguments: object, **options: object) -> object:
        loaded.append(onnx)
        return real(onnx, *arguments, **options)

    monkeypatch.setattr(ort, "InferenceSession", spy)
    detector = opened(folder)
    assert loaded == [graph.read_bytes()]
    assert detector.detect(PICTURE).tolist() == [pytest.approx(ROW)]


@pytest.mark.parametrize("damage", [b"", b"not a graph", "flipped"])
def test_a_damaged_graph_is_made_anew(tmp_path: Path, damage: bytes | str) -> None:
    opened(tmp_path)
    (graph,) = kept(tmp_path)
    content = graph.read_bytes()
    flipped = content[:-1] + bytes([content[-1] ^ 1])
    graph.write_bytes(flipped if isinstance(damage, str) else damage)
    assert opened(tmp_path).detect(PICTURE).tolist() == [pytest.approx(ROW)]
    assert graph.read_bytes() == content


def test_where_nothing_can_be_kept_the_model_runs_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "engines").write_text("a file is in the way")
    assert opened(tmp_path / "engines").detect(PICTURE).tolist() == [pytest.approx(ROW)]


def test_a_device_keeps_the_graphs_of_its_latest_models(tmp_path: Path) -> None:
    for confidence in np.linspace(0.1, 0.9, KEPT + 3):
        opened(tmp_path, float(confidence))
    assert len(kept(tmp_path)) == KEPT
    assert not list(tmp_path.glob("*.part"))
