"""The detector: an ONNX Runtime session that was tried before it is handed out."""

from __future__ import annotations

import queue
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agent.bundle import Embedding, read_bundle
from agent.detector.coco import coco_counts
from agent.detector.graph import EXPORT_REMEDY, inspect
from agent.detector.letterbox import Fit, Letterbox, unfit
from agent.detector.opening import choose, first_line, open_session, share_threads, usable_cores
from agent.detector.postprocess import Layout, to_rows
from agent.errors import FrameError, ModelError
from agent.records import Image, ModelRef, Rows, Vector
from agent.settings import ModelSettings

SWITCH_S = 0.0001
"""How long a thread that comes back from an inference waits for Python at most, while another one computes. With
Python's own 5 ms the pipeline does 3 % fewer frames."""
DEFAULT_ODDS = 2.2
"""Repair of confidences where no manifest says better: measured for YOLO26n on COCO."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the model saw in one image."""

    rows: Rows
    embedding: Vector | None
    """Of the image as a whole, where the model gives one."""
    seconds: float
    """From the image to its rows."""


class Detector:
    """A YOLO detector that is loaded, checked and warm.

    `detect` and `look` answer in the caller's thread, `begin` in threads of the detector's own, `concurrency` images at
    once. `floor` may be changed between frames.
    """

    def __init__(
        self,
        source: Path | bytes,
        *,
        floor: float,
        threads: int = 0,
        concurrency: int = 1,
        providers: Sequence[str] = (),
        spin_us: int = ModelSettings().spin_us,
        cache: Path | None = None,
    ) -> None:
        """Load a bundle folder, a bare ONNX file or the bytes of one; raises ModelError.

        `floor`: lowest confidence of a row. `threads`: of the model altogether; 0 takes every physical core that this
        task may use, which measured fastest. `concurrency`: inferences at once, which share the threads; 0 takes what
        measured fastest, see `opening`. `providers`: ONNX Runtime's names or their first word ("cuda"); empty takes the
        best that are there. `spin_us`: how long threads wait busily, see `opening`. `cache`: folder for optimised
        graphs and for the engines that TensorRT builds; without it TensorRT is only used when asked for, because
        building takes minutes at every start; it runs in half precision, and was not tested on a Jetson.
        """
        sys.setswitchinterval(SWITCH_S)
        bundle = read_bundle(source)
        self._where = "the model" if isinstance(source, bytes) else str(source)
        self.floor = floor
        self.threads = threads or usable_cores()
        chosen = choose(providers, cache)
        self.concurrency, each = share_threads(self.threads, concurrency, chosen)
        self._session = open_session(bundle, self._where, chosen, each, spin_us, cache)
        self._graph = inspect(self._session, bundle, self._where)
        self.embedding: Embedding | None = self._graph.embedding
        """The model's extra output, where it has one."""
        self._outputs = [self._graph.output, *([self.embedding.name] if self.embedding else [])]
        self._letterboxes: queue.LifoQueue[Letterbox] = queue.LifoQueue()
        """One per inference at once: its buffers are the inference's."""
        for _ in range(self.concurrency):
            self._letterboxes.put(Letterbox(self._graph.size, stride=self._graph.stride, half=self._graph.half))
        self._pool = ThreadPoolExecutor(self.concurrency, thread_name_prefix="infer")
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
            concurrency=settings.concurrency,
            providers=settings.providers,
            spin_us=settings.spin_us,
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
        output, embedding, place = self._infer(image)
        rows = to_rows(output, self._layout, self.floor)
        if len(rows) and rows[:, 5].max() >= len(self.classes):
            raise self._class_error(int(rows[:, 5].max()) + 1)
        unfit(rows[:, :4], place, image.shape[:2])
        return rows, embedding

    def begin(self, image: Image) -> Future[Seen]:
        """Have one of the detector's own threads look at an image; what `look` raises is raised by the result."""
        return self._pool.submit(self._see, image)

    def bare(self) -> Callable[[], object]:
        """The inference alone on one unchanging input: what everything around it is compared with."""
        blob = np.full((1, 3, *self._graph.size), 0.5, np.float16 if self._graph.half else np.float32)
        return lambda: self._session.run(self._outputs, {self._graph.input: blob})

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; a row's last column is an index into them."""
        return self._graph.classes

    @property
    def layout(self) -> Layout:
        """What its output looks like: `end2end` or `raw`."""
        return self._layout

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

    def _see(self, image: Image) -> Seen:
        begun = time.perf_counter()
        rows, embedding = self.look(image)
        return Seen(rows, embedding, time.perf_counter() - begun)

    def _infer(self, image: Image) -> tuple[Rows, Vector | None, Fit]:
        """The output for one image, its embedding, and where it lay in the input."""
        letterbox = self._letterboxes.get()
        try:
            blob, place = letterbox.blob(image)
            output, *extra = self._session.run(self._outputs, {self._graph.input: blob})
        except Exception as error:  # noqa: BLE001 - ONNX Runtime's errors share no base of their own
            raise ModelError(f"{self._where} fails while it runs: {first_line(error)}", remedy=EXPORT_REMEDY) from None
        finally:
            self._letterboxes.put(letterbox)
        return np.asarray(output[0], np.float32), np.asarray(extra[0][0], np.float32) if extra else None, place

    def _try(self) -> Layout:
        """Run the model once on noise: learn the output's layout, see that it is one of a detector, and warm up.

        An end-to-end output gives 300 rows even of noise, so it also shows whether there are more classes than names.
        """
        noise = np.resize(np.random.default_rng(0).integers(0, 256, 65_521, dtype=np.uint8), (*self._graph.size, 3))
        output, embedding, _ = self._infer(noise)
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
