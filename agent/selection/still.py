"""Whether anything has moved since the model last looked: what spares a still scene the inference.

The picture becomes a grid of block means, and each block is compared with its own value in the last picture that the
model saw, so that slow changes add up. One block that differs by more than its own noise is enough: a person far away
covers one or two of the 4800 blocks. Noise is learned per block from frame to frame, since compression disturbs edges
and dark pictures more than a grey wall; it is capped, so that waving leaves cost inferences and never hide anybody.
Costs .2 ms on one x86 core, from 640x480 to 1080p.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.records import Image

GRID = 80, 60
"""Blocks across and down: 8 pixels of a 640x480 picture, 24x18 of 1080p."""
_FINE = 320, 240
"""A coarser picture first; each block is the mean of 16 pixels of it. Averaging all of 1080p costs ten times more."""
_LEAST, _MOST = 3.0, 8.0
"""Grey levels that a block must at least differ by, and that always are a change."""
_NOISES = 5.0
"""How many times its usual difference from one frame to the next a block must differ: root mean square, its own or its
noisiest neighbour's or that of all blocks. Compression leaves most blocks alone and now and then moves one."""
_LEARN, _FADE = 0.05, 0.01
"""Weight of the newest frame in a block's noise; share per frame by which the noise of all blocks is forgotten. Codecs
leave noise out from one keyframe to the next, and bring all of it anew at once: every second or so it looked like
movement."""
_QUIET, _QUIET_SHARE = GRID[0] * GRID[1] * 3 // 4, 0.6
"""Blocks that tell the noise of all: the quietest three quarters, so that what moves does not count, and their mean
square over that of all (.53 to .68 where each colour is off by .5 to 1.6 grey levels)."""
_AROUND = np.ones((3, 3), np.uint8)


class Still:
    """The still scene of one camera."""

    def __init__(self) -> None:
        self._seen: Image | None = None
        """The grid of the last picture that was not still."""
        self._seen_t = 0.0
        self._last: Image | None = None
        self._noise = np.ones(GRID[::-1], np.float32)
        """Mean square difference of each block from one frame to the next."""
        self._noise_of_all = 1.0

    def holds(self, image: Image, t: float, longest_s: float) -> bool:
        """Whether the picture at `t` seconds shows what the last one did for which this was False.

        False after `longest_s` at the latest, and when time goes back.
        """
        grid = _grid(image)
        last, self._last = self._last, grid
        if last is None or self._seen is None or not 0 <= t - self._seen_t < longest_s:
            still = False
        else:
            noise = np.maximum(cv2.dilate(self._noise, _AROUND), self._noise_of_all)
            limit = np.clip(_NOISES * np.sqrt(noise), _LEAST, _MOST)
            apart = _apart(grid, last)
            # What moves teaches nothing about noise.
            self._noise += _LEARN * (np.minimum(apart, limit) ** 2 - self._noise)
            self._noise_of_all = max(_of_all(apart), (1 - _FADE) * self._noise_of_all)
            still = bool((_apart(grid, self._seen) <= limit).all())
        if not still:
            self._seen, self._seen_t = grid, t
        return still


def _grid(image: Image) -> Image:
    """Colours of the blocks, (60, 80, 3)."""
    fine = cv2.resize(image, _FINE, interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.resize(fine, GRID, interpolation=cv2.INTER_AREA), np.uint8)


def _of_all(apart: NDArray[np.uint8]) -> float:
    """Mean square difference of all blocks, were none of them to move; 0 where all do."""
    quiet = np.partition(apart.ravel(), _QUIET)[:_QUIET].astype(np.float32)
    noise = float(quiet @ quiet) / (_QUIET_SHARE * _QUIET)
    return noise if noise < (_MOST / _NOISES) ** 2 else 0.0


def _apart(one: Image, other: Image) -> NDArray[np.uint8]:
    """Grey levels between the blocks of two grids, in the colour in which they differ most: (60, 80)."""
    colours = cv2.absdiff(one, other)
    return np.asarray(np.maximum(np.maximum(colours[..., 0], colours[..., 1]), colours[..., 2]), np.uint8)
