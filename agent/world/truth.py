"""What really stands in a frame: for tests, benchmarks and training, never for the agent itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.world import World, view
from agent.world.classes import PROP
from agent.world.stage import Placement, Stage, in_order

_SOLID = 100
"""Opacity (0..255) from which a pixel belongs to a thing."""


@dataclass(frozen=True)
class Thing:
    """One object in one frame: box x1, y1, x2, y2 in px (clipped to the frame, hidden parts included), class id,
    instance id (the same in all frames), and the share 0..1 of its pixels that can be seen."""

    box: tuple[float, float, float, float]
    cls: int
    instance: int
    visibility: float


def truth(world: World | str, index: int) -> list[Thing]:
    """Everything of a class at least partly in frame `index`, far to near. `world` may be its spec."""
    world = World(world) if isinstance(world, str) else world
    return things(world._stage, world._placements(index), world._shake(index))


def things(stage: Stage, placements: Sequence[Placement], shake: tuple[int, int]) -> list[Thing]:
    """The truth of one composed picture."""
    order = in_order(placements)
    owner = np.full((view.HEIGHT, view.WIDTH), -1, np.int32)
    boxes: dict[int, tuple[tuple[float, float, float, float], int]] = {}
    for number, placement in enumerate(order):
        cut = stage.cut(placement)
        mask = cut.image[:, :, 3] >= _SOLID
        found = _inside(mask, cut.x - view.PAD - shake[0], cut.y - view.PAD - shake[1], owner, number)
        if found is not None and placement.cls != PROP:
            boxes[number] = found, int(mask.sum())
    seen = np.bincount(owner[owner >= 0].ravel(), minlength=len(order))
    return [
        Thing(box, order[number].cls, order[number].instance, float(seen[number]) / max(1, area))
        for number, (box, area) in boxes.items()
    ]


def _inside(
    mask: NDArray[np.bool_], x: int, y: int, owner: NDArray[np.int32], number: int
) -> tuple[float, float, float, float] | None:
    """Mark the pixels of a mask as owned by `number`; the box of its part within the frame, None if there is none."""
    height, width = owner.shape
    x0, y0 = max(x, 0), max(y, 0)
    x1, y1 = min(x + mask.shape[1], width), min(y + mask.shape[0], height)
    if x1 <= x0 or y1 <= y0:
        return None
    part = mask[y0 - y : y1 - y, x0 - x : x1 - x]
    columns, rows = np.flatnonzero(part.any(axis=0)), np.flatnonzero(part.any(axis=1))
    if not len(columns):
        return None
    owner[y0:y1, x0:x1][part] = number
    return float(x0 + columns[0]), float(y0 + rows[0]), float(x0 + columns[-1] + 1), float(y0 + rows[-1] + 1)
