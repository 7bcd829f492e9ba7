"""How fast this device is: the bare inference and the whole pipeline, alternately in one run.

The pipeline is the service's own loop 1: decoding in the camera's thread, mask, resizing, inference, selection, and for
what is picked JPEG and a durable spool in a temporary folder. Nothing is passed over and nothing is uploaded. Turns are
short and many, so that whatever else the machine does disturbs both alike; figures are medians over the turns.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np

from agent.camera import Cameras, is_live, open_cameras
from agent.clock import SystemClock
from agent.detector import Detector
from agent.health import Health, Sensors
from agent.records import Frame, Image, Rows, Vector
from agent.selection.scores import overlap
from agent.service import make_parts
from agent.settings import Settings, load
from agent.spool import Spool
from agent.watch import Parts, UnderWay, Watch
from agent.world import MODEL, STREET, World

TURN_S = 0.5
PICTURES = 32
"""Of the rendered street, kept as JPEGs: rendering is not what a camera costs."""
LIVE_FPS = 1000.0
"""Of a camera every frame is considered that it gives."""
_SETTINGS = {"frames_per_day": 0, "bytes_per_day": 0, "labels_per_day": 0, "still_s": 0.0}


@dataclass(frozen=True, slots=True)
class Speed:
    """What one model does on this device."""

    model: str
    threads: int
    providers: tuple[str, ...]
    raw_fps: float
    """Inferences per second, and nothing else."""
    fps: float
    """Frames per second through the pipeline."""
    ratio: float
    """Median over the turns of pipeline over raw, and the turns' quartiles."""
    ratio_spread: tuple[float, float]
    p50_ms: float
    p95_ms: float
    """Of one frame in the pipeline, from being taken to the end of selection."""
    select_ms: float
    """Selection, JPEG and spool, mean over all frames."""
    rss_mb: float
    turns: int

    def text(self) -> str:
        """For a person."""
        low, high = self.ratio_spread
        return "\n".join(
            [
                f"model {self.model}, {self.threads} threads, {', '.join(self.providers)}",
                f"raw inference {self.raw_fps} a second",
                f"pipeline {self.fps} a second, {self.ratio:.3f} of raw ({low:.3f} to {high:.3f} in the middle half of "
                f"{self.turns} turns)",
                f"a frame takes {self.p50_ms} ms (median), {self.p95_ms} ms (95th percentile)",
                f"selection, JPEG and spool take {self.select_ms} ms of it",
                f"memory {self.rss_mb} MB",
            ]
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """Another model next to the first, in the same turns and on the same frames."""

    model: str
    raw_fps: float
    speedup: float
    """Median over the turns of its rate over the first one's."""
    agreement: float
    """F1 of its served detections taken for the first one's, same class at IoU .5 or more; 1 where neither has any."""
    frames: int

    def text(self) -> str:
        """For a person."""
        return (
            f"{self.model}: {self.raw_fps} a second, {self.speedup:.2f} times as fast; agreement {self.agreement:.3f} "
            f"on {self.frames} frames"
        )


@dataclass(frozen=True, slots=True)
class Benchmark:
    """The answer of `tailkeeper bench`."""

    speed: Speed
    compared: Comparison | None

    def document(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self.speed) | ({"compared": asdict(self.compared)} if self.compared else {})

    def text(self) -> str:
        """For a person."""
        return "\n".join([self.speed.text(), *([self.compared.text()] if self.compared else [])])


def run_bench(
    *,
    source: str = "",
    model: Path | None = None,
    compare: Path | None = None,
    threads: int = 0,
    seconds: float = 20.0,
    stop: threading.Event,
    progress: Callable[[str], None] = lambda _: None,
) -> Benchmark:
    """Measure for about so many seconds or until `stop` is set; without `source` and `model`, what ships.

    Raises ConfigError, ModelError or CameraError for wrong input.
    """
    with tempfile.TemporaryDirectory(prefix="tailkeeper-bench-") as made:
        folder = Path(made)
        settings = _configuration(source or str(_street(folder / "street")), model or MODEL, threads, folder)
        detector = Detector.from_settings(settings.model)
        other = _alone(settings, compare) if compare else None
        with _pipeline(settings, detector, folder, PICTURES if other else 0) as pipeline:
            turns = max(3, round(seconds / (TURN_S * (3 if other else 2))))
            progress("warming up")
            pipeline.turn(TURN_S)
            rss_mb = Sensors(SystemClock()).rss_mb() or math.nan
            alone = _alone(settings, settings.model.path)
            rates = _alternate(alone, pipeline, other, turns, stop, progress)
            frames = pipeline.latest
        speed = _summary(detector, pipeline, rates, rss_mb)
        return Benchmark(speed, _compare(alone, other, rates, frames, settings) if other else None)


def _alone(settings: Settings, path: Path) -> Detector:
    """A model with all threads for one inference, as anybody would run it."""
    return Detector.from_settings(settings.model.model_copy(update={"path": path, "concurrency": 1}))


def _street(folder: Path) -> Path:
    folder.mkdir()
    world = World(STREET)
    for index in range(PICTURES):
        cv2.imwrite(str(folder / f"{index:03}.jpg"), world.render(index * 5))
    return folder


def _configuration(source: str, model: Path, threads: int, folder: Path) -> Settings:
    """The defaults for one camera at full speed, with no daily limits and every frame looked at."""
    fps = LIVE_FPS if is_live(source) else 0.0
    (folder / "none.toml").touch()
    return load(
        folder / "none.toml",
        environ={},
        command_line={
            "device": {"id": "bench", "state_dir": str(folder)},
            "cameras": {"bench": {"name": "bench", "source": source, "fps": fps, "loop": not is_live(source)}},
            "model": {"path": str(model), "threads": threads},
            "selection": _SETTINGS,
        },
    ).settings


class _Pipeline(Watch):
    """Loop 1 with a watch in its hand."""

    def __init__(self, cameras: Cameras, parts: Parts, spool: Spool, health: Health, keep: int) -> None:
        super().__init__(cameras, parts, keep=lambda _, item: spool.put(item), health=health, clock=SystemClock())
        self.frame_s: list[float] = []
        self.select_s = 0.0
        self.latest: list[Image] = []
        """Of the camera, for a comparison."""
        self._counters, self._keep_latest = health.counters, keep
        self._begun: deque[float] = deque()

    def turn(self, seconds: float) -> float:
        """Frames per second over about so many seconds; 0 where none came."""
        begun, before = time.perf_counter(), self._counters["frames"]
        while (elapsed := time.perf_counter() - begun) < seconds:
            self.step(seconds - elapsed)
        self._finish(0)
        return (self._counters["frames"] - before) / (time.perf_counter() - begun)

    def _begin(self, frame: Frame) -> None:
        self._begun.append(time.perf_counter())
        super()._begin(frame)

    def _judge(self, each: UnderWay) -> None:
        super()._judge(each)
        self.frame_s.append(time.perf_counter() - self._begun.popleft())

    def consider(self, frame: Frame, rows: Rows, embedding: Vector | None) -> None:
        begun = time.perf_counter()
        super().consider(frame, rows, embedding)
        self.select_s += time.perf_counter() - begun
        self.latest = [*self.latest, frame.image][-self._keep_latest :] if self._keep_latest else []


@contextlib.contextmanager
def _pipeline(settings: Settings, detector: Detector, folder: Path, keep: int) -> Iterator[_Pipeline]:
    clock = SystemClock()
    spool = Spool(folder / "spool", settings.spool, clock)
    spool.recover()
    with contextlib.closing(spool), contextlib.closing(open_cameras(settings.cameras, clock)) as cameras:
        yield _Pipeline(cameras, make_parts(settings, detector, clock), spool, Health(clock, folder), keep)


def _alternate(
    detector: Detector,
    pipeline: _Pipeline,
    other: Detector | None,
    turns: int,
    stop: threading.Event,
    progress: Callable[[str], None],
) -> list[tuple[float, float, float]]:
    """Frames per second of the model alone, of the pipeline and of the other model alone, per turn."""
    rates = []
    for turn in range(turns):
        rates.append((_raw(detector), pipeline.turn(TURN_S), _raw(other) if other else math.nan))
        progress(f"turn {turn + 1} of {turns}: raw {rates[-1][0]:.1f}, pipeline {rates[-1][1]:.1f} a second")
        if stop.is_set():
            break
    return rates


def _raw(detector: Detector) -> float:
    """Bare inferences per second."""
    infer = detector.bare()
    begun, done = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - begun) < TURN_S:
        infer()
        done += 1
    return done / elapsed


