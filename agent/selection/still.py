"""Whether anything has moved since the model last looked: what spares a still scene the inference.

The picture becomes a grid of block means, and each block is compared with its own value in the last picture that the
model saw, so that slow changes add up. One block that differs by more than its own noise is enough: a person far away
covers one or two of the 4800 blocks. Noise is learned per block from frame to frame, since compression disturbs edges
and dark pictures more than a grey wall; it is capped, so that waving leaves cost inferences and never hide anybody.
Costs .15 ms at 768x432 and .3 ms at 1080p on one x86 core.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.records import Image

GRID = 80, 60
"""Blocks across and down: 8 pixels of a 640x480 picture, 24x18 of 1080p."""
_ROWS = 6
"""Lines of pixels per block that are looked at; averaging all of 1080p costs five times more."""
_LEAST, _MOST = 2.5, 7.0
"""Grey levels that a block must at least differ by, and that always are a change."""
_NOISES = 4.5
"""How many times its usual difference from one frame to the next (root mean square, the noisiest neighbour's) a block
must differ: compression leaves most blocks alone and now and then moves one."""
_LEARN = 0.05
_AROUND = np.ones((3, 3), np.uint8)


class Still:
    """The still scene of one camera."""

    def __init__(self) -> None:
        self._seen: NDArray[np.int16] | None = None
        """The grid of the last picture that was not still, and its time."""
        self._seen_t = 0.0
        self._last: NDArray[np.int16] | None = None
        self._noise = np.zeros(GRID[::-1], np.float32)
        """Mean square difference of each block from one frame to the next."""

    def holds(self, image: Image, t: float, longest_s: float) -> bool:
        """Whether the picture at `t` seconds shows what the last one did for which this was False.

        False after `longest_s` at the latest, and when time goes back.
        """
        grid = _grid(image)
        last, self._last = self._last, grid
        if last is None or self._seen is None or not 0 <= t - self._seen_t < longest_s:
            still = False
        else:
            limit = np.clip(_NOISES * np.sqrt(cv2.dilate(self._noise, _AROUND)), _LEAST, _MOST)
            self._learn(np.abs(grid - last).max(axis=2), limit)
            still = bool((np.abs(grid - self._seen).max(axis=2) <= limit).all())
        if not still:
            self._seen, self._seen_t = grid, t
        return still

    def _learn(self, change: NDArray[np.int16], limit: NDArray[np.floating]) -> None:
        """What moves teaches nothing about noise."""
        self._noise += _LEARN * (np.minimum(change, limit) ** 2 - self._noise)


def _grid(image: Image) -> NDArray[np.int16]:
    """Colours of the blocks, (60, 80, 3)."""
    step = max(1, image.shape[0] // (GRID[1] * _ROWS))
    return cv2.resize(image[::step], GRID, interpolation=cv2.INTER_AREA).astype(np.int16)
