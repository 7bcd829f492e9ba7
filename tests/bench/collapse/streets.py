"""Frames of running streets with their truth, rendered once and kept."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from agent import durable
from agent.export.frames import labelled, yolo_line
from agent.records import Image
from agent.world import World, view
from agent.world.truth import Thing, truth

FPS = 2.0
"""Considered frames per media second of the streets that are watched."""
HELD_OUT_FPS = 0.5
_EDGE = (view.WIDTH, view.HEIGHT, view.WIDTH, view.HEIGHT)
HELD_OUT_RARE = 20.0
"""Rare classes come so much more often on the held-out streets that their precision can be measured at all."""


@dataclass(frozen=True)
class Street:
    """A folder with `frames/NNN.jpg` in the order of time and the truth of each."""

    folder: Path

    @property
    def frames(self) -> list[Path]:
        """Pictures, 640x360."""
        return sorted((self.folder / "frames").iterdir())

    def truth(self) -> dict[str, list[Thing]]:
        """Everything in each frame, by the frame's name."""
        kept = json.loads((self.folder / "truth.json").read_text())
        return {name: [Thing(tuple(box), *rest) for box, *rest in things] for name, things in kept.items()}

    def labels(self) -> dict[str, str]:
        """What a person would label, by the frame's name: lines in YOLO format."""
        return {name: "".join(map(yolo_line, labelled(things))) for name, things in self.truth().items()}


def watched(folder: Path, seed: int, frames: int) -> Street:
    """A street from eight in the morning; 200 media seconds reach midnight."""
    return _street(folder, World(f"street?seed={seed}&day={seed}&start=8&day_s=300"), frames, FPS)


def held_out(folder: Path, seed: int, frames: int) -> Street:
    """A street to judge on: frames two seconds apart, beginning between seven and twenty-one."""
    spec = f"street?seed={seed}&day={seed}&start={7 + seed * 5 % 14}&rare={HELD_OUT_RARE:g}"
    return _street(folder, World(spec), frames, HELD_OUT_FPS)


def picture(path: Path) -> Image:
    """The pixels of a frame."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    assert image is not None, path
    return np.asarray(image, np.uint8)


def _street(folder: Path, world: World, frames: int, fps: float) -> Street:
    if not (folder / "truth.json").exists():
        (folder / "frames").mkdir(parents=True, exist_ok=True)
        kept = {}
        for number in range(frames):
            index, name = round(number * world.fps / fps), f"{number:04d}.jpg"
            cv2.imwrite(str(folder / "frames" / name), world.render(index), [cv2.IMWRITE_JPEG_QUALITY, 95])
            kept[name] = [(t.box, t.cls, t.instance, round(t.visibility, 4)) for t in truth(world, index)]
        durable.write(folder / "truth.json", json.dumps(kept).encode())
    return Street(folder)


def yolo_lines(rows: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> str:
    """Rows of a detector as labels in YOLO format, as if they were true."""
    boxes = np.clip(rows[:, :4].astype(float), 0, _EDGE).tolist()
    return "".join(
        yolo_line(Thing((x1, y1, x2, y2), int(cls), 0, 1.0))
        for (x1, y1, x2, y2), cls in zip(boxes, rows[:, 5], strict=True)
    )
