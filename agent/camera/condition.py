"""How a camera is doing, from what its pictures look like and when they came."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal

from agent.records import Image

State = Literal["starting", "live", "stalled", "frozen", "dark", "off", "ended"]
"""Frozen: the same picture again and again. Dark: black, as with a covered lens. Off: outside its schedule."""

DARK = 8
"""Mean grey value below which a picture is black: sensors show noise above it even at night."""
_GRID = 24
_RATE_FRAMES = 32


@dataclass(frozen=True, slots=True)
class Health:
    """Snapshot of one camera for status and stats."""

    state: State
    fps: float
    """Considered frames per second, lately."""
    frame_age_s: float | None
    """Since the newest frame that was not a repetition; None before the first one."""
    reconnects: int
    dropped: int
    """Considered frames that a newer one replaced before anyone took them."""
    skipped: int
    """Pictures that could not be decoded."""
    error: str
    """Why it is stalled; empty otherwise. Holds no password."""


class Sight:
    """Looks at every considered frame: repetition, darkness, rate. Costs a sparse grid of pixels per frame."""

    def __init__(self) -> None:
        self._grid = b""
        self._times: deque[float] = deque(maxlen=_RATE_FRAMES)
        self.newest: float | None = None
        """Monotonic seconds of the newest frame that differed from the one before it."""
        self.frozen = False
        self.dark = False

    def see(self, image: Image, now: float) -> None:
        """Take in a considered frame at monotonic `now` seconds. A live sensor never gives the same pixels twice."""
        height, width = image.shape[:2]
        sparse = image[:: max(1, height // _GRID), :: max(1, width // _GRID)]
        grid = sparse.tobytes()
        self.frozen = grid == self._grid
        self.dark = bool(sparse.mean() < DARK)
        self._grid = grid
        self._times.append(now)
        if not self.frozen:
            self.newest = now

    def fps(self, now: float) -> float:
        """Considered frames per second over the last ones; falls towards 0 when none come."""
        if len(self._times) < 2:
            return 0.0
        return len(self._times) / max(now - self._times[0], 1e-9)
