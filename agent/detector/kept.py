"""The optimised graph of a model, kept for the next start.

It is made once per model, onnxruntime and kind of processor. Its file's name holds its own sha256, so that damage is
noticed when it is read; what is read is what is loaded, and a file that does not fit its name is thrown away.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import platform
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import onnxruntime as ort

from agent import durable

log = logging.getLogger(__name__)

KEEPER = "keep graph"
"""Name of the thread that gives an optimised graph its place in the folder."""
KEPT = 3
"""Graphs in the folder: of the model that runs, its predecessor and its successor."""


def start(
    make: Callable[[bytes], ort.InferenceSession],
    onnx: Callable[[], bytes],
    version: str,
    options: ort.SessionOptions,
    folder: Path,
) -> ort.InferenceSession:
    """`make` a session with these options of the model that `onnx` gives, or of its graph in `folder`.

    `version` tells the model from all others. The graph is kept on the way; where it cannot be, the model starts all
    the same.
    """
    name = hashlib.sha256("|".join((version, ort.__version__, _processor())).encode()).hexdigest()[:16]
    if (graph := _read(folder, name)) is not None:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        return make(graph)
    temporary = folder / f"{name}{durable.TEMPORARY}"
    try:
        durable.make_folder(folder)
        options.optimized_model_filepath = str(temporary)
        session = make(onnx())
    except Exception as error:  # noqa: BLE001 - a full disk, or what ONNX Runtime makes of it
        _not_kept(error)
        options.optimized_model_filepath = ""
        return make(onnx())
    Thread(target=_keep, args=(temporary, name), name=KEEPER).start()  # nobody waits for it
    return session


def _read(folder: Path, name: str) -> bytes | None:
    for path in folder.glob(f"{name}-*.onnx"):
        with contextlib.suppress(OSError):
            graph = path.read_bytes()
            if path.stem == f"{name}-{hashlib.sha256(graph).hexdigest()}":
                return graph
            log.warning("kept graph is damaged", extra={"path": str(path)})
            path.unlink()
    return None


def _keep(temporary: Path, name: str) -> None:
    """Give the file its name. Not durable on purpose: damage is noticed, and a start must not wait for the disk."""
    folder = temporary.parent
    try:
        temporary.rename(folder / f"{name}-{hashlib.sha256(temporary.read_bytes()).hexdigest()}.onnx")
        newest = sorted(folder.glob("*.onnx"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
        for path in newest[KEPT:]:
            path.unlink(missing_ok=True)
    except OSError as error:
        _not_kept(error)


def _not_kept(error: Exception) -> None:
    log.warning("optimised graph not kept", extra={"error": str(error)[:300]})


def _processor() -> str:
    """What the layout of an optimised graph depends on: the instruction set."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith(("flags", "Features")):
                return platform.machine() + line
    return platform.machine()
