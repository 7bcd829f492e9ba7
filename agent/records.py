"""The records that travel between modules: frames and rows on the way in, candidates and items on the way out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

Image: TypeAlias = NDArray[np.uint8]
"""Pixels, shape (height, width, 3), BGR as OpenCV has them."""

Rows: TypeAlias = NDArray[np.float32]
"""What the detector says of one frame: shape (n, 6), x1 y1 x2 y2 (pixels of the frame), confidence, class index;
highest confidence first; every row above the selection floor, served or not."""

Vector: TypeAlias = NDArray[np.float32]
"""What a model's extra output says of a whole frame: shape (n,), see `Embedding` in `bundle`."""

Lane = Literal["uncertain", "rare", "canary", "temporal", "rule", "manual"]
LANES: tuple[Lane, ...] = ("uncertain", "rare", "canary", "temporal", "rule", "manual")

Verdict = Literal["useful", "duplicate", "junk", "nothing"]
"""What a labeller says of a frame: worth a label, like another, no picture to learn from, none of our classes there."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One considered frame of one camera. It carries no truth: what is in the picture only the pixels say."""

    camera: str
    image: Image
    index: int
    """Running number among the camera's considered frames, from 0."""
    t: float
    """Seconds on the source's own time line: media time of a recording, monotonic time of a live camera."""
    ts_ns: int
    """Wall time at capture, strictly increasing per device."""
    mono_ns: int
    name: str = ""
    """File name, where the source is a folder of images."""


@dataclass(frozen=True, slots=True)
class Picture:
    """What is stored of a frame: redacted, scaled, encoded."""

    jpeg: bytes
    info: ImageInfo
    scale: float
    """From pixels of the frame to pixels of the JPEG."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A frame that selection picked for a human, and why."""

    frame: Frame
    rows: Rows
    lane: Lane
    score: float
    probability: float | None
    """Inclusion probability in that lane; None where it is not defined."""
    reasons: tuple[str, ...] = field(default=())
    picture: Picture | None = None
    """Of a frame that waited for its window's end: then the frame has no pixels any more."""


class Record(BaseModel):
    """Base of the records that cross the network: immutable, tolerant of fields that a newer version added."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", allow_inf_nan=False, protected_namespaces=(), defer_build=True
    )


class Detection(Record):
    """One row in a candidate's metadata; xyxy in pixels of the stored image."""

    c: int = Field(ge=0)
    name: str = Field(max_length=200)
    conf: float = Field(ge=0, le=1)
    xyxy: tuple[float, float, float, float]
    served: bool


class ModelRef(Record):
    id: str = Field(max_length=200)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Thresholds(Record):
    serve: float
    floor: float


class ImageInfo(Record):
    """The stored JPEG: size in pixels, JPEG quality, and what was redacted (mask and class names)."""

    w: int = Field(gt=0, le=65_535)
    h: int = Field(gt=0, le=65_535)
    quality: int
    redacted: tuple[str, ...] = ()


class Meta(Record):
    """Metadata of a candidate, frozen at `put` together with its image (protocol.md has the field list)."""

    device: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    camera: str = Field(max_length=200)
    ts: str
    ts_ns: int = Field(ge=0, lt=2**63)
    mono_ns: int = Field(ge=0, lt=2**63)
    boot: str
    clock_synced: bool
    model: ModelRef
    thresholds: Thresholds
    lane: Lane
    score: float
    probability: float | None
    reasons: tuple[str, ...]
    detections: tuple[Detection, ...]
    image: ImageInfo
    agent: str
    rows_truncated: int = 0


@dataclass(frozen=True, slots=True)
class Item:
    """A candidate ready for the spool and the wire: JPEG bytes, their metadata, and the id of the two."""

    cid: str
    image: bytes
    sha256: str
    """Of `image`, 64 hex digits."""
    meta: Meta


def content_id(device: str, ts_ns: int, sha256: str) -> str:
    """The candidate's stable id: first 32 hex digits of the sha256 of ``device|ts_ns|sha256``."""
    return hashlib.sha256(f"{device}|{ts_ns}|{sha256}".encode("ascii")).hexdigest()[:32]


def make_item(image: bytes, meta: Meta) -> Item:
    """Seal JPEG bytes and metadata into an item."""
    sha256 = hashlib.sha256(image).hexdigest()
    return Item(content_id(meta.device, meta.ts_ns, sha256), image, sha256, meta)
