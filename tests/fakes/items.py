"""Items for tests of the delivery path: real framing and ids, small stand-ins for the JPEG."""

from __future__ import annotations

import random

import cv2
import numpy as np

from agent.records import Detection, ImageInfo, Item, Lane, Meta, ModelRef, Thresholds, make_item


def an_item(
    number: int = 0,
    *,
    lane: Lane = "uncertain",
    score: float = 1.0,
    classes: tuple[str, ...] = (),
    size: int = 2000,
    device: str = "gate-north",
    ts_ns: int = 1_800_000_000_000_000_000,
    mono_ns: int = 1_000_000_000_000,
) -> Item:
    """Item `number` of a device: its bytes, its time and so its id follow from the number; classes are served ones."""
    detections = tuple(
        Detection(c=index, name=name, conf=0.8, xyxy=(1.0, 2.0, 30.0, 40.0), served=True)
        for index, name in enumerate(classes)
    )
    meta = Meta(
        device=device,
        camera="gate",
        ts="2027-01-15T08:00:00.000Z",
        ts_ns=ts_ns + number,
        mono_ns=mono_ns + number,
        boot="0" * 32,
        clock_synced=True,
        model=ModelRef(id="yolo26n", sha256="a" * 64),
        thresholds=Thresholds(serve=0.25, floor=0.02),
        lane=lane,
        score=score,
        probability=0.002 if lane == "canary" else None,
        reasons=(),
        detections=detections,
        image=ImageInfo(w=64, h=48, quality=90),
        agent="test",
    )
    return make_item(b"\xff\xd8" + random.Random(number).randbytes(size - 4) + b"\xff\xd9", meta)


def a_picture_item(
    number: int = 0, *, width: int = 320, height: int = 240, device: str = "gate-north", score: float = 1.0
) -> Item:
    """Item `number` with a real JPEG of noise: about half a byte per pixel."""
    coarse = np.random.default_rng(number).integers(0, 256, (height // 4, width // 4, 3), np.uint8)
    picture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
    meta = an_item(number, device=device, score=score).meta
    return make_item(jpeg, meta.model_copy(update={"image": ImageInfo(w=width, h=height, quality=90)}))


def variants(count: int, picture: Item, first: int = 0) -> list[Item]:
    """Items that differ from a picture item in a comment inside their JPEG and in time: no encoding each."""
    items = []
    for number in range(first, first + count):
        comment = b"\xff\xfe\x00\x0a" + number.to_bytes(8, "big")
        image = picture.image[:2] + comment + picture.image[2:]
        items.append(make_item(image, picture.meta.model_copy(update={"ts_ns": picture.meta.ts_ns + number})))
    return items
