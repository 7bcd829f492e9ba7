"""What canary draws with labels say of all frames: how often the model errs, and whether the world has changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agent.collector import read_label, read_meta
from agent.errors import ItemError
from agent.selection.canary import Estimate, estimate
from agent.selection.scores import overlap

SAME_IOU = 0.5
"""From this overlap on a served row and a drawn box of its class are one object, as in the evaluation of detectors."""
ENOUGH = 8
"""Canary draws on either side before a change is spoken of."""
_SURE = 3.0
"""Standard errors between then and now from which a change is called one."""


@dataclass(frozen=True, slots=True)
class Canary:
    """One canary draw."""

    at: float
    """Seconds since 1970."""
    chance: float
    """The probability with which it was drawn."""
    suspected: float
    """Errors that the model itself expects in it."""
    served: int
    """Objects that the model served."""
    missed: int | None = None
    wrong: int | None = None
    """Objects that a person drew and the model did not serve; and served that nobody drew. None without a label."""

    @property
    def errors(self) -> int | None:
        return None if self.missed is None or self.wrong is None else self.missed + self.wrong


def errors_of(store: Path, cid: str, revision: int) -> tuple[int, int] | None:
    """Missed and wrong objects of a labelled candidate; None where its files cannot be read.

    Served rows take drawn boxes greedily by confidence, each box once.
    """
    meta = read_meta(store, cid)
    try:
        drawn = read_label(store, cid, revision).boxes
    except ItemError:
        return None
    if meta is None:
        return None
    served = sorted((row for row in meta.detections if row.served), key=lambda row: -row.conf)
    if not served or not drawn:
        return len(drawn), len(served)
    ious = overlap(*(np.array([box.xyxy for box in boxes], np.float64) for boxes in (served, drawn)))
    ious *= [[row.name == box.name for box in drawn] for row in served]
    found = 0
    for mine in ious:  # a row of the matrix is one served object
        best = int(mine.argmax())
        if mine[best] >= SAME_IOU:
            found += 1
            ious[:, best] = -1.0
    return len(drawn) - found, len(served) - found


def error_rate(canaries: Sequence[Canary]) -> Estimate | None:
    """Errors per frame over all frames, from the draws among these that have labels."""
    checked = [canary for canary in canaries if canary.errors is not None]
    return estimate([float(c.errors or 0) for c in checked], [c.chance for c in checked])


def suspected(canaries: Sequence[Canary]) -> Estimate | None:
    """Errors per frame that the model itself expects, over all frames."""
    return estimate([c.suspected for c in canaries], [c.chance for c in canaries])


def served(canaries: Sequence[Canary]) -> Estimate | None:
    """Served objects per frame, over all frames."""
    return estimate([float(c.served) for c in canaries], [c.chance for c in canaries])


def considered(canaries: Sequence[Canary]) -> float:
    """How many frames the draws stand for (Horvitz and Thompson)."""
    return sum(1.0 / canary.chance for canary in canaries)


@dataclass(frozen=True, slots=True)
class Change:
    """A measure of one camera: in the first three quarters of its canary draws, and in the last."""

    then: Estimate
    now: Estimate

    @property
    def sure(self) -> bool:
        """Whether the two are further apart than chance explains (their intervals are about two standard errors)."""
        spread = ((self.then.high - self.then.low) ** 2 + (self.now.high - self.now.low) ** 2) ** 0.5 / 4
        return bool(abs(self.now.mean - self.then.mean) > max(_SURE * spread, 1e-9))


def changes(canaries: Sequence[Canary]) -> dict[str, Change]:
    """What the model expects and serves, then and now; empty while there are too few draws."""
    ordered = sorted(canaries, key=lambda canary: canary.at)
    cut = len(ordered) * 3 // 4
    if len(ordered) - cut < ENOUGH:
        return {}
    found = {}
    for name, measure in (("expected errors", suspected), ("objects", served)):
        then, now = measure(ordered[:cut]), measure(ordered[cut:])
        if then and now:
            found[name] = Change(then, now)
    return found
