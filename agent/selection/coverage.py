"""What a human will see already: objects of selected frames count no more, so each pick is worth what it adds.

Whole-frame similarity finds duplicates where the camera moves and collapses where it stands still (there all frames
look alike). Coverage of objects works in both, by place and by time: in the same view, an object where a selected
frame shows its kind is the same error again; and within seconds, so is one that has only moved. A kind is a class and
whether it is served: a missed dog and a wrong dog are different errors. Selecting can only lower what other frames
are worth (the gain is submodular), which is what lets `window` pick greedily and lazily.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from agent.selection.scores import Evidence, Floats, Ints, overlap

VIEW = 0.9
"""Cosine of two signatures from which two frames are of one view."""
_CUT = 0.5
"""Cosine with the frame before under which the picture has changed altogether."""
_SAME_PLACE = 0.5
"""IoU."""
_MOVED_S = 8.0
"""How long a thing that moves is taken for the same; what it counts grows evenly over this time."""
_FRAMES, _OBJECTS, _LATEST = 512, 1024, 16
"""How many selected frames and objects of them are remembered per camera; the oldest go first."""
_TTL_S = 6 * 3600.0
"""After this an object counts again: the light, or the object itself, has changed."""


def signature(thumb: Floats) -> Floats:
    """The picture's layout without its brightness and contrast: unit length, mean 0; zeros for a flat picture."""
    grey = thumb.mean(axis=2).ravel()
    grey = grey - grey.mean()
    length = float(np.linalg.norm(grey))
    return grey / length if length > 1.0 else np.zeros_like(grey)


@dataclass(frozen=True, slots=True)
class Look:
    """What coverage knows of a frame: when, which view, which objects."""

    t: float
    view: Floats
    scene: int
    """Number of cuts before it: within a scene the picture changes little by little."""
    evidence: Evidence


class Scenes:
    """Counts the cuts of one camera: a picture unlike the one before starts a new scene."""

    def __init__(self) -> None:
        self._count = 0
        self._view: Floats | None = None

    def of(self, view: Floats) -> int:
        """The scene of the next frame, which has this view."""
        if self._view is not None and float(self._view @ view) < _CUT:
            self._count += 1
        self._view = view
        return self._count


def still_open(look: Look, selected: Look) -> Floats:
    """How much each object of `look` still counts, 0..1, given that `selected` will be seen: (n,)."""
    left = _moved(look, selected)
    mine, theirs = look.evidence, selected.evidence
    if len(mine.kinds) and len(theirs.kinds) and float(look.view @ selected.view) > VIEW:
        same = mine.kinds[:, None] == theirs.kinds[None, :]
        same &= overlap(mine.boxes, theirs.boxes) > _SAME_PLACE
        left[same.any(axis=1)] = 0.0
    return left


def _moved(look: Look, selected: Look) -> Floats:
    """As `still_open`, by time alone: as many objects of a kind as `selected` shows are the same ones."""
    mine, theirs = look.evidence, selected.evidence
    left: Floats = np.ones(len(mine.kinds), np.float32)
    apart = abs(look.t - selected.t) / _MOVED_S
    if apart < 1 and look.scene == selected.scene and len(mine.kinds):
        shown = np.bincount(theirs.kinds, minlength=int(mine.kinds.max()) + 1)
        left[mine.rank < shown[mine.kinds]] = apart
    return left


class Coverage:
    """The selected frames of one camera: the latest as they are, all of them as a ring of distinct objects."""

    def __init__(self) -> None:
        self._views: Floats = np.zeros((_FRAMES, 1), np.float32)
        self._frames = 0
        self._boxes: Floats = np.zeros((_OBJECTS, 4), np.float32)
        self._kinds: Ints = np.full(_OBJECTS, -1, np.intp)
        self._owner: Ints = np.zeros(_OBJECTS, np.intp)
        """Which of the remembered frames showed it first: the view that it belongs to."""
        self._times: Floats = np.full(_OBJECTS, -np.inf)
        self._objects = 0
        self._latest: deque[Look] = deque(maxlen=_LATEST)

    def add(self, look: Look) -> None:
        """Remember a selected frame; of objects that are known in this view, only that they were seen again."""
        known, mine = self._same_place(look)
        self._times[mine[known.any(axis=0)]] = look.t
        new = ~known.any(axis=1)
        if self._views.shape[1] != len(look.view):
            self._views = np.zeros((_FRAMES, len(look.view)), np.float32)
        slot = self._frames % _FRAMES
        self._kinds[self._owner == slot] = -1
        self._views[slot] = look.view
        self._frames += 1
        where = (self._objects + np.arange(int(new.sum()))) % _OBJECTS
        self._boxes[where], self._kinds[where] = look.evidence.boxes[new], look.evidence.kinds[new]
        self._owner[where], self._times[where] = slot, look.t
        self._objects += len(where)
        self._latest.append(look)

    def still_open(self, look: Look) -> Floats:
        """As the function of this name, over all remembered frames."""
        left = np.ones(len(look.evidence.kinds), np.float32)
        for selected in self._latest:
            left = np.minimum(left, _moved(look, selected))
        known, _ = self._same_place(look)
        left[known.any(axis=1)] = 0.0
        return left

    def _same_place(self, look: Look) -> tuple[np.ndarray[tuple[int, int], np.dtype[np.bool_]], Ints]:
        """Which objects of the look are which of the ring: (n, m), and the m places in the ring."""
        kinds = look.evidence.kinds
        if not len(kinds) or not self._frames:
            return np.zeros((len(kinds), 0), np.bool_), np.zeros(0, np.intp)
        same_view = self._views[: min(self._frames, _FRAMES)] @ look.view > VIEW
        mine = np.flatnonzero((self._kinds >= 0) & (look.t - self._times < _TTL_S))
        mine = mine[same_view[self._owner[mine]]]
        mine = mine[np.isin(self._kinds[mine], kinds)]
        same = kinds[:, None] == self._kinds[mine][None, :]
        same &= overlap(look.evidence.boxes, self._boxes[mine]) > _SAME_PLACE
        return same, mine
