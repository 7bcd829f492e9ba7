"""Try a policy on a recording: the code path of `run` at virtual time, with nothing kept and nothing uploaded."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.camera import is_live, open_cameras
from agent.clock import SystemClock
from agent.detector import Detector
from agent.errors import ConfigError
from agent.health import Health
from agent.records import Candidate, Item
from agent.service import make_parts
from agent.settings import Settings, load
from agent.watch import Watch

UNLIMITED = {"frames_per_day": 0, "bytes_per_day": 0, "labels_per_day": 0}


@dataclass(frozen=True, slots=True)
class Replayed:
    """What the policy picked, in order, and what it cost beside the inference."""

    frames: int
    budget: float
    selected: list[dict[str, Any]]
    """Of each: index, name, camera, t (media seconds), lane, score, probability, reasons."""
    lanes: dict[str, int]
    bytes: int
    """Of the JPEGs that `run` would have spooled."""
    ms_per_frame: float
    """Wall milliseconds per considered frame, all of decoding, inference and selection."""

    def text(self) -> str:
        """For a person."""
        lines = [
            f"{row['index']:>7}  {row['lane']:<9} {row['score']:8.2f}  {row['name'] or row['t']}"
            for row in self.selected
        ]
        share = len(self.selected) / max(self.frames, 1)
        lanes = ", ".join(f"{lane} {n}" for lane, n in self.lanes.items()) or "nothing"
        lines.append(
            f"selected {len(self.selected)} of {self.frames} frames ({share:.1%}; budget {self.budget:.1%}): {lanes}"
        )
        return "\n".join(lines)


def replay(
    source: str,
    model: Path,
    *,
    config: Path | None = None,
    budget: float | None = None,
    fps: float | None = None,
    seed: int | None = None,
    stop: threading.Event,
    progress: Callable[[str], None] = lambda _: None,
) -> Replayed:
    """Run selection over a recording; what is not given comes from `config`, else from the defaults.

    Without `config` the daily limits are off. Raises ConfigError for a source that is no recording.
    """
    if is_live(source):
        raise ConfigError(f"{source} is a live camera", remedy="replay takes a video, a folder of images or world:...")
    settings = _configuration(source, model, config, budget, fps, seed)
    clock = SystemClock()
    health = Health(clock, Path())
    detector = Detector.from_settings(settings.model)
    parts = make_parts(settings, detector, clock)
    picked: list[Candidate] = []
    sizes: list[int] = []

    def keep(candidate: Candidate, item: Item) -> None:
        picked.append(candidate)
        sizes.append(len(item.image))

    with contextlib.closing(open_cameras(settings.cameras, clock, paced=False)) as cameras:
        watch = Watch(cameras, parts, keep=keep, health=health, clock=clock)
        begun = time.perf_counter()
        while not (watch.ended.is_set() or stop.is_set()):
            watch.step(1.0)
            progress(f"{health.counters['frames']} frames, {len(picked)} selected")
        watch.flush()
        elapsed = time.perf_counter() - begun
    frames = health.counters["frames"]
    return Replayed(
        frames=frames,
        budget=settings.selection.budget,
        selected=[_row(candidate) for candidate in picked],
        lanes=dict(Counter(candidate.lane for candidate in picked)),
        bytes=sum(sizes),
        ms_per_frame=round(elapsed * 1000 / max(frames, 1), 3),
    )


def _configuration(
    source: str, model: Path, config: Path | None, budget: float | None, fps: float | None, seed: int | None
) -> Settings:
    """The policy of `config`, or the defaults without daily limits, for one camera that is the recording."""
    known = load(config, environ=None if config else {}).settings.cameras
    like = next((camera for camera in known if camera.source == source), known[0] if len(known) == 1 else None)
    name = like.name if like else "replay"
    camera: dict[str, Any] = {"name": name, "source": source, "loop": False}
    selection: dict[str, Any] = {} if config else dict(UNLIMITED)
    selection |= {key: value for key, value in (("budget", budget), ("seed", seed)) if value is not None}
    if fps is not None:
        camera["fps"] = fps
    command_line = {"cameras": {name: camera}, "model": {"path": str(model)}, "selection": selection}
    settings = load(config, command_line=command_line).settings
    return settings.model_copy(update={"cameras": tuple(c for c in settings.cameras if c.name == name)})


def _row(candidate: Candidate) -> dict[str, Any]:
    frame = candidate.frame
    return {
        "index": frame.index,
        "name": frame.name,
        "camera": frame.camera,
        "t": round(frame.t, 6),
        "lane": candidate.lane,
        "score": round(candidate.score, 6),
        "probability": candidate.probability,
        "reasons": list(candidate.reasons),
    }
