"""Where pictures come from: one small interface, and what all sources share."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

from agent.records import Image


class Source(Protocol):
    """An opened camera or recording. One thread uses it.

    Stepping and decoding are apart, so that frames nobody considers cost as little as the source allows.
    """

    @property
    def name(self) -> str:
        """File name of the current picture, where it has one; else empty."""

    @property
    def spacing(self) -> float:
        """Media seconds from one picture to the next; 0 where unknown."""

    @property
    def skipped(self) -> int:
        """Pictures that could not be decoded so far."""

    def advance(self) -> float | None:
        """Step to the next picture: its time in seconds, media time of a recording or monotonic time of a live camera.

        None at the end of a recording; CameraError when a camera gives no more.
        """

    def image(self) -> Image | None:
        """Pixels of the current picture, in memory of their own; None when it cannot be decoded."""

    def close(self) -> None:
        """Let go of the device, connection, file or child."""


class Sampler:
    """Which pictures are considered: the first one in each span of 1/fps seconds; all of them at fps 0.

    Spans lie on a fixed grid of the source's own time line: a recording gives the same frames however fast it is read.
    """

    def __init__(self, fps: float) -> None:
        self.fps = fps
        self._span = -math.inf

    def considers(self, t: float) -> bool:
        """Whether the picture at `t` seconds is considered; times must not decrease."""
        if self.fps == 0:
            return True
        span = math.floor(t * self.fps + 1e-6)
        if span <= self._span:
            return False
        self._span = span
        return True

    def restart(self, fps: float) -> None:
        """Go on at another rate."""
        self.fps, self._span = fps, -math.inf


class Looped:
    """A recording that starts again at its end, on a time line that goes on."""

    def __init__(self, open_source: Callable[[], Source]) -> None:
        self._open = open_source
        self._source = open_source()
        self._offset = 0.0
        self._last = 0.0
        self._skipped = 0

    @property
    def name(self) -> str:
        return self._source.name

    @property
    def spacing(self) -> float:
        return self._source.spacing

    @property
    def skipped(self) -> int:
        return self._skipped + self._source.skipped

    def advance(self) -> float | None:
        t = self._source.advance()
        if t is None:
            self._skipped += self._source.skipped
            self._source.close()
            self._source = self._open()
            self._offset = self._last + self._source.spacing
            t = self._source.advance()
            if t is None:
                return None
        self._last = self._offset + t
        return self._last

    def image(self) -> Image | None:
        return self._source.image()

    def close(self) -> None:
        self._source.close()
