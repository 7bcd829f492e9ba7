"""A detector in whole numbers of 8 bits: static quantisation, calibrated on real frames.

It is not always worth it, so it is never done unasked: `tailkeeper bench --compare` tells on the device itself what it
gains and how far it agrees. YOLO26n on an x86 core with VNNI: 1.05 times as fast, agreement .916.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from onnxruntime import quantization
from onnxruntime.quantization.shape_inference import quant_pre_process

from agent.detector.letterbox import Letterbox
from agent.errors import ConfigError

FRAMES = 128
"""Frames for calibration at most; more change nothing."""


def quantise(source: Path, out: Path, size: tuple[int, int], frames: Sequence[Path]) -> Path:
    """Write the model at `source` in 8 bits to `out`; `size` is the input's (height, width), `frames` are pictures.

    Convolutions outside the head are quantised, per channel: the head's rows decide what is served and are left alone.
    Raises ConfigError where no picture can be read.
    """
    import onnx

    blobs = list(_blobs(frames[:: max(1, len(frames) // FRAMES)], size))
    if not blobs:
        raise ConfigError(
            "no pictures to calibrate on", remedy="--samples DIR, with some dozens of the cameras' frames"
        )
    prepared = out.with_suffix(".prepared.onnx")
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    nodes = [node for node in onnx.load(prepared).graph.node if node.op_type == "Conv"]
    head = max(int(node.name.split(".")[1].split("/")[0]) for node in nodes)
    quantization.quantize_static(
        str(prepared),
        str(out),
        _Frames(onnx.load(source).graph.input[0].name, blobs),
        op_types_to_quantize=["Conv"],
        nodes_to_exclude=[node.name for node in nodes if node.name.startswith(f"/model.{head}/")],
        per_channel=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
    )
    made, facts = onnx.load(out), onnx.load(source).metadata_props
    del made.metadata_props[:]
    made.metadata_props.extend(facts)
    onnx.save_model(made, str(out), save_as_external_data=False)
    return out


def _blobs(frames: Sequence[Path], size: tuple[int, int]) -> Iterator[np.ndarray[Any, Any]]:
    letterbox = Letterbox(size)
    for path in frames:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is not None:
            yield letterbox.blob(np.asarray(image, np.uint8))[0].copy()


class _Frames(quantization.CalibrationDataReader):  # type: ignore[misc]
    """The calibration frames, in the form in which ONNX Runtime asks for them."""

    def __init__(self, name: str, blobs: Sequence[np.ndarray[Any, Any]]) -> None:
        self._next = iter([{name: blob} for blob in blobs])

    def get_next(self) -> dict[str, np.ndarray[Any, Any]] | None:
        return next(self._next, None)
