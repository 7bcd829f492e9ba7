"""Ultralytics' own `val` of a checkpoint or a bundle, frame by frame."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from agent.bundle import MODEL_FILE
from agent.export.checkpoint import check_classes, open_detector
from agent.export.comparison import Judged
from agent.export.sheet import Sheet, label_file


def judge(model: Path, sheet: Sheet, split: str) -> list[Judged]:
    """Rows and truth of every frame of a split, in the order of the frames' names, as Ultralytics matches them.

    `model` is a checkpoint, an ONNX file or a bundle. Its image size is its own. Raises ModelError where it is no
    detector of the sheet's classes.
    """
    from ultralytics.models.yolo.detect import DetectionValidator

    yolo = open_detector(model / MODEL_FILE if model.is_dir() else model)
    check_classes(tuple(yolo.names[number] for number in sorted(yolo.names)), sheet, str(model))
    kept: dict[str, list[Any]] = {}

    class Keeping(DetectionValidator):  # type: ignore[misc, unused-ignore]  # untyped where it is installed at all
        """Ultralytics throws away what belonged to which frame once it has summed up."""

        def gather_stats(self) -> None:
            super().gather_stats()
            kept.update({key: list(values) for key, values in self.metrics.stats.items()})
            kept["frame"] = [Path(name).name for name in self.dataloader.dataset.im_files]

    with _only(sheet, split) as alone:
        size = {} if model.suffix != ".pt" else {"imgsz": yolo.ckpt["train_args"].get("imgsz", 640)}
        yolo.val(
            validator=Keeping, data=str(alone), project=str(alone.parent), name="val", nms=False, plots=False,
            device="cpu", workers=0, verbose=False, batch=1, **size,
        )  # fmt: skip
    order = np.argsort(kept["frame"])
    return [_judged({key: values[number] for key, values in kept.items()}) for number in order]


@contextmanager
def _only(sheet: Sheet, split: str) -> Iterator[Path]:
    """A folder of links whose `val` is this split: Ultralytics leaves a cache beside the labels that it reads."""
    images = sheet.images(split)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("images", "labels"):
            (folder / part).mkdir()
        for number, image in enumerate(images):
            link = f"{number:07d}"
            (folder / "images" / (link + image.suffix)).symlink_to(image.resolve())
            if (labels := label_file(image)).exists():
                (folder / "labels" / f"{link}.txt").symlink_to(labels.resolve())
        alone = folder / "data.yaml"  # JSON is YAML
        content = {"path": name, "train": "images", "val": "images", "names": list(sheet.names)}
        alone.write_text(json.dumps(content), "utf-8")
        yield alone


def _judged(frame: dict[str, Any]) -> Judged:
    return Judged(
        confidence=np.asarray(frame["conf"], np.float64),
        classes=np.asarray(frame["pred_cls"], np.int64),
        right=np.asarray(frame["tp"], bool).reshape(-1, 10)[:, 0],
        there=np.asarray(frame["target_cls"], np.int64),
    )
