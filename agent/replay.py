"""Try a policy on a recording: the code path of `run` at virtual time, with nothing kept and nothing uploaded."""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agent.camera import Cameras, is_live, open_cameras
from agent.clock import Clock, SystemClock
from agent.detector import Detector
from agent.errors import ConfigError
from agent.health import Health
from agent.records import Candidate, Frame, Item, Rows, Vector
from agent.service import make_parts
from agent.settings import Settings, load
from agent.watch import Parts, Watch

UNLIMITED = {"frames_per_day": 0, "bytes_per_day": 0, "labels_per_day": 0}


@dataclass(frozen=True, slots=True)
class Replayed:
    """What the policy picked, in order, and what it cost beside the inference."""

    frames: int
    budget: float
    selected: list[dict[str, Any]]
    """Of each: index, name, camera, t (media seconds), lane, score, probability, reasons."""
    lanes: dict[str, int]
    classes: dict[str, int]
    """Served detections in the selected frames, by class, most frequent first."""
    bytes: int
    """Of the JPEGs that `run` would have spooled, as encoded."""
    ms_per_frame: float
    """Wall milliseconds per considered frame, all of decoding, inference and selection."""

    def text(self) -> str:
        """For a person."""
        lines = [
            f"{row['index']:>7}  {row['lane']:<9} {row['score']:8.2f}  {row['name'] or row['t']}"
            for row in self.selected
        ]
        lines.append(
            f"selected {len(self.selected)} of {self.frames} frames ({self._share}; budget {self.budget:.1%}): "
            f"{_listed(self.lanes)}"
        )
        return "\n".join(lines)

    def document(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)

    def column(self) -> list[str]:
        """The figures that a comparison shows: frames, share, budget, bytes, lanes, classes."""
        figures = [str(len(self.selected)), self._share, f"{self.budget:.1%}", f"{self.bytes:,}"]
        return [*figures, _listed(self.lanes), _listed(dict(list(self.classes.items())[:8]))]

    @property
    def _share(self) -> str:
        return f"{len(self.selected) / max(self.frames, 1):.1%}"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {n}" for name, n in counts.items()) or "nothing"


@dataclass(frozen=True, slots=True)
class Compared:
    """Two policies on one recording."""

    a: Replayed
    b: Replayed
    names: tuple[str, str]
    """Where the two come from."""

    @property
    def only(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """What A took and B did not, and the other way round, as in `Replayed.selected`, by time."""
        a, b = ({row["index"]: row for row in one.selected} for one in (self.a, self.b))
        return [a[i] for i in sorted(a.keys() - b)], [b[i] for i in sorted(b.keys() - a)]

    def document(self) -> dict[str, Any]:
        """JSON-able: a and b as `replay` gives them, each with its config; only_a, only_b; the number of both."""
        only_a, only_b = self.only
        a, b = ({"config": name, **one.document()} for name, one in zip(self.names, (self.a, self.b), strict=True))
        return {"a": a, "b": b, "only_a": only_a, "only_b": only_b, "both": len(a["selected"]) - len(only_a)}

    def text(self) -> str:
        """For a person: a table, then what only one of them took."""
        only_a, only_b = self.only
        rows = [
            ["", *self.names],
            *map(list, zip(_FIGURES, self.a.column(), self.b.column(), strict=True)),
            ["only here", str(len(only_a)), str(len(only_b))],
        ]
        widths = [max(len(row[i]) for row in rows) for i in range(2)]
        lines = [f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]}" for row in rows]
        for name, only in zip(self.names, (only_a, only_b), strict=True):
            if only:
                lines += [f"only {name}:", *(f"  {row['lane']:<9} {row['name'] or row['t']}" for row in only)]
        return "\n".join(lines)


_FIGURES = ("selected", "share of frames", "budget", "bytes, encoded", "lanes", "objects served")


class _Policy:
    """A policy at work on a recording: its own loop 1 and what that kept."""

    def __init__(self, settings: Settings, parts: Parts, cameras: Cameras, clock: Clock, second: Watch | None) -> None:
        self.settings = settings
        self.health = Health(clock, Path())
        self.picked: list[Candidate] = []
        self.sizes: list[int] = []
        self.watch = _Pass(cameras, parts, keep=self._keep, health=self.health, clock=clock)
        self.watch.second = second
        self._classes = parts.detector.classes

    def _keep(self, candidate: Candidate, item: Item) -> None:
        self.picked.append(candidate)
        self.sizes.append(len(item.image))

    def outcome(self, frames: int, elapsed: float) -> Replayed:
        serve = self.settings.model.serve_threshold
        served = Counter(
            self._classes[int(c)]
            for one in self.picked
            for *_, confidence, c in one.rows.tolist()
            if confidence >= serve
        )
        return Replayed(
            frames=frames,
            budget=self.settings.selection.budget,
            selected=[_row(candidate) for candidate in self.picked],
            lanes=dict(Counter(candidate.lane for candidate in self.picked)),
            classes=dict(served.most_common()),
            bytes=sum(self.sizes),
            ms_per_frame=round(elapsed * 1000 / max(frames, 1), 3),
        )


