"""The optimised graph of a model, kept for the next start.

It is made once per model, onnxruntime and kind of processor. Its file's name holds its own sha256, so that damage is
noticed when it is read; what is read is what is loaded, and a file that does not fit its name is thrown away.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import platform
from pathlib import Path

import onnxruntime as ort

from agent import durable

log = logging.getLogger(__name__)

KEPT = 3
"""Graphs in the folder: of the model that runs, its predecessor and its successor."""


def optimised(onnx: bytes, sha256: str, folder: Path) -> bytes | None:
    """The optimised graph of the model with these bytes and sha256; None where it can neither be read nor made."""
    name = hashlib.sha256("|".join((sha256, ort.__version__, _processor())).encode()).hexdigest()[:16]
    for path in folder.glob(f"{name}-*.onnx"):
        with contextlib.suppress(OSError):
            graph = path.read_bytes()
            if path.stem == f"{name}-{hashlib.sha256(graph).hexdigest()}":
                return graph
            log.warning("kept graph is damaged", extra={"path": str(path)})
            path.unlink()
    try:
        return _make(onnx, name, folder)
    except Exception as error:  # noqa: BLE001 - a full disk, or what ONNX Runtime makes of it: the start goes on without
        log.warning("optimised graph not kept", extra={"error": str(error)[:300]})
        return None


def _make(onnx: bytes, name: str, folder: Path) -> bytes:
    durable.make_folder(folder)
    temporary = folder / f"{name}{durable.TEMPORARY}"
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # it warns that the graph is for this kind of processor
    options.optimized_model_filepath = str(temporary)
    ort.InferenceSession(onnx, options, providers=["CPUExecutionProvider"], read_config_from_model=0)
    graph = temporary.read_bytes()
    temporary.unlink()
    durable.write(folder / f"{name}-{hashlib.sha256(graph).hexdigest()}.onnx", graph)
    newest = sorted(folder.glob("*.onnx"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for path in newest[KEPT:]:
        path.unlink(missing_ok=True)
    return graph


def _processor() -> str:
    """What the layout of an optimised graph depends on: the instruction set."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith(("flags", "Features")):
                return platform.machine() + line
    return platform.machine()
