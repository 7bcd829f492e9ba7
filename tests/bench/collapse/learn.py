"""One retraining, in a process of its own: `python -m tests.bench.collapse.learn FOLDER`.

FOLDER holds `lesson.json`; it gets `model.pt` and, last, `model.onnx`. Needs the `export` extra.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agent.export.finish import INPUT
from agent.export.onnx import export_checkpoint
from agent.export.train_world import recipe, write_sheet
from tests.fakes.vision import lend_torchvision

SCRATCH = "yolo26n.yaml"
RAMP = 10
"""Steps until the learning rate is reached: AdamW begins without its moments."""
WATCHED = 16
"""Images that Ultralytics wants to validate on; nothing is chosen by the outcome."""


@dataclass(frozen=True)
class Sample:
    """A picture and its labels in YOLO format."""

    image: str
    labels: str


@dataclass(frozen=True)
class Lesson:
    """What is learnt: from which checkpoint, what is seen, at which learning rates (first, last)."""

    start: str
    views: Sequence[Sample]
    rates: tuple[float, float]
    seed: int

    def write(self, folder: Path) -> None:
        """Put it where `learn` looks for it."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "lesson.json").write_text(json.dumps(asdict(self)))


def learn(folder: Path) -> None:
    """See each view once, in an order of the seed, and export what came out."""
    lend_torchvision()
    from ultralytics import YOLO, settings

    settings.update({"sync": False})
    lesson = json.loads((folder / "lesson.json").read_text())
    views = [Sample(**view) for view in lesson["views"]]
    room = folder / "room"
    shutil.rmtree(room, ignore_errors=True)
    _lay_out(room / "train", views)
    _lay_out(room / "val", views[:WATCHED])
    model = YOLO(lesson["start"])
    rates = _Rates(len(views), *lesson["rates"])
    model.add_callback("on_train_start", rates.begin)
    model.add_callback("on_train_batch_start", rates.step)
    own = {"cache": False, "warmup_epochs": 0, "seed": lesson["seed"], "pretrained": lesson["start"] != SCRATCH}
    model.train(**recipe(write_sheet(room), 1) | own)
    shutil.copyfile(room / "run" / "weights" / "last.pt", folder / "model.pt")
    exported = export_checkpoint(folder / "model.pt", folder / "exporting.onnx", INPUT)
    shutil.rmtree(room)
    exported.rename(folder / "model.onnx")


def _lay_out(folder: Path, views: Sequence[Sample]) -> None:
    """Links, numbered: Ultralytics knows a picture by its path, and here one may come several times."""
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for number, view in enumerate(views):
        source = Path(view.image)
        os.link(source, folder / "images" / f"{number:05d}{source.suffix}")
        (folder / "labels" / f"{number:05d}.txt").write_text(view.labels)


class _Rates:
    """The learning rate of every step: a short ramp, then a straight line."""

    def __init__(self, views: int, first: float, last: float) -> None:
        self._steps, self._first, self._last = max(1, views // 16), first, last
        self._at = 0

    def begin(self, _trainer: Any) -> None:
        import torch

        torch.set_num_threads(1)

    def step(self, trainer: Any) -> None:
        rate = self._first + (self._last - self._first) * min(1.0, self._at / self._steps)
        self._at += 1
        for group in trainer.optimizer.param_groups:
            group["lr"] = rate * min(1.0, self._at / RAMP)


if __name__ == "__main__":
    learn(Path(sys.argv[1]).resolve())
