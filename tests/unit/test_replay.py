"""Two policies on one recording: the model looks once, and each policy judges for itself."""

from __future__ import annotations

import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from agent.detector import Detector
from agent.records import Image, Rows, Vector
from agent.replay import compare
from tests.fakes.models import a_model, end2end

FRAMES = 12
SETTINGS = "[selection]\nseed = 1\nframes_per_day = 0\nbytes_per_day = 0\nlabels_per_day = 0\nwindow_frames = 4\n"


def test_the_model_looks_at_each_frame_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    rng = np.random.default_rng(1)
    for i in range(FRAMES):
        cv2.imwrite(str(pictures / f"{i:02}.jpg"), rng.integers(40, 200, (72, 96, 3), dtype=np.uint8))
    model = tmp_path / "model.onnx"
    model.write_bytes(a_model(end2end([[10, 10, 30, 40, 0.4, 0], [40, 10, 60, 30, 0.1, 2]])))
    (tmp_path / "all.toml").write_text(f"{SETTINGS}budget = 1.0\n")
    (tmp_path / "few.toml").write_text(f"{SETTINGS}budget = 0.25\n[model]\nserve_threshold = 0.05\n")
    looks: list[int] = []
    look = Detector.look

    def counted(self: Detector, image: Image) -> tuple[Rows, Vector | None]:
        looks.append(1)
        return look(self, image)

    monkeypatch.setattr(Detector, "look", counted)
    files = tmp_path / "all.toml", tmp_path / "few.toml"
    compared = compare(str(pictures), model, files, fps=0, stop=threading.Event())
    assert len(looks) == compared.a.frames == compared.b.frames == FRAMES
    assert len(compared.a.selected) == FRAMES > len(compared.b.selected) > 0
    assert compared.a.classes == {"person": FRAMES}
    assert compared.b.classes == dict.fromkeys(("person", "cat"), len(compared.b.selected))
    only_a, only_b = compared.only
    assert (len(only_a), only_b) == (FRAMES - len(compared.b.selected), [])
