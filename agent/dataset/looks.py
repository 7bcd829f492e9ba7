"""Which pictures are the same frame seen twice: two agents on one clip, one scene stored again.

Whole-frame hashes collapse on a fixed camera, where every frame is nearly the same picture. So two frames are twins
only if no part of the picture differs (a 24 x 16 map of brightness, largest difference), and if each object of one is
an object of the other (same class, IoU .5). Frames are sorted into buckets by overall brightness: a new one is
compared with its likes, not with everything.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Iterator, Sequence
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
Bucket: TypeAlias = tuple[int, ...]

ACROSS, DOWN = 24, 16
SAME_LEVEL = 5
"""Largest difference (of 255) of any cell between twins. Measured on 60 stills: JPEG quality 60 against 95 together
with half the size moves a cell by 3 at most; a tenth of a second on the rendered street by 8 at least."""
SAME_IOU = 0.5
_STEP = 8
"""Brightness levels of one bucket: wider than `SAME_LEVEL`, so that twins are in the same bucket or in neighbours."""
_NEXT = tuple(itertools.product((-1, 0, 1), repeat=4))


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
        self._names: dict[Bucket, list[str]] = {}
        self._maps: dict[Bucket, bytearray] = {}

    def add(self, name: str, seen: bytes) -> None:
        bucket = _bucket(seen)
        self._names.setdefault(bucket, []).append(name)
        self._maps.setdefault(bucket, bytearray()).extend(seen)

    def like(self, seen: bytes) -> list[str]:
        """Names of frames that look the same, the closest first."""
        wanted = np.frombuffer(seen, np.uint8).astype(np.int16)
        found: list[tuple[int, str]] = []
        for bucket in _around(_bucket(seen)):
            if bucket in self._names:
                farthest = self._differences(bucket, wanted)
                names = self._names[bucket]
                found += [(int(farthest[i]), names[i]) for i in np.flatnonzero(farthest <= SAME_LEVEL)]
        return [name for _, name in sorted(found)]

    def _differences(self, bucket: Bucket, wanted: NDArray[np.int16]) -> NDArray[np.int16]:
        maps = np.frombuffer(self._maps[bucket], np.uint8).reshape(-1, ACROSS * DOWN)
        largest: NDArray[np.int16] = np.abs(maps - wanted).max(axis=1)
        return largest

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


def _bucket(seen: bytes) -> Bucket:
    """Mean brightness of the four quarters, in steps."""
    quarters = np.frombuffer(seen, np.uint8).reshape(2, DOWN // 2, 2, ACROSS // 2).mean(axis=(1, 3))
    return tuple(int(level) // _STEP for level in quarters.flat)


def _around(bucket: Bucket) -> Iterator[Bucket]:
    return (tuple(map(operator.add, bucket, step)) for step in _NEXT)
