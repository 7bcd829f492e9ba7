"""The model bundle: a folder with ``model.onnx`` and ``manifest.json``; or a bare ONNX file, which has no manifest.

ONNX files are untrusted input. Everything here works on the bytes of one file that was read once: what was verified is
what is loaded, and a model that wants to read further files (external data, CVE-2024-27318 and its kin) is refused.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from agent.errors import ModelError
from agent.protobuf import fields
from agent.records import Record, Thresholds
from agent.wire import first_error

MODEL_FILE = "model.onnx"
MANIFEST_FILE = "manifest.json"
SIGNATURE_FILE = "manifest.sig"
SIZE_LIMIT = 512 * 1024 * 1024
"""Bytes of ONNX that are read at most: twice the largest YOLO in FP32, and far below what an edge device could run."""
MANIFEST_LIMIT = 16 * 1024 * 1024

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Row = tuple[float, float, float, float, float, int]


class Input(Record):
    """Size of the model's input in pixels; `dynamic`: any multiple of the stride up to that size will do."""

    w: int = Field(gt=0, le=8192)
    h: int = Field(gt=0, le=8192)
    dynamic: bool = False
    channels: Literal[3] = 3


class Calibration(Record):
    """Repair of the model's confidences: its odds are multiplied by `odds` (2.2 measured for YOLO26n on COCO)."""

    odds: float = Field(default=2.2, gt=0, le=100)


class Tolerance(Record):
    """How far a golden frame's rows may be off on another device: box corners in pixels, confidence."""

    px: float = Field(default=2.0, ge=0)
    conf: float = Field(default=0.02, ge=0)


class Golden(Record):
    """A frame with the served rows that the model gave for it where it was exported."""

    jpeg: str
    """Base64 of a small JPEG."""
    rows: tuple[Row, ...]
    tolerance: Tolerance = Tolerance()


class Embedding(Record):
    """An extra output with one vector per frame, float32 [1, length]: alike for frames that look alike."""

    name: str = Field(min_length=1, max_length=200)
    length: int = Field(gt=0, le=65_536)


class Manifest(Record):
    """``manifest.json``: what a device must know of a model beyond its graph."""

    v: Literal[1] = 1
    model_id: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")
    counter: int = Field(ge=0)
    created: str = ""
    source: dict[str, str | None] = Field(default_factory=dict)
    licence: str = ""
    sha256: Sha256
    size: int = Field(gt=0, le=SIZE_LIMIT)
    task: Literal["detect"] = "detect"
    input: Input
    output: Literal["end2end", "raw"]
    classes: tuple[Annotated[str, Field(max_length=200)], ...] = Field(min_length=1, max_length=100_000)
    counts: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    thresholds: Thresholds = Thresholds(serve=0.25, floor=0.02)
    calibration: Calibration = Calibration()
    golden: tuple[Golden, ...] = ()
    embedding: Embedding | None = None
    evaluation: dict[str, object] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Manifest:
        if self.counts is not None and len(self.counts) != len(self.classes):
            raise ValueError(f"counts has {len(self.counts)} entries for {len(self.classes)} classes")
        return self


@dataclass(frozen=True, slots=True)
class Bundle:
    """A model as verified bytes."""

    onnx: bytes
    sha256: str
    """Of `onnx`, 64 hex digits."""
    model_id: str
    """The manifest's, else the file's name."""
    manifest: Manifest | None = None


def read_bundle(source: Path | bytes) -> Bundle:
    """Read and verify a bundle folder, a bare ONNX file, or the bytes of one; raises ModelError."""
    if isinstance(source, bytes):
        return _seal(source, "model", None)
    if source.is_dir():
        manifest = parse_manifest(_read(source / MANIFEST_FILE, MANIFEST_LIMIT), str(source / MANIFEST_FILE))
        onnx = _read(source / MODEL_FILE, SIZE_LIMIT)
        if (len(onnx), hashlib.sha256(onnx).hexdigest()) != (manifest.size, manifest.sha256):
            raise ModelError(
                f"{source / MODEL_FILE} is not the file that its manifest describes (size or sha256 differ)",
                remedy="copy or export the bundle again",
            )
        return _seal(onnx, str(source / MODEL_FILE), manifest)
    return _seal(_read(source, SIZE_LIMIT), str(source), None)


def parse_manifest(text: bytes, where: str) -> Manifest:
    """The manifest in `text`; `where` names it in errors. Raises ModelError."""
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        raise ModelError(f"{where}: {first_error(error)}", remedy="export the bundle again") from None


def _read(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except FileNotFoundError:
        raise ModelError(
            f"no model: {path} does not exist", remedy="give a bundle folder or an exported .onnx file"
        ) from None
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}", remedy="check its permissions") from None
    if len(content) > limit:
        raise ModelError(f"{path} is larger than {limit} bytes", remedy="export a smaller model")
    return content


def _seal(onnx: bytes, where: str, manifest: Manifest | None) -> Bundle:
    if len(onnx) > SIZE_LIMIT:
        raise ModelError(f"{where} is larger than {SIZE_LIMIT} bytes", remedy="export a smaller model")
    try:
        outside = _refers_outside(memoryview(onnx))
    except (ValueError, RecursionError):
        raise ModelError(f"{where} is not an ONNX model", remedy="export one with `tailkeeper model export`") from None
    if outside:
        raise ModelError(
            f"{where} keeps weights in other files, which is refused",
            remedy="export it as a single file (onnx.save_model with save_as_external_data=False)",
        )
    name = manifest.model_id if manifest else re.sub(r"[^A-Za-z0-9._-]+", "-", Path(where).stem)[:64]
    return Bundle(onnx, hashlib.sha256(onnx).hexdigest(), name or "model", manifest)


# The messages of onnx.proto3 in which a tensor can sit, each as {field number: message in that field}.
_MESSAGES: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_TENSOR_EXTERNAL_DATA, _TENSOR_DATA_LOCATION = 13, 14
_NODE_OP_TYPE = 4
_DEPTH_LIMIT = 100


def _refers_outside(onnx: memoryview) -> bool:
    """Whether anything in the model would make a runtime read another file; raises ValueError for what is no ONNX."""
    if not any(number == 7 for number, _ in fields(onnx)):
        raise ValueError("no graph")
    return _searches(onnx, "model", 0)


def _searches(message: memoryview, kind: str, depth: int) -> bool:
    if depth > _DEPTH_LIMIT:
        raise ValueError("nested too deeply")
    for number, content in fields(message):
        if kind == "tensor" and (number == _TENSOR_EXTERNAL_DATA or (number == _TENSOR_DATA_LOCATION and content)):
            return True
        if (
            kind == "node"
            and number == _NODE_OP_TYPE
            and isinstance(content, memoryview)
            and bytes(content) == b"EPContext"
        ):
            return True  # a compiled engine, in a file of its own
        inner = _MESSAGES[kind].get(number)
        if inner and isinstance(content, memoryview) and _searches(content, inner, depth + 1):
            return True
    return False
