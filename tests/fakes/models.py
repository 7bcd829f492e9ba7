"""Tiny ONNX models made on the spot: a detector that always sees the same, and ones that are wrong in some way."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

NAMES = ("person", "car", "cat")
IR_VERSION, OPSET = 8, 17


def a_model(
    output: Any,
    *,
    size: tuple[int | str, int | str] = (64, 64),
    names: Sequence[str] | None = NAMES,
    task: str = "detect",
    half: bool = False,
    metadata: Mapping[str, str] | None = None,
    extra_output: bool = False,
    embedding: int = 0,
    channels: int = 3,
) -> bytes:
    """A model that answers every image of `size` (height, width) with the array `output`.

    `embedding`: length of an extra output of that name, which is the picture's mean (of 1), again and again.
    """
    kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    answer = np.asarray(output, np.float16 if half else np.float32)
    zero = numpy_helper.from_array(np.zeros(1, answer.dtype), "zero")
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "answer"], ["output0"]),
    ]
    outputs = [helper.make_tensor_value_info("output0", kind, answer.shape)]
    if extra_output:
        nodes.append(helper.make_node("Identity", ["mean"], ["output1"]))
        outputs.append(helper.make_tensor_value_info("output1", kind, ()))
    constants = [zero, numpy_helper.from_array(answer, "answer")]
    if embedding:
        constants.append(numpy_helper.from_array(np.ones((1, embedding), answer.dtype), "ones"))
        nodes.append(helper.make_node("Mul", ["mean", "ones"], ["embedding"]))
        outputs.append(helper.make_tensor_value_info("embedding", kind, (1, embedding)))
    graph = helper.make_graph(
        nodes,
        "fake",
        [helper.make_tensor_value_info("images", kind, (1, channels, *size))],
        outputs,
        constants,
    )
    model = helper.make_model(graph, ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)])
    facts = {"task": task, "stride": "32", **(metadata or {})}
    if names is not None:
        facts["names"] = repr(dict(enumerate(names)))
    helper.set_model_props(model, facts)
    return bytes(model.SerializeToString())


def end2end(rows: Sequence[Sequence[float]], count: int = 300) -> Any:
    """An end-to-end output (1, count, 6) with these rows x1 y1 x2 y2 confidence class, then empty ones."""
    output = np.zeros((1, count, 6), np.float32)
    output[0, : len(rows)] = np.reshape(np.asarray(rows, np.float32), (-1, 6))
    return output


def with_external_data(folder: Path) -> Path:
    """A model file in `folder` that keeps a weight in a second file."""
    model = onnx.load_from_string(a_model(end2end([])))
    path = folder / "external.onnx"
    onnx.save_model(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path


def a_bundle(folder: Path, model: bytes, **changes: Any) -> Path:
    """A bundle folder with `model` and a manifest that fits a 64x64 end-to-end model, but for `changes`."""
    manifest = {
        "v": 1,
        "model_id": "fake-1",
        "counter": 1,
        "created": "2026-01-01T00:00:00Z",
        "source": {"checkpoint": "fake.pt", "sha256": None},
        "licence": "none",
        "sha256": hashlib.sha256(model).hexdigest(),
        "size": len(model),
        "task": "detect",
        "input": {"w": 64, "h": 64, "dynamic": False, "channels": 3},
        "output": "end2end",
        "classes": list(NAMES),
        "counts": [100, 50, 3],
        "thresholds": {"serve": 0.25, "floor": 0.02},
        "calibration": {"odds": 1.5},
        "golden": [],
        "embedding": None,
        "evaluation": None,
    } | changes
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model)
    (folder / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    return folder
