"""`tailkeeper bench`: what it measures and what it says."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from agent import bench
from agent.bench import run_bench
from agent.cli import main
from agent.errors import ConfigError, ModelError
from tests.fakes.models import a_model, end2end

KEYS = {"raw_fps", "fps", "ratio", "p50_ms", "p95_ms", "select_ms", "rss_mb", "providers", "threads"}


@pytest.fixture(autouse=True)
def short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "TURN_S", 0.05)


def model(folder: Path, name: str, *rows: list[float]) -> Path:
    path = folder / f"{name}.onnx"
    path.write_bytes(a_model(end2end(rows)))
    return path


def pictures(folder: Path) -> str:
    folder.mkdir()
    for index in range(3):
        noise = np.random.default_rng(index).integers(0, 255, (48, 64, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{index}.png"), noise)
    return str(folder)


def test_it_measures_the_model_alone_and_the_pipeline_around_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = model(tmp_path, "found", [5, 5, 20, 20, 0.9, 0])
    status = main(
        [
            "bench",
            "--source",
            pictures(tmp_path / "p"),
            "--model",
            str(found),
            "--seconds",
            "0.5",
            "--threads",
            "1",
            "--json",
        ]
    )
    document = json.loads(capsys.readouterr().out)
    assert status == 0
    assert document.keys() >= KEYS
    assert document["threads"] == 1
    assert document["raw_fps"] > document["fps"] > 0
    assert 0 < document["ratio_spread"][0] <= document["ratio"] <= document["ratio_spread"][1]
    assert 0 < document["select_ms"] < document["p95_ms"]


def test_without_arguments_it_takes_what_ships() -> None:
    result = run_bench(seconds=0.3, stop=threading.Event())
    assert result.speed.model == "world-yolo26n"
    assert result.speed.fps > 0
    assert "raw inference" in result.text()


def test_another_model_is_compared_on_speed_and_on_what_it_finds(tmp_path: Path) -> None:
    """One box is the same in both, one lies elsewhere, one is of another class: F1 of 1 in 3."""
    common = [5.0, 5, 20, 20, 0.9, 0]
    one = model(tmp_path, "one", common, [30, 30, 40, 40, 0.8, 1], [40, 5, 60, 20, 0.7, 1])
    other = model(tmp_path, "other", common, [50, 50, 60, 60, 0.8, 1], [40, 5, 60, 20, 0.7, 2])
    source = pictures(tmp_path / "p")
    result = run_bench(source=source, model=one, compare=other, seconds=0.3, stop=threading.Event())
    assert result.compared is not None
    assert result.compared.agreement == pytest.approx(1 / 3, abs=1e-3)
    assert result.compared.speedup > 0
    assert "other" in result.text()
    assert result.document()["compared"]["model"] == "other"


def test_wrong_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no video or folder"):
        run_bench(source=str(tmp_path / "nowhere.mp4"), stop=threading.Event())
    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    with pytest.raises(ModelError, match=r"broken\.onnx"):
        run_bench(model=tmp_path / "broken.onnx", stop=threading.Event())
