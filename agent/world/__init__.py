"""A rendered street camera for demos, tests and benchmarks: `world:street?seed=1&day=0`.

Every frame is a pure function of the spec and its index. What stands in a frame is known exactly, but only to
`agent.world.truth`, which the agent never imports.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agent.world.light import Light, light_at
from agent.world.spec import Spec, SpecError, parse
from agent.world.stage import Placement, Stage
from agent.world.traffic import Traffic
from agent.world.view import HEIGHT, WIDTH

__all__ = ["MODEL", "STREET", "SpecError", "World"]

STREET = "street?seed=1"
"""The world that commands use where no source is given."""
MODEL = Path(__file__).with_name("model")
"""The bundle that was trained on it, which they use where no model is given."""

_LIGHT_STEP_H = 0.02


class World:
    """An endless street seen by a fixed camera.

    `spec` is the part after `world:`; a SpecError (a ValueError) says what is wrong with it.
    """

    def __init__(self, spec: str) -> None:
        self.spec: Spec = parse(spec)
        self._stage = Stage(self.spec.seed)
        self._traffic = Traffic(self.spec)

    @property
    def fps(self) -> float:
        """Frames per media second."""
        return self.spec.fps

    @property
    def size(self) -> tuple[int, int]:
        """Width and height (px)."""
        return WIDTH, HEIGHT

    def render(self, index: int) -> NDArray[np.uint8]:
        """Frame number `index` (from 0), HxWx3 BGR. The same for the same spec, in any order and in any process."""
        return self._stage.render(self._placements(index), self._light(index), self._shake(index), index)

    def _time(self, index: int) -> float:
        if index < 0:
            raise ValueError(f"frame {index}: a world starts at frame 0")
        return index / self.spec.fps

    def _placements(self, index: int) -> list[Placement]:
        return self._stage.props() + self._traffic.at(self._time(index))

    def _light(self, index: int) -> Light:
        hour = self.spec.hour(self._time(index))
        days = int((self.spec.start + self._time(index) / self.spec.day_s * 24.0) // 24.0)
        return light_at(self.spec.seed, self.spec.day + days, math.floor(hour / _LIGHT_STEP_H) * _LIGHT_STEP_H)

    def _shake(self, index: int) -> tuple[int, int]:
        time, seed = self._time(index), self.spec.seed
        gust = max(0.0, math.sin(time / 17.0 + seed) * math.sin(time / 5.3 + 2 * seed)) * self.spec.shake
        return round(2.0 * gust * math.sin(time * 9.1)), round(1.4 * gust * math.sin(time * 12.7 + 1.0))
