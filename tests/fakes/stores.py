"""Stores of candidates with real pictures: bright rectangles, which a model has seen and a person could label."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np

from agent.collector.store import Store
from agent.dataset.records import Box, Label
from agent.records import Detection, ImageInfo, Item, Lane, make_item
from tests.fakes.clock import FakeClock
from tests.fakes.items import an_item

Objects: TypeAlias = Sequence[tuple[str, tuple[int, int, int, int]]]
"""Class name and box in pixels."""
WIDTH, HEIGHT = 320, 240
CLASSES = ("person", "car", "bus")
LEVELS = {"person": 250, "car": 200, "bus": 20}


def picture(objects: Objects, *, scene: int = 0, quality: int = 90, scale: float = 1.0) -> bytes:
    """A JPEG of the objects before background `scene`."""
    coarse = np.random.default_rng(scene).integers(60, 160, (HEIGHT // 20, WIDTH // 20, 3), np.uint8)
    image = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    for name, (x1, y1, x2, y2) in objects:
        image[y1:y2, x1:x2] = LEVELS[name]
    size = (round(WIDTH * scale), round(HEIGHT * scale))
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes())


def a_scene(
    number: int = 0,
    objects: Objects = (("car", (40, 60, 120, 110)),),
    *,
    scene: int | None = None,
    device: str = "gate-north",
    lane: Lane = "uncertain",
    score: float = 1.0,
    quality: int = 90,
    scale: float = 1.0,
) -> Item:
    """Candidate `number`: a scene of its own (or `scene`), each object served a little off its place."""
    image = picture(objects, scene=number if scene is None else scene, quality=quality, scale=scale)
    rows = tuple(
        Detection(
            c=CLASSES.index(name),
            name=name,
            conf=0.8,
            xyxy=((x1 + 1.25) * scale, (y1 - 0.75) * scale, (x2 + 1.5) * scale, (y2 + 2.25) * scale),
            served=True,
        )
        for name, (x1, y1, x2, y2) in objects
    )
    info = ImageInfo(w=round(WIDTH * scale), h=round(HEIGHT * scale), quality=quality)
    meta = an_item(number, device=device, lane=lane, score=score).meta
    return make_item(image, meta.model_copy(update={"detections": rows, "image": info}))


def a_store(folder: Path, items: Iterable[Item]) -> Path:
    """A collector's store that holds these."""
    store = Store(folder, FakeClock())
    try:
        held = list(items)
        store.write(held)
        store.add(held, {})
    finally:
        store.close()
    return folder


def a_label(item: Item, objects: Objects = (("car", (40, 60, 120, 110)),), **changes: Any) -> Label:
    """What a person says of a candidate: these objects."""
    boxes = tuple(Box(name, (float(x1), float(y1), float(x2), float(y2))) for name, (x1, y1, x2, y2) in objects)
    said: dict[str, Any] = {
        "cid": item.cid,
        "width": item.meta.image.w,
        "height": item.meta.image.h,
        "boxes": boxes,
        "verdict": "useful" if boxes else "nothing",
        "who": "ann",
        "when": "2027-01-16T08:00:00Z",
        "tool": "label-studio",
    }
    return Label(**{**said, **changes})
