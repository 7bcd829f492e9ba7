"""What a loaded model says of itself: input, output, classes; and refusal of what is no detector of ours."""

from __future__ import annotations

import ast
from dataclasses import dataclass

import onnxruntime as ort

from agent.bundle import Bundle, Embedding
from agent.errors import ModelError

DEFAULT_SIDE = 640
DEFAULT_STRIDE = 32
EXPORT_REMEDY = "export a YOLO detector with `tailkeeper model export` or `yolo export format=onnx`"
_TEXT_LIMIT = 1_000_000
_INPUT_TYPES = ("tensor(float)", "tensor(float16)")


@dataclass(frozen=True, slots=True)
class Graph:
    """Facts of a detector's graph."""

    input: str
    output: str
    half: bool
    """Float16 instead of float32 input."""
    size: tuple[int, int]
    """Height and width of the input; the largest ones where it is dynamic."""
    stride: int
    """0 where the input's shape is fixed."""
    classes: tuple[str, ...]
    embedding: Embedding | None
    """The extra output, where there is one."""


def inspect(session: ort.InferenceSession, bundle: Bundle, where: str) -> Graph:
    """Read the graph's facts from its signature, its metadata and the manifest; raises ModelError.

    Ultralytics writes names, stride, imgsz and task as Python literals into the ONNX metadata; our export adds the name
    of the extra output, where there is one.
    """
    metadata: dict[str, str] = session.get_modelmeta().custom_metadata_map
    inputs, outputs = session.get_inputs(), session.get_outputs()
    task = metadata.get("task", "detect")
    if task != "detect":
        raise ModelError(f"{where} is made for the task {task!r}, not for detection", remedy=EXPORT_REMEDY)
    image = inputs[0]
    if (
        len(inputs) != 1
        or image.type not in _INPUT_TYPES
        or len(image.shape) != 4
        or image.shape[1] not in (3, "channels")
    ):
        raise ModelError(f"{where} takes no image: its inputs are {_signature(inputs)}", remedy=EXPORT_REMEDY)
    embedding = _embedding(outputs, bundle, metadata, where)
    detections = [output for output in outputs if not (embedding and output.name == embedding.name)]
    if len(detections) != 1 or len(detections[0].shape) != 3:
        raise ModelError(
            f"{where} has other outputs than a detector: {_signature(outputs)}",
            remedy=f"[1,300,6] or [1,4+classes,n] is needed; {EXPORT_REMEDY}",
        )
    fixed = all(isinstance(side, int) for side in image.shape[2:])
    return Graph(
        input=image.name,
        output=detections[0].name,
        half=image.type == "tensor(float16)",
        size=(image.shape[2], image.shape[3]) if fixed else _largest(bundle, metadata),
        stride=0 if fixed else _stride(metadata),
        classes=_classes(bundle, metadata, where),
        embedding=embedding,
    )


def _embedding(outputs: list[ort.NodeArg], bundle: Bundle, metadata: dict[str, str], where: str) -> Embedding | None:
    """The extra output that the manifest names, or the metadata of a bare ONNX."""
    said = bundle.manifest.embedding if bundle.manifest else None
    name = said.name if said else "" if bundle.manifest else metadata.get("embedding", "")
    if not name:
        return None
    found = next((output for output in outputs if output.name == name), None)
    match found.shape if found else None:
        case [1, int(length)] if 0 < length <= 65_536 and said in (None, Embedding(name=name, length=length)):
            return Embedding(name=name, length=length)
    wanted = said.length if said else "n"
    raise ModelError(
        f"{where} has no output {name!r} of shape [1,{wanted}]: {_signature(outputs)}",
        remedy="export the bundle again",
    )


def _signature(nodes: list[ort.NodeArg]) -> str:
    return ", ".join(f"{node.name} {node.type} {node.shape}" for node in nodes) or "none"


def _largest(bundle: Bundle, metadata: dict[str, str]) -> tuple[int, int]:
    if bundle.manifest:
        return bundle.manifest.input.h, bundle.manifest.input.w
    match _literal(metadata.get("imgsz", "")):
        case [int(height), int(width)] if 32 <= height <= 8192 and 32 <= width <= 8192:
            return height, width
    return DEFAULT_SIDE, DEFAULT_SIDE


def _stride(metadata: dict[str, str]) -> int:
    match _literal(metadata.get("stride", "")):
        case int(stride) if 1 <= stride <= 256:
            return stride
    return DEFAULT_STRIDE


def _classes(bundle: Bundle, metadata: dict[str, str], where: str) -> tuple[str, ...]:
    """Class names in order: the metadata's, the manifest's, and the same where both have them."""
    named = _names(metadata["names"], where) if "names" in metadata else None
    if bundle.manifest is None:
        if named is None:
            raise ModelError(f"{where} has no class names in its metadata", remedy=EXPORT_REMEDY)
        return named
    if named is not None and named != bundle.manifest.classes:
        raise ModelError(
            f"{where} names other classes in its metadata than in its manifest",
            remedy="export the bundle again",
        )
    return bundle.manifest.classes


def _names(text: str, where: str) -> tuple[str, ...]:
    names = _literal(text)
    if isinstance(names, dict) and sorted(map(str, names)) == sorted(map(str, range(len(names)))):
        names = [names.get(i, names.get(str(i))) for i in range(len(names))]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ModelError(f"{where} has class names that cannot be read: {text[:60]!r}", remedy=EXPORT_REMEDY)
    return tuple(name[:200] for name in names)


def _literal(text: str) -> object:
    """The Python literal in `text`, None where there is none."""
    try:
        return ast.literal_eval(text[:_TEXT_LIMIT])
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
