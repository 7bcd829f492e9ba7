"""Writes a model bundle: a folder with `model.onnx` and the manifest that describes it."""

from __future__ import annotations

import base64
import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from pydantic import ValidationError

from agent import durable
from agent.bundle import (
    MANIFEST_FILE,
    MODEL_FILE,
    SIGNATURE_FILE,
    Calibration,
    Golden,
    Input,
    Manifest,
    Row,
    Tolerance,
    read_bundle,
)
from agent.detector import Detector
from agent.errors import ConfigError, ModelError
from agent.export import parity
from agent.export.onnx import export_checkpoint
from agent.records import Image, Thresholds
from agent.wire import first_error

SERVE, FLOOR = 0.25, 0.02
GOLDEN_TOLERANCE = Tolerance(px=3.0, conf=0.05)
"""Wide enough for FP16 on a GPU, far too narrow for a wrong preprocessing or a damaged file."""


@dataclass(frozen=True)
class Facts:
    """What the ONNX file itself does not say. `counts` are labelled training objects per class, None when unknown.

    A model with COCO's classes gets COCO's counts then, as it would without a bundle.
    """

    model_id: str
    counter: int
    created: str
    source: dict[str, str | None] = field(default_factory=dict)
    licence: str = ""
    counts: tuple[int, ...] | None = None
    odds: float = 2.2
    golden: tuple[Golden, ...] = ()


def write_bundle(folder: Path, onnx: bytes, facts: Facts) -> Manifest:
    """Write model and manifest into `folder` and return the manifest; raises ModelError where the model is no detector.

    The model is loaded and run once, so that a bundle that was written is a bundle that loads.
    """
    manifest = _describe(onnx, facts)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MODEL_FILE).write_bytes(onnx)
    _write_manifest(folder, manifest)
    return manifest


def _describe(onnx: bytes, facts: Facts) -> Manifest:
    """The manifest of a model; raises ConfigError for facts that no manifest may hold."""
    detector = Detector(onnx, floor=FLOOR, threads=1)
    width, height = detector.input_size
    try:
        return Manifest(
            model_id=facts.model_id,
            counter=facts.counter,
            created=facts.created,
            source=facts.source,
            licence=facts.licence,
            sha256=hashlib.sha256(onnx).hexdigest(),
            size=len(onnx),
            input=Input(w=width, h=height),
            output=detector.layout,
            classes=detector.classes,
            counts=facts.counts or detector.counts,
            thresholds=Thresholds(serve=SERVE, floor=FLOOR),
            calibration=Calibration(odds=facts.odds),
            golden=facts.golden,
            embedding=detector.embedding,
        )
    except ValidationError as error:
        raise ConfigError(f"the manifest: {first_error(error)}", remedy="choose another --id or --counter") from None


def amend(folder: Path, **changes: object) -> bool:
    """Change what a bundle's manifest says; returns whether the bundle was signed: then it has to be signed again.

    A signature covers the manifest's exact bytes, so the old one is worth nothing and goes. Raises ModelError for a
    bare ONNX or a damaged bundle.
    """
    manifest = read_bundle(folder).manifest
    if manifest is None:
        raise ModelError(f"{folder} is a bare ONNX", remedy="make a bundle with `tailkeeper model export`")
    changed = Manifest.model_validate(manifest.model_dump() | changes)
    signature = folder / SIGNATURE_FILE
    signed = signature.exists()
    signature.unlink(missing_ok=True)
    _write_manifest(folder, changed)
    return signed


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    durable.write(folder / MANIFEST_FILE, (manifest.model_dump_json(indent=1) + "\n").encode(), mode=0o644)


def export_bundle(
    ckpt: Path,
    folder: Path,
    imgsz: int | tuple[int, int],
    facts: Facts,
    *,
    embedding: bool = False,
    half: bool = False,
    int8: bool = False,
    samples: Sequence[Path] = (),
) -> tuple[Manifest, float]:
    """Export an Ultralytics checkpoint into a bundle folder; `imgsz` is a side or (height, width) in pixels.

    With `embedding` the model also says, in one vector, what the whole picture looks like. With `half` its numbers have
    16 bits: half the bytes to send, about the same speed on an x86 CPU. With `int8` it is quantised, calibrated on the
    `samples`. Checkpoint and export see the samples (default: Ultralytics' own pictures); returned with the manifest is
    by how much their confidences differ at most. Raises ModelError where that is too much (for `int8` whoever compares
    on the device decides), or for what is no detector; then nothing is written.
    """
    with tempfile.TemporaryDirectory() as room:
        exported = export_checkpoint(ckpt, Path(room) / MODEL_FILE, imgsz, embedding=embedding, half=half)
        if int8:
            from agent.export.int8 import quantise

            exported = quantise(exported, Path(room) / "int8.onnx", _size(imgsz), samples)
        onnx = exported.read_bytes()
        tolerance = 1.0 if int8 else GOLDEN_TOLERANCE.conf if half else parity.TOLERANCE
        worst = parity.check(ckpt, onnx, samples or parity.sample_images(), tolerance)
    return write_bundle(folder, onnx, facts), worst


def _size(imgsz: int | tuple[int, int]) -> tuple[int, int]:
    return (imgsz, imgsz) if isinstance(imgsz, int) else imgsz


def golden_frames(detector: Detector, images: Sequence[Image], count: int) -> tuple[Golden, ...]:
    """The first `count` images on which the model is sure of everything it serves, with its rows.

    Rows near the serving threshold would come and go with the hardware, so images that have some are passed over.
    """
    found: list[Golden] = []
    for image in images:
        _, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 85])
        rows = detector.detect(np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR), np.uint8))
        doubtful = (rows[:, 4] > SERVE - 0.12) & (rows[:, 4] < SERVE + 0.15)
        served = [_row(row) for row in rows[rows[:, 4] >= SERVE]]
        if len(served) >= 2 and not doubtful.any():
            text = base64.b64encode(jpeg.tobytes()).decode("ascii")
            found.append(Golden(jpeg=text, rows=tuple(served), tolerance=GOLDEN_TOLERANCE))
        if len(found) == count:
            break
    return tuple(found)


def _row(row: np.ndarray[tuple[int], np.dtype[np.float32]]) -> Row:
    x1, y1, x2, y2, confidence = (round(float(value), 3) for value in row[:5])
    return x1, y1, x2, y2, confidence, int(row[5])
