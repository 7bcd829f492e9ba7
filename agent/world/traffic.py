"""Who passes when: arrivals drawn per block of ten seconds, so that any moment can be worked out by itself."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from agent.world import view
from agent.world.classes import FREQUENCY, KINDS, NAMES, TAIL
from agent.world.spec import Spec
from agent.world.stage import PHASES, Placement

BLOCK_S = 10.0
"""Arrivals are drawn per block of this length (media seconds)."""
_LONGEST_S = 50.0
_ARRIVALS_PER_S = 1.0
"""Arrivals per media second in the busiest hour at pace 1."""
_HEADWAY_S = 2.5
_LANE_SPEED = 11.0
_STRIDE_M = {"walk": 1.5, "corner": 1.2, "ride": 2.1, "drive": 4.0}
_SLOTS = 4
REACH: tuple[float, ...] = (0.7, 2.3, 1.1, 2.9, 1.0, 3.5, 1.3, 4.4, 0.9, 0.9, 2.1, 0.9, 1.8, 2.1)
"""Half the length of a thing with some room (m), per class."""
_STEP_S = 40.0


@dataclass(frozen=True)
class Track:
    """The way of one thing through the picture: times (s), foot points (px), straight between them."""

    cls: int
    instance: int
    look: int
    left: bool
    times: tuple[float, ...]
    xs: tuple[float, ...]
    rows: tuple[float, ...]

    def at(self, time: float) -> Placement:
        """Where it is at a media time within its span."""
        x = float(np.interp(time, self.times, self.xs))
        row = float(np.interp(time, self.times, self.rows))
        walked = (abs(x - self.xs[0]) + abs(row - self.rows[0])) / view.scale(row)
        phase = int(walked / _STRIDE_M[KINDS[self.cls].manner] * PHASES) % PHASES
        still = KINDS[self.cls].manner == "drive"
        return Placement(
            self.cls, self.instance, self.look, x, row, self.left, 0 if still else phase, parked=self.waits(time)
        )

    def waits(self, time: float) -> bool:
        """Whether a vehicle stands with its lights out (parked longer than a minute, more or less)."""
        step = int(np.searchsorted(self.times, time, side="right"))
        return self.instance >= PARKED and step == 3


PARKED = 2_000_000_000
"""First instance id of vehicles that come to park."""


def activity(hour: float) -> float:
    """How busy the street is at this hour of the day (0..1)."""
    morning = min(1.0, max(0.0, (hour - 5.5) / 2.5))
    evening = 1.0 - min(1.0, max(0.0, (hour - 19.5) / 4.0))
    return 0.07 + 0.93 * min(morning, evening)


class Traffic:
    """All tracks of one street and day."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self.arrivals = lru_cache(maxsize=64)(self._arrivals)
        self._stay = lru_cache(maxsize=64)(self._draw_stay)

    def at(self, time: float) -> list[Placement]:
        """Everything that moves, waits or is parked at a media time (s)."""
        last = math.floor(time / BLOCK_S)
        first = math.floor((time - _LONGEST_S) / BLOCK_S)
        found = [
            track.at(time)
            for block in range(first, last + 1)
            for track in self.arrivals(block)
            if track.times[0] <= time < track.times[-1]
        ]
        return found + self._parked(time)

    def _rng(self, *words: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence([self._spec.seed, self._spec.day, *words]))

    def _arrivals(self, block: int) -> tuple[Track, ...]:
        """The tracks that begin in one block of BLOCK_S seconds."""
        rng = self._rng(31, block + 100_000)
        begin = block * BLOCK_S
        stretch = math.floor(begin / _STEP_S)
        if self._rng(37, stretch + 100_000).random() < self._spec.still:
            return ()
        busy = _ARRIVALS_PER_S * BLOCK_S * self._spec.pace * activity(self._spec.hour(begin + BLOCK_S / 2))
        tracks: list[Track] = []
        taken: set[tuple[bool, int]] = set()
        for cls, share in enumerate(FREQUENCY):
            rate = busy * share * (self._spec.rare if cls in TAIL else 1.0)
            for _ in range(int(rng.poisson(rate))):
                instance = (block + 100_000) * 1000 + len(tracks)
                track = _drawn(rng, cls, instance, begin, taken)
                tracks += [track] if track else []
        return tuple(tracks)

    def _parked(self, time: float) -> list[Placement]:
        offset = self._rng(41).uniform(50, 120)
        found = []
        for slot in range(_SLOTS):
            length = float(self._rng(43, slot).uniform(150, 420)) / min(max(self._spec.pace, 0.05), 4.0)
            shifted = time + slot * 97.0 + length
            stay = math.floor(shifted / length)
            track = self._stay(slot, stay, float(offset), length)
            if track is not None and track.times[0] <= shifted - stay * length < track.times[-1]:
                found.append(track.at(shifted - stay * length))
        return found

    def _draw_stay(self, slot: int, stay: int, offset: float, length: float) -> Track | None:
        rng = self._rng(53, slot, stay + 100_000)
        if rng.random() > 0.62:
            return None
        cls = 1 if rng.random() < 0.82 else 3
        x = offset + slot * 165.0
        times = (0.0, 3.2, 4.5, length - 5.0, length - 3.7, length - 1.0)
        xs = (view.WIDTH + 120.0 + x * 0.4, x + 40.0, x, x, x - 50.0, -160.0)
        rows = (view.FAR_LANE, view.FAR_LANE, view.FAR_PARKING, view.FAR_PARKING, view.FAR_LANE, view.FAR_LANE)
        instance = PARKED + (stay + 100_000) * 10 + slot
        return Track(cls, instance, int(rng.integers(2**31)), True, times, xs, rows)


