"""From an Ultralytics checkpoint to an ONNX file that an edge device can run."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from agent.errors import ModelError
from agent.export.checkpoint import open_detector

OPSET = 17
IR_VERSION = 9
"""Both are understood by onnxruntime 1.23, the last one for JetPack 6 (Python 3.10)."""
_LAYER = "model."
"""Names of tensors that belong to a layer begin like this; the others are constants of the graph."""


EMBEDDING = "embedding"
"""Name of the extra output, and of the metadata entry that tells of it."""


def export_checkpoint(
    ckpt: Path, out: Path, imgsz: int | tuple[int, int], *, embedding: bool = False, half: bool = False
) -> Path:
    """Export a checkpoint end to end, rows [1, 300, 6], to the file `out`; returns it.

    With `embedding` the model gets a second output, see `add_embedding`. With `half` its numbers have 16 bits.

    `imgsz` is the side of a square input or its (height, width) in pixels, multiples of 32. Names, stride and size
    are kept in the ONNX metadata as Ultralytics writes them; what tells of the workstation is not. Raises ConfigError
    without Ultralytics, and ModelError for a file that is none of its detection checkpoints.
    """
    size = [imgsz, imgsz] if isinstance(imgsz, int) else list(imgsz)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "model.pt"
        shutil.copyfile(ckpt, copy)
        plan: dict[str, Any] = {"imgsz": size, "opset": OPSET, "simplify": True, "dynamic": False, "device": "cpu"}
        plan |= {"quantize": 16} if half else {}
        yolo = open_detector(copy, str(ckpt))
        last = len(yolo.model.yaml["backbone"]) - 1
        made = yolo.export(format="onnx", nms=False, **plan)  # nms=False: the one-to-one head, end to end
        model = _load(Path(made))
    model.ir_version = min(model.ir_version, IR_VERSION)
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    kept = {"names", "stride", "imgsz", "task", "batch", "channels", "end2end", "version", "author", "license"}
    facts = {entry.key: entry.value for entry in model.metadata_props if entry.key in kept}
    if embedding:
        add_embedding(model, last)
        facts[EMBEDDING] = EMBEDDING
    _write(model, facts, out)
    return out


def add_embedding(model: Any, layer: int) -> None:
    """Give an exported model a second output: the mean over the picture of one layer's feature map, [1, channels].

    Two nodes on what is computed anyway. The backbone's last layer tells frames apart best: on TailStream those of a
    roving camera have cosines of .73 to .92, those of the map that goes into the head .88 to .98. Raises ModelError
    where the layer has no one map that others read.
    """
    import onnx

    graph = onnx.shape_inference.infer_shapes(model).graph
    inside = {name for node in graph.node if node.name.startswith(f"/model.{layer}/") for name in node.output}
    outside = [node for node in graph.node if not node.name.startswith(f"/model.{layer}/")]
    read = inside & {name for node in outside for name in node.input}
    shapes = {info.name: [side.dim_value for side in info.type.tensor_type.shape.dim] for info in graph.value_info}
    kinds = {info.name: info.type.tensor_type.elem_type for info in graph.value_info}
    match [(name, *shapes.get(name, ())) for name in read]:
        case [(str(feature), 1, int(channels), int(height), int(width))] if channels and height and width:
            helper = onnx.helper
            model.graph.node.extend(
                [
                    helper.make_node("GlobalAveragePool", [feature], [f"{EMBEDDING}_map"], name=f"/{EMBEDDING}/pool"),
                    helper.make_node("Flatten", [f"{EMBEDDING}_map"], [EMBEDDING], name=f"/{EMBEDDING}/flatten"),
                ]
            )
            model.graph.output.append(helper.make_tensor_value_info(EMBEDDING, kinds[feature], [1, channels]))
        case _:
            raise ModelError(
                f"layer {layer} of this model has no feature map to make an embedding of", remedy="export without it"
            )


def round_weights(source: Path, out: Path) -> None:
    """Round every weight tensor to 8 bits and a sign, times a power of two per output channel, and keep it FP32.

    The graph and its speed stay the same; the lower half of each number becomes zeros, and the file compresses to
    four tenths. Biases and the constants of the graph are left as they are.
    """
    import onnx
    from onnx import numpy_helper

    model = _load(source)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if not tensor.name.startswith(_LAYER) or values.ndim < 2:
            continue
        flat = values.reshape(values.shape[0], -1)
        largest = np.maximum(np.abs(flat).max(axis=1, keepdims=True), 1e-12)
        step = np.exp2(np.ceil(np.log2(largest / 255.0)))
        rounded = (np.rint(flat / step) * step).astype(np.float32).reshape(values.shape)
        tensor.CopyFrom(numpy_helper.from_array(rounded, tensor.name))
    onnx.save_model(model, str(out), save_as_external_data=False)


def parameters(source: Path) -> dict[str, int]:
    """Number of weights per layer tensor of an exported model, by name; constants of the graph are left out."""
    return {
        tensor.name: int(np.prod(tensor.dims))
        for tensor in _load(source).graph.initializer
        if tensor.name.startswith(_LAYER)
    }


def _load(path: Path) -> Any:
    import onnx

    return onnx.load(str(path))


def _write(model: Any, facts: dict[str, str], out: Path) -> None:
    import onnx

    del model.metadata_props[:]
    onnx.helper.set_model_props(model, facts)
    onnx.save_model(model, str(out), save_as_external_data=False)