def _summary(detector: Detector, pipeline: _Pipeline, rates: list[tuple[float, float, float]], rss_mb: float) -> Speed:
    ratios = [fps / raw for raw, fps, _ in rates]
    p50, p95 = np.percentile(pipeline.frame_s or [math.nan], (50, 95)) * 1000
    low, high = np.percentile(ratios, (25, 75))
    return Speed(
        model=detector.model_id,
        threads=detector.threads,
        providers=detector.providers,
        raw_fps=round(median(raw for raw, _, _ in rates), 2),
        fps=round(median(fps for _, fps, _ in rates), 2),
        ratio=round(median(ratios), 3),
        ratio_spread=(round(float(low), 3), round(float(high), 3)),
        p50_ms=round(float(p50), 2),
        p95_ms=round(float(p95), 2),
        select_ms=round(pipeline.select_s * 1000 / max(1, len(pipeline.frame_s)), 3),
        rss_mb=rss_mb,
        turns=len(rates),
    )


def _compare(
    detector: Detector,
    other: Detector,
    rates: list[tuple[float, float, float]],
    frames: list[Image],
    settings: Settings,
) -> Comparison:
    hits = total = 0
    for image in frames:
        mine, theirs = (_served(each.detect(image), settings.model.serve_threshold) for each in (detector, other))
        hits += 2 * _matches(mine, theirs)
        total += len(mine) + len(theirs)
    return Comparison(
        model=other.model_id,
        raw_fps=round(median(rate for _, _, rate in rates), 2),
        speedup=round(median(rate / raw for raw, _, rate in rates), 3),
        agreement=round(hits / total, 4) if total else 1.0,
        frames=len(frames),
    )


def _served(rows: Rows, serve: float) -> Rows:
    return rows[rows[:, 4] >= serve]


def _matches(mine: Rows, theirs: Rows) -> int:
    """How many of `theirs` are one of `mine`: greedily, most confident first, each only once."""
    alike = (overlap(mine[:, :4], theirs[:, :4]) >= 0.5) & (mine[:, None, 5] == theirs[None, :, 5])
    matched = 0
    for row in alike:
        if row.any():
            alike[:, int(row.argmax())] = False
            matched += 1
    return matched
