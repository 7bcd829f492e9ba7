"""The canary lane: frames drawn by chance alone, with the chance kept; what is found in them speaks of all frames."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_Z = 1.959964
"""Of the normal distribution, for 95 %."""


def uniform(salt: str, frame: int, purpose: str) -> float:
    """A number in [0, 1) that is fixed by its arguments: a draw needs no state and depends on nothing before it."""
    text = f"{salt}|{frame}|{purpose}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "big") / 2.0**56


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over all frames with its 95 % interval."""

    mean: float
    low: float
    high: float


def estimate(values: Sequence[float], probabilities: Sequence[float]) -> Estimate | None:
    """Mean of a quantity per frame from canary frames: their values and the probabilities they were drawn with.

    Hajek's ratio estimator with its linearised variance, in Student's t for the few canaries there are (quantile after
    Cornish and Fisher). None for fewer than two frames.
    """
    n = len(values)
    if n < 2:
        return None
    y, weight = np.asarray(values, np.float64), 1.0 / np.asarray(probabilities, np.float64)
    mean = float((weight * y).sum() / weight.sum())
    residual = weight * (y - mean)
    thinning = 1.0 - 1.0 / weight
    spread = math.sqrt(float((thinning * residual**2).sum()) * n / (n - 1)) / float(weight.sum())
    margin = _student(n - 1) * spread
    return Estimate(mean, mean - margin, mean + margin)


def _student(freedom: int) -> float:
    z, n = _Z, freedom
    return z + (z**3 + z) / (4 * n) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