class _Pass(Watch):
    """Loop 1, whose frames and rows a second loop gets to judge as well: one pass of the model for two policies."""

    second: Watch | None = None
    _passed = False, True

    def moves(self, frame: Frame) -> bool:
        """The model looks when either policy wants it to."""
        return any([super().moves(frame), self.second is not None and self.second.moves(frame)])

    def pass_over(self, frame: Frame) -> bool:
        """What the model has looked at, each policy is told if it wants to know."""
        self._passed = super().pass_over(frame), self.second is None or self.second.pass_over(frame)
        return all(self._passed)

    def consider(self, frame: Frame, rows: Rows, embedding: Vector | None) -> None:
        mine, other = self._passed
        if not mine:
            super().consider(frame, rows, embedding)
        if self.second and not other:
            self.second.consider(frame, rows, embedding)

    def flush(self) -> None:
        super().flush()
        if self.second:
            self.second.flush()


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
    settings = _configuration(source, model, config, budget, fps, seed)
    (one,) = _replay([settings], stop, progress)
    return one


def compare(
    source: str,
    model: Path,
    configs: tuple[Path, Path],
    *,
    budget: float | None = None,
    fps: float | None = None,
    seed: int | None = None,
    stop: threading.Event,
    progress: Callable[[str], None] = lambda _: None,
) -> Compared:
    """Run the policies of two config files over a recording, with one pass of the model for both.

    A policy without a seed of its own gets the other's, so that chance alone tells them apart nowhere. Raises
    ConfigError where the two would look at different pictures: another fps, other masks.
    """
    pair = [_configuration(source, model, config, budget, fps, seed) for config in configs]
    (first,), (second,) = (settings.cameras for settings in pair)
    for key in ("fps", "masks", "schedule"):
        if getattr(first, key) != getattr(second, key):
            remedy = "give one with --fps" if key == "fps" else "make it the same in both files"
            raise ConfigError(
                f"{configs[0]} and {configs[1]} differ in the camera's {key}: one pass cannot serve both",
                remedy=remedy,
            )
    chosen = next((s.selection.seed for s in pair if s.selection.seed), 0) or secrets.randbits(31) + 1
    a, b = _replay([_aligned(settings, first.name, chosen) for settings in pair], stop, progress)
    return Compared(a, b, (str(configs[0]), str(configs[1])))


def _aligned(settings: Settings, name: str, seed: int) -> Settings:
    """The settings with their camera called `name`, and with `seed` where they leave it to chance."""
    selection = settings.selection.model_copy(update={"seed": settings.selection.seed or seed})
    cameras = tuple(camera.model_copy(update={"name": name}) for camera in settings.cameras)
    return settings.model_copy(update={"cameras": cameras, "selection": selection})


def _replay(policies: Sequence[Settings], stop: threading.Event, progress: Callable[[str], None]) -> list[Replayed]:
    """One pass over the recording; the last of the policies leads."""
    clock = SystemClock()
    detector = Detector.from_settings(policies[0].model)
    parts = [make_parts(settings, detector, clock) for settings in policies]
    detector.floor = min(settings.model.select_floor for settings in policies)
    with contextlib.closing(open_cameras(policies[0].cameras, clock, paced=False)) as cameras:
        trials: list[_Policy] = []
        for settings, its in zip(policies, parts, strict=True):
            trials.append(_Policy(settings, its, cameras, clock, trials[-1].watch if trials else None))
        leader = trials[-1]
        begun = time.perf_counter()
        while not (leader.watch.ended.is_set() or stop.is_set()):
            leader.watch.step(1.0)
            picked = " and ".join(str(len(trial.picked)) for trial in trials)
            progress(f"{leader.health.counters['frames']} frames, {picked} selected")
        leader.watch.flush()
        elapsed = time.perf_counter() - begun
    return [trial.outcome(leader.health.counters["frames"], elapsed) for trial in trials]


def _configuration(
    source: str, model: Path, config: Path | None, budget: float | None, fps: float | None, seed: int | None
) -> Settings:
    """The policy of `config`, or the defaults without daily limits, for one camera that is the recording."""
    if is_live(source):
        raise ConfigError(f"{source} is a live camera", remedy="replay takes a video, a folder of images or world:...")
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
