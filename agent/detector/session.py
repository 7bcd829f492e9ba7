"""The detector: an ONNX Runtime session that was tried before it is handed out."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort

from agent.bundle import Bundle, Embedding, read_bundle
from agent.detector.coco import coco_counts
from agent.detector.graph import EXPORT_REMEDY, inspect
from agent.detector.letterbox import Blob, Letterbox, unfit
from agent.detector.postprocess import Layout, to_rows
from agent.errors import FrameError, ModelError
from agent.records import Image, ModelRef, Rows, Vector
from agent.settings import ModelSettings

log = logging.getLogger(__name__)

PROVIDERS = ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")
"""In order of preference; which of them are there depends on the onnxruntime that is installed."""
DEFAULT_ODDS = 2.2
"""Repair of confidences where no manifest says better: measured for YOLO26n on COCO."""


class Detector:
    """A YOLO detector that is loaded, checked and warm.

    One thread calls `detect`: its buffers are reused. `floor` may be changed between frames.
    """

    def __init__(
        self,
        source: Path | bytes,
        *,
        floor: float,
        threads: int = 0,
        providers: Sequence[str] = (),
        spinning: bool = False,
        cache: Path | None = None,
    ) -> None:
        """Load a bundle folder, a bare ONNX file or the bytes of one; raises ModelError.

        `floor`: lowest confidence of a row. `threads`: of one inference; 0 takes every physical core that this task may
        use, which measured fastest. `providers`: ONNX Runtime's names or their first word ("cuda"); empty takes the
        best that are there. `spinning`: threads wait busily between operators, a little faster at the price of a hot
        CPU. `cache`: folder for the engines that TensorRT builds; without it TensorRT is only used when asked for,
        because building takes minutes at every start; it runs in half precision, and was not tested on a Jetson.
        """
        bundle = read_bundle(source)
        self._where = "the model" if isinstance(source, bytes) else str(source)
        self.floor = floor
        self.threads = threads or usable_cores()
        chosen = _choose(providers, cache)
        self._session = _open(bundle, self._where, chosen, self.threads, spinning)
        self._graph = inspect(self._session, bundle, self._where)
        self.embedding: Embedding | None = self._graph.embedding
        """The model's extra output, where it has one."""
        self._outputs = [self._graph.output, *([self.embedding.name] if self.embedding else [])]
        self._letterbox = Letterbox(self._graph.size, stride=self._graph.stride, half=self._graph.half)
        self.manifest = bundle.manifest
        self.model = ModelRef(id=bundle.model_id, sha256=bundle.sha256)
        self._layout = self._try()

    @classmethod
    def from_settings(cls, settings: ModelSettings, *, cache: Path | None = None) -> Detector:
        """The detector that the configuration asks for."""
        return cls(
            settings.path,
            floor=settings.select_floor,
            threads=settings.threads,
            providers=settings.providers,
            cache=cache,
        )

    def detect(self, image: Image) -> Rows:
        """Rows (n, 6) at or above `floor` in pixels of `image`, clipped to it, highest confidence first.

        Raises FrameError for what is no image, ModelError where the model fails.
        """
        return self.look(image)[0]

    def look(self, image: Image) -> tuple[Rows, Vector | None]:
        """As `detect`, with the embedding of the frame where the model gives one."""
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise FrameError(
                f"an image of shape {image.shape} and type {image.dtype}", remedy="height x width x 3 bytes"
            )
        blob, place = self._letterbox.blob(image)
        output, embedding = self._run(blob)
        rows = to_rows(output, self._layout, self.floor)
        if len(rows) and rows[:, 5].max() >= len(self.classes):
            raise self._class_error(int(rows[:, 5].max()) + 1)
        unfit(rows[:, :4], place, image.shape[:2])
        return rows, embedding

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; a row's last column is an index into them."""
        return self._graph.classes

    @property
    def counts(self) -> tuple[int, ...] | None:
        """Labelled objects per class in the training set; None when unknown (COCO's own are known)."""
        return self.manifest.counts if self.manifest else coco_counts(self.classes)

    @property
    def odds(self) -> float:
        """What the odds of a confidence are multiplied by to repair it."""
        return self.manifest.calibration.odds if self.manifest else DEFAULT_ODDS

    @property
    def model_id(self) -> str:
        """The manifest's name of the model, else its file's."""
        return self.model.id

    @property
    def sha256(self) -> str:
        """Of the ONNX bytes that were loaded, 64 hex digits."""
        return self.model.sha256

    @property
    def providers(self) -> tuple[str, ...]:
        """Execution providers in use, the preferred one first."""
        return tuple(self._session.get_providers())

    @property
    def input_size(self) -> tuple[int, int]:
        """Width and height of the model's input in pixels; the largest ones where its shape is dynamic."""
        return self._graph.size[1], self._graph.size[0]

    def _run(self, blob: Blob) -> tuple[Rows, Vector | None]:
        """The output for one image, and its embedding."""
        try:
            output, *extra = self._session.run(self._outputs, {self._graph.input: blob})
        except Exception as error:  # noqa: BLE001 - ONNX Runtime's errors share no base of their own
            raise ModelError(f"{self._where} fails while it runs: {_first_line(error)}", remedy=EXPORT_REMEDY) from None
        return np.asarray(output[0], np.float32), np.asarray(extra[0][0], np.float32) if extra else None

    def _try(self) -> Layout:
        """Run the model once on noise: learn the output's layout, see that it is one of a detector, and warm up.

        An end-to-end output gives 300 rows even of noise, so it also shows whether there are more classes than names.
        """
        noise = np.random.default_rng(0).integers(0, 256, (*self._graph.size, 3), dtype=np.uint8)
        output, embedding = self._run(self._letterbox.blob(noise)[0])
        if embedding is not None and not np.isfinite(embedding).all():
            raise ModelError(f"{self._where} gives an embedding that is not finite", remedy=EXPORT_REMEDY)
        manifest_layout = self.manifest.output if self.manifest else None
        layout: Layout = manifest_layout or ("end2end" if output.shape[1] == 6 else "raw")
        if layout == "raw":
            if output.shape[0] != 4 + len(self.classes):
                likely = 4 < output.shape[0] < output.shape[1]
                raise self._class_error(output.shape[0] - 4) if likely else self._output_error(output)
            confidence = output[4:]
        else:
            if output.shape[1] != 6:
                raise self._output_error(output)
            if len(output) and output[:, 5].max() >= len(self.classes):
                raise self._class_error(int(output[:, 5].max()) + 1)
            confidence = output[:, 4]
        if not (np.isfinite(output).all() and confidence.min(initial=0) >= 0 and confidence.max(initial=0) <= 1):
            raise self._output_error(output)
        return layout

    def _output_error(self, output: Rows) -> ModelError:
        return ModelError(
            f"{self._where} gives {[1, *output.shape]} values that are not a detector's",
            remedy=f"[1,300,6] or [1,4+classes,n] with confidences from 0 to 1 is needed; {EXPORT_REMEDY}",
        )

    def _class_error(self, count: int) -> ModelError:
        return ModelError(
            f"{self._where} detects at least {count} classes and names {len(self.classes)}",
            remedy="the names in the ONNX metadata and in the manifest must be those that it was trained with",
        )


