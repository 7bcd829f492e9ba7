"""An epoch of Ultralytics on a version, and its validation: `python -m tests.labelling.train DATA_YAML FOLDER`."""

from __future__ import annotations

import sys

from tests.fakes.vision import lend_torchvision


def train(sheet: str, folder: str) -> int:
    """A tiny run from random weights; returns the number of classes that the validated model has."""
    from ultralytics import YOLO

    lend_torchvision()
    small = {"data": sheet, "imgsz": 160, "workers": 0, "device": "cpu", "project": folder, "plots": False}
    model = YOLO("yolo26n.yaml")
    model.train(epochs=1, batch=4, **small)
    return len(model.val(**small).names)


if __name__ == "__main__":
    print("classes", train(*sys.argv[1:]))  # noqa: T201
