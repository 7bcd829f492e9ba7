"""Numbers that threads share: counters, recent latencies, and when something last moved."""

from __future__ import annotations

import threading
from collections import Counter, deque

import numpy as np

from agent.clock import Clock

RECENT = 1024
"""Latencies kept: a few minutes of frames, so that percentiles speak of now and memory stays flat for a year."""


class Counters:
    """Named counters that only grow; any thread may add."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def add(self, name: str, n: int = 1) -> None:
        with self._lock:
            self._counts[name] += n

    def __getitem__(self, name: str) -> int:
        return self._counts[name]

    def snapshot(self) -> dict[str, int]:
        """All counters at one moment, sorted by name."""
        with self._lock:
            return dict(sorted(self._counts.items()))


class Latencies:
    """The most recent durations of one kind of work."""

    def __init__(self, recent: int = RECENT) -> None:
        self._seconds: deque[float] = deque(maxlen=recent)

    def add(self, seconds: float) -> None:
        self._seconds.append(seconds)

    def percentiles(self) -> dict[str, float | None]:
        """Median and 95th percentile in milliseconds, as ``{"p50": ..., "p95": ...}``; None before the first."""
        recent = list(self._seconds)
        if not recent:
            return {"p50": None, "p95": None}
        p50, p95 = np.percentile(recent, (50, 95)) * 1000
        return {"p50": round(float(p50), 2), "p95": round(float(p95), 2)}


class Pulse:
    """When something last made progress, on the monotonic clock; counts from its creation."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last_ns = clock.mono_ns()

    def beat(self) -> None:
        self._last_ns = self._clock.mono_ns()

    def age_s(self) -> float:
        return (self._clock.mono_ns() - self._last_ns) / 1e9
