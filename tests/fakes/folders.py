"""Declared folders: a data.yaml with pictures and labels, as people bring them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agent.dataset.looks import Objects
from agent.dataset.versions.record import label_text
from tests.fakes.stores import CLASSES, HEIGHT, WIDTH, picture

CAR = (("car", (40, 60, 120, 110)),)


def a_folder(
    folder: Path, *, train: Sequence[int] = (), val: Sequence[int] = (), names: Sequence[str] = CLASSES
) -> Path:
    """Pictures of these scenes, each with a car; returns its data.yaml."""
    for split, scenes in (("train", train), ("val", val)):
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True, exist_ok=True)
        for scene in scenes:
            add_picture(folder, split, f"{scene:03d}", picture(CAR, scene=scene), CAR, names)
    sheet = folder / "data.yaml"
    sheet.write_text(f"path: .\ntrain: images/train\nval: images/val\nnames: {list(names)}\n")
    return sheet


def add_picture(
    folder: Path, split: str, stem: str, jpeg: bytes, objects: Objects, names: Sequence[str] = CLASSES
) -> None:
    (folder / "images" / split / f"{stem}.jpg").write_bytes(jpeg)
    placed = [(n, (x1 / WIDTH, y1 / HEIGHT, x2 / WIDTH, y2 / HEIGHT)) for n, (x1, y1, x2, y2) in objects]
    (folder / "labels" / split / f"{stem}.txt").write_bytes(label_text(placed, names))