def usable_cores() -> int:
    """Physical cores among the CPUs that this task may use; at least 1.

    Two threads on one core's two hardware threads gain nothing in matrix products.
    """
    cores = set()
    for cpu in os.sched_getaffinity(0):
        try:
            cores.add(Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text("ascii"))
        except OSError:
            cores.add(str(cpu))
    return max(len(cores), 1)


def _choose(wanted: Sequence[str], cache: Path | None) -> list[tuple[str, dict[str, str]]]:
    """Providers with their options: those asked for, else the best that are there."""
    available = ort.get_available_providers()
    if not wanted:
        usable = (name for name in PROVIDERS if name in available)
        chosen = [name for name in usable if cache or name != "TensorrtExecutionProvider"]
    else:
        chosen = [_full_name(name, available) for name in wanted]
    options: dict[str, dict[str, str]] = {}
    if cache:
        engines = {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(cache), "trt_fp16_enable": "1"}
        options["TensorrtExecutionProvider"] = engines
    return [(name, options.get(name, {})) for name in chosen]


def _full_name(wanted: str, available: Sequence[str]) -> str:
    for name in available:
        if wanted.lower() in (name.lower(), name.lower().removesuffix("executionprovider")):
            return name
    names = ", ".join(name.removesuffix("ExecutionProvider").lower() for name in available)
    raise ModelError(f"this onnxruntime has no provider {wanted!r}", remedy=f"it has: {names}")


def _open(
    bundle: Bundle,
    where: str,
    providers: list[tuple[str, dict[str, str]]],
    threads: int,
    spinning: bool,
) -> ort.InferenceSession:
    """A session on the first of `providers` that starts; raises ModelError when none does.

    A GPU provider that is installed may still miss its libraries, and ONNX Runtime would then go on without a word.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors: what matters is raised or reported
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spinning else "0")
    options.add_session_config_entry("session.load_model_format", "ONNX")  # what was verified, no other format
    for at in range(len(providers)):
        try:
            # Its own fallback prints to standard output; its configuration from the model would override ours.
            session = ort.InferenceSession(
                bundle.onnx, options, providers=providers[at:], enable_fallback=0, read_config_from_model=0
            )
        except Exception as error:  # noqa: BLE001 - ONNX Runtime's errors share no base of their own
            reason = _first_line(error)
        else:
            if session.get_providers()[0] == providers[at][0]:
                return session
            reason = "it does not start here"
        if at + 1 < len(providers):
            log.warning("provider not usable", extra={"provider": providers[at][0], "error": reason})
    raise ModelError(f"{where} cannot be loaded: {reason}", remedy=EXPORT_REMEDY)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
