"""Training frames: independent moments of many streets, each with more objects than a street shows on average."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.world import view
from agent.world.classes import FREQUENCY, KINDS, TAIL
from agent.world.light import light_at
from agent.world.stage import PHASES, Placement, Stage
from agent.world.traffic import REACH
from agent.world.truth import Thing, things

_LANES = (view.FAR_LANE, view.NEAR_LANE, view.FAR_PARKING)


@dataclass(frozen=True, eq=False)
class Moment:
    """One picture (360x640x3 BGR) and everything in it."""

    image: NDArray[np.uint8]
    things: list[Thing]


def moments(seed: int, count: int, objects: float = 7.5) -> Iterator[Moment]:
    """`count` moments of the street of this seed, with `objects` things on average, classes by their frequency."""
    stage = Stage(seed)
    for index in range(count):
        rng = np.random.default_rng(np.random.SeedSequence([seed, index, 71]))
        placements = stage.props() + _cast(rng, 1 + int(rng.poisson(objects - 1.0)))
        hour = float(rng.uniform(6.0, 19.0) if rng.random() < 0.7 else rng.uniform(19.0, 30.0)) % 24.0
        light = light_at(seed, index, hour)
        shake = (int(rng.integers(-3, 4)), int(rng.integers(-2, 3)))
        yield Moment(
            stage.render(placements, light, shake, int(rng.integers(10_000))), things(stage, placements, shake)
        )


def _cast(rng: np.random.Generator, count: int) -> list[Placement]:
    found: list[Placement] = []
    taken: list[tuple[float, float, float]] = []
    for number, cls in enumerate(rng.choice(len(KINDS), count, p=FREQUENCY)):
        for _ in range(6):
            placement = _somewhere(rng, int(cls), number)
            half = REACH[placement.cls] * view.scale(placement.row) * 0.75
            if all(abs(placement.x - x) > half + other or abs(placement.row - row) > 12 for x, row, other in taken):
                found.append(placement)
                taken.append((placement.x, placement.row, half))
                break
    return found


def _somewhere(rng: np.random.Generator, cls: int, instance: int) -> Placement:
    manner, left = KINDS[cls].manner, bool(rng.random() < 0.5)
    margin = REACH[cls] * 30.0
    x = float(rng.uniform(-margin, view.WIDTH + margin))
    parked = False
    if manner == "drive":
        lane = int(rng.choice(3, p=(0.35, 0.35, 0.3))) if cls in (1, 3) else int(rng.integers(2))
        row, left, parked = _LANES[lane] + float(rng.normal(0, 2)), lane != 1, lane == 2
    elif manner == "ride" and not (cls in TAIL and rng.random() < 0.4):
        row = (view.FAR_EDGE if left else view.NEAR_EDGE) + float(rng.normal(0, 3))
    elif manner in ("ride", "corner"):
        row = float(rng.uniform(318, 400))
        x = float(rng.uniform(-40, 240))
        x = view.WIDTH - x if left else x
    else:
        low, high = (view.NEAR_WALK, view.FAR_WALK, (view.FAR_WALK[0], view.NEAR_WALK[1]))[
            int(rng.choice(3, p=(0.45, 0.45, 0.1)))
        ]
        row = float(rng.uniform(low, high))
    phase = 0 if manner == "drive" else int(rng.integers(PHASES))
    return Placement(cls, instance, int(rng.integers(2**31)), x, row, left, phase, parked=parked)
