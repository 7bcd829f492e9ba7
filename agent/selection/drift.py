"""Whether a camera's world has changed: what the model says now against what it has said here before.

Four measures per camera: expected errors (eec), served detections, brightness, and the mix of classes. Each is
averaged over about `_RECENT` frames and compared with its own history, in units of how much such averages vary here.
Day, dusk and night have histories of their own: a lamp that is lit every evening is no drift. A drift raises the
canary rate for a while, so that its cause is sampled without bias, and then is the new normal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from agent.selection.scores import Evidence, Floats

MEASURES = ("eec", "detections", "brightness", "classes")
_LIGHTS = (40.0, 100.0)
"""Mean brightness, of 255, that parts night from dusk and dusk from day."""
_RECENT, _HISTORY = 300, 20_000
"""Frames over which the present and the past are averaged."""
_MATURE = 3_000
"""Frames of one light before its history is trusted."""
_ALARM = 6.0
"""Deviations that count as drift; a sustained 4 happens by chance about once a month at 5 frames a second."""
_RAISED, _RAISED_FRAMES, _QUIET_FRAMES = 2.0, 5_000, 50_000
"""Canary rate while raised, for how long, and how long no further alarm is given."""


@dataclass(slots=True)
class History:
    """A running mean of recent values, and how such means lie over the long run."""

    frames: int = 0
    recent: float = 0.0
    mean: float = 0.0
    variance: float = 0.0

    def add(self, value: float) -> None:
        self.frames += 1
        self.recent += (value - self.recent) / min(self.frames, _RECENT)
        if self.frames > _RECENT:
            weight = 1.0 / min(self.frames - _RECENT, _HISTORY)
            off = self.recent - self.mean
            if self.frames > _MATURE:
                # What deviates must not widen what counts as normal faster than it becomes normal.
                off = max(-3 * self._spread, min(3 * self._spread, off))
            self.mean += weight * off
            self.variance += weight * (off * off * (1 - weight) - self.variance)

    @property
    def deviation(self) -> float:
        """How far the present is off, in standard deviations of the past; 0 until there is a past."""
        if self.frames < _MATURE:
            return 0.0
        return (self.recent - self.mean) / self._spread

    @property
    def _spread(self) -> float:
        """Standard deviation of recent means, at least 5 % of their mean."""
        return max(math.sqrt(self.variance), 0.05 * abs(self.mean), 0.02)


@dataclass(slots=True)
class Drift:
    """The drift of one camera."""

    classes: int
    lights: list[dict[str, History]] = field(
        default_factory=lambda: [{name: History() for name in MEASURES} for _ in range(len(_LIGHTS) + 1)]
    )
    _mix: Floats = field(default_factory=lambda: np.zeros(0))
    _light: int = 0
    _raised: int = 0
    _quiet: int = 0

    def add(self, evidence: Evidence, thumb: Floats, serve: float) -> None:
        """Take in one frame that passed the gates."""
        brightness = float(thumb.mean())
        self._light = int(np.searchsorted(_LIGHTS, brightness))
        here = self.lights[self._light]
        here["eec"].add(evidence.eec)
        here["detections"].add(float(evidence.served))
        here["brightness"].add(brightness)
        if evidence.served:
            here["classes"].add(self._surprise(evidence.classes[evidence.confidence >= serve]))
        self._raised, self._quiet = max(0, self._raised - 1), max(0, self._quiet - 1)
        if not self._quiet and max(abs(value) for value in self.measures().values()) > _ALARM:
            self._raised, self._quiet = _RAISED_FRAMES, _QUIET_FRAMES

    @property
    def canary(self) -> float:
        """The factor on the canary rate now."""
        return _RAISED if self._raised else 1.0

    def measures(self) -> dict[str, float]:
        """Deviation per measure, in the present light."""
        return {name: round(history.deviation, 2) for name, history in self.lights[self._light].items()}

    def state(self) -> dict[str, Any]:
        """JSON-able; see `restore`."""
        lights = [
            {name: [h.frames, h.recent, h.mean, h.variance] for name, h in light.items()} for light in self.lights
        ]
        return {"lights": lights, "mix": [round(float(n), 3) for n in self._mix]}

    @classmethod
    def restore(cls, classes: int, state: Mapping[str, Any]) -> Drift:
        """What `state()` described, if it was of a model with as many classes."""
        drift = cls(classes)
        if len(state.get("mix", ())) == classes:
            drift._mix = np.array(state["mix"], np.float64)
            drift.lights = [{name: History(*h) for name, h in light.items()} for light in state["lights"]]
        return drift

    def _surprise(self, served: np.ndarray[Any, np.dtype[np.intp]]) -> float:
        """Mean surprise (nats) of the served classes, given how often each was served here; then they are counted."""
        if len(self._mix) != self.classes:
            self._mix = np.zeros(self.classes)
        share = (self._mix[served] + 1.0) / (self._mix.sum() + self.classes)
        np.add.at(self._mix, served, 1.0)
        if self._mix.sum() > _HISTORY:
            self._mix *= 0.5
        return float(-np.log(share).mean())