@dataclass(frozen=True)
class _Arrival:
    """Somebody who comes by: class, instance, look, direction, and when (s)."""

    cls: int
    instance: int
    look: int
    left: bool
    time: float

    def track(self, times: tuple[float, ...], xs: tuple[float, ...], rows: tuple[float, ...]) -> Track:
        return Track(self.cls, self.instance, self.look, self.left, times, xs, rows)

    def across(self, row: float, speed: float) -> Track:
        """From one side of the picture to the other on one row (px), at `speed` (m/s)."""
        margin = REACH[self.cls] * view.scale(row)
        xs = (view.WIDTH + margin, -margin) if self.left else (-margin, view.WIDTH + margin)
        return self.track((self.time, self.time + self.width(row) / speed), xs, (row, row))

    def width(self, row: float) -> float:
        """Width of the picture on this row with room for the thing on both sides (m)."""
        return view.WIDTH / view.scale(row) + 2.0 * REACH[self.cls]


def _drawn(
    rng: np.random.Generator, cls: int, instance: int, begin: float, taken: set[tuple[bool, int]]
) -> Track | None:
    """The track of one arrival in the block that begins at `begin`; None where its gap in the lane is taken."""
    look, left = int(rng.integers(2**31)), bool(rng.random() < 0.5)
    arrival = _Arrival(cls, instance, look, left, begin + float(rng.uniform(0, BLOCK_S)))
    manner = KINDS[cls].manner
    if manner == "drive":
        gap = int((arrival.time - begin) / _HEADWAY_S)
        if (left, gap) in taken:
            return None
        taken.add((left, gap))
        row = (view.FAR_LANE if left else view.NEAR_LANE) + float(rng.normal(0, 1.2))
        return replace(arrival, time=begin + gap * _HEADWAY_S).across(row, _LANE_SPEED)
    if manner == "ride":
        return _riding(rng, arrival)
    return _corner(rng, arrival) if manner == "corner" else _on_foot(rng, arrival)


def _riding(rng: np.random.Generator, arrival: _Arrival) -> Track:
    row = (view.FAR_EDGE if arrival.left else view.NEAR_EDGE) + float(rng.normal(0, 2))
    if arrival.cls not in TAIL:
        fast = arrival.cls == NAMES.index("motorcycle")
        return arrival.across(row, float(rng.uniform(9, 12) if fast else rng.uniform(4.5, 7)))
    if rng.random() < 0.4:
        return _corner(rng, arrival)
    return arrival.across(row, arrival.width(row) / float(rng.uniform(1.2, 1.9)))


def _corner(rng: np.random.Generator, arrival: _Arrival) -> Track:
    """Cuts a lower corner of the picture within two seconds."""
    margin, inside = REACH[arrival.cls] * 52.0, float(rng.uniform(110, 260))
    row, deep = float(rng.uniform(318, 330)), view.HEIGHT + 60.0 * REACH[arrival.cls] + 70.0
    xs = (view.WIDTH + margin, view.WIDTH - inside) if arrival.left else (-margin, inside)
    return arrival.track((arrival.time, arrival.time + float(rng.uniform(1.1, 2.0))), xs, (row, deep))


def _on_foot(rng: np.random.Generator, arrival: _Arrival) -> Track:
    dog = arrival.cls == NAMES.index("dog")
    speed = float(rng.uniform(1.3, 2.1)) * (1.4 if dog else 1.0)
    if not dog and rng.random() < 0.12:
        return _crossing(rng, arrival, speed)
    low, high = view.NEAR_WALK if rng.random() < 0.5 else view.FAR_WALK
    track = arrival.across(float(rng.uniform(low, high)), speed)
    return _waiting(rng, track) if rng.random() < 0.15 else track


def _crossing(rng: np.random.Generator, arrival: _Arrival, speed: float) -> Track:
    """Comes out of a door, crosses the street, and leaves on the near pavement; or the same way back."""
    x, time, step = float(rng.uniform(60, 580)), arrival.time, -30.0 if arrival.left else 30.0
    side = -60.0 if arrival.left else view.WIDTH + 60.0
    far, near = view.WALL + 4, view.NEAR_WALK[1]
    if rng.random() < 0.5:
        walk = abs(side - x - step) / (50.0 * speed)
        return arrival.track((time, time + 4.0, time + 4.0 + walk), (x, x + step, side), (far, near, near))
    start = view.WIDTH - side
    walk = abs(start - x) / (50.0 * speed)
    return arrival.track((time, time + walk, time + walk + 4.0), (start, x, x + step), (near, near, far))


def _waiting(rng: np.random.Generator, track: Track) -> Track:
    """Stops for some seconds on the way."""
    wait, share = float(rng.uniform(3, 12)), float(rng.uniform(0.2, 0.8))
    (begin, end), (first, last) = track.times, track.xs
    middle, x = begin + share * (end - begin), first + share * (last - first)
    times = (begin, middle, middle + wait, end + wait)
    return replace(track, times=times, xs=(first, x, x, last), rows=(track.rows[0],) * 4)
