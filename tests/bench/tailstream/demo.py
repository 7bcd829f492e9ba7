"""Streams of the demo world: its pictures, and the exact truth that only tests and benchmarks may see."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from agent.world import World
from agent.world.truth import truth
from tests.bench.tailstream.shot import FPS, Shot

_VISIBLE = 0.4
_SMALL = 0.012


class Demo:
    """One street for one of its days, which lasts 300 media seconds."""

    def __init__(self, name: str, frames: int, seed: int) -> None:
        self.name, self._frames = name, frames
        self._world = World(f"street?seed={seed}&day={seed}&start=10&day_s=300")
        self._ids: dict[int, int] = {}
        """The world's instances, numbered anew: its own numbers are too large for the table's 24 bits."""

    def __len__(self) -> int:
        return self._frames

    def shots(self) -> Iterator[Shot]:
        step = self._world.fps / FPS
        for frame in range(self._frames):
            index = round(frame * step)
            yield Shot(self._world.render(index), self._truth(index), 0, (0.0, 0.0, 1.0))

    def _truth(self, index: int) -> NDArray[np.float32]:
        width, height = self._world.size
        table = np.zeros((0, 7), np.float32)
        for thing in truth(self._world, index):
            x1, y1, x2, y2 = thing.box
            box = x1 / width, y1 / height, x2 / width, y2 / height
            hidden = thing.visibility < _VISIBLE or min(box[2] - box[0], box[3] - box[1]) < _SMALL
            instance = self._ids.setdefault(thing.instance, len(self._ids))
            table = np.vstack([table, np.array([instance, thing.cls, *box, hidden], np.float32)])
        return table
