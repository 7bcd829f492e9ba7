"""Which pictures are the same frame seen twice: two agents on one clip, one scene stored again.

Whole-frame hashes collapse on a fixed camera, where every frame is nearly the same picture. So two frames are twins
only if no part of the picture differs (a 24 x 16 map of brightness, largest difference), and if each object of one is
an object of the other (same class, IoU .5). A new frame is compared with each known one in a single cell, and in more
only where that agrees: .1 ms among 100,000.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.errors import FrameError
from agent.selection.scores import overlap

Objects: TypeAlias = Sequence[tuple[str, tuple[float, float, float, float]]]
"""Class name and box, relative to the picture (0..1)."""
ObjectsOf: TypeAlias = Callable[[str], "tuple[Objects, Objects]"]
"""By name of a frame: what surely is in it, and what may be in it (the first included)."""

ACROSS, DOWN = 24, 16
SAME_LEVEL = 5
"""Largest difference (of 255) of any cell between twins. Measured on 60 stills: JPEG quality 60 against 95 together
with half the size moves a cell by 3 at most; a tenth of a second on the rendered street by 8 at least."""
SAME_IOU = 0.5
PROBES = np.arange(13, ACROSS * DOWN, 31)
"""Cells that are compared first, one after another: each rules most frames out for the next."""


def look(path: Path) -> bytes:
    """The map of a picture's brightness, 24 x 16 levels. Raises FrameError where it cannot be read."""
    picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if picture is None:
        raise FrameError(f"{path} cannot be read as a picture", remedy="restore it or leave it out")
    return np.asarray(cv2.resize(picture, (ACROSS, DOWN), interpolation=cv2.INTER_AREA), np.uint8).tobytes()


def same_objects(one: Objects, other: Objects) -> bool:
    """Whether each object of `one` is one of `other`: same class, IoU .5."""
    if not one:
        return True
    if not other:
        return False
    ious = overlap(*(np.array([box for _, box in each], np.float64) for each in (one, other)))
    ious *= [[name == same for same, _ in other] for name, _ in one]
    return bool((ious.max(axis=1) >= SAME_IOU).all())


class Looks:
    """Looks of frames by name, and which of them a new one may be a twin of."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._maps: NDArray[np.uint8] = np.empty((1024, ACROSS * DOWN), np.uint8)
        self._probes: NDArray[np.uint8] = np.empty((len(PROBES), 1024), np.uint8)

    def add(self, name: str, seen: bytes) -> None:
        count = len(self._names)
        if count == len(self._maps):
            self._maps = np.concatenate([self._maps, np.empty_like(self._maps)])
            self._probes = np.concatenate([self._probes, np.empty_like(self._probes)], axis=1)
        self._maps[count] = np.frombuffer(seen, np.uint8)
        self._probes[:, count] = self._maps[count, PROBES]
        self._names.append(name)

    def like(self, seen: bytes) -> list[str]:
        """Names of frames that look the same, the closest first."""
        wanted = np.frombuffer(seen, np.uint8)
        first, *others = zip(self._probes[:, : len(self._names)], wanted[PROBES], strict=True)
        left = np.flatnonzero(_difference(*first) <= SAME_LEVEL)
        for probe, level in others:
            left = left[_difference(probe[left], level) <= SAME_LEVEL]
        farthest = _difference(self._maps[left], wanted).max(axis=1, initial=0)
        found = sorted((int(farthest[i]), self._names[left[i]]) for i in np.flatnonzero(farthest <= SAME_LEVEL))
        return [name for _, name in found]

    def twin(self, seen: bytes, name: str, objects_of: ObjectsOf) -> str | None:
        """The closest frame that is the same as `name`, which looks like `seen`; None where there is none."""
        mine = None
        for other in self.like(seen):
            if other == name:
                continue
            mine, theirs = mine or objects_of(name), objects_of(other)
            if same_objects(mine[0], theirs[1]) and same_objects(theirs[0], mine[1]):
                return other
        return None


def _difference(levels: NDArray[np.uint8], wanted: NDArray[np.uint8] | np.uint8) -> NDArray[np.uint8]:
    """Without leaving bytes: there are millions."""
    return np.maximum(levels, wanted) - np.minimum(levels, wanted)
