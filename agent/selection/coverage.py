"""What a human will see already: objects of selected frames count no more, so each pick is worth what it adds.

Whole-frame similarity finds duplicates where the camera moves and collapses where it stands still (there all
frames look alike); object coverage works in both: an object is covered when a selected frame of the same view holds
the same class at the same place (selection.md, measured). Selecting can only lower what other frames are worth (the
gain is submodular), which is what lets `window` pick greedily and lazily.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agent.selection.scores import Evidence, Floats, Ints

VIEW = 0.9
"""Cosine of two signatures from which two frames are of one view."""
_IOU = 0.5
_FRAMES, _OBJECTS = 512, 1024
"""How many selected frames and objects of them are remembered per camera; the oldest go first."""
_TTL_S = 6 * 3600.0
"""After this an object counts again: the light, or the object itself, has changed."""


def signature(thumb: Floats) -> Floats:
    """The picture's layout without its brightness and contrast: unit length, mean 0; zeros for a flat picture."""
    grey = thumb.mean(axis=2).ravel()
    grey = grey - grey.mean()
    length = float(np.linalg.norm(grey))
    return grey / length if length > 1.0 else np.zeros_like(grey)


def overlap(boxes: Floats, others: Floats) -> Floats:
    """IoU of each of `boxes` (n, 4) with each of `others` (m, 4): (n, m)."""
    left_top = np.maximum(boxes[:, None, :2], others[None, :, :2])
    right_bottom = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    common = np.clip(right_bottom - left_top, 0.0, None).prod(axis=2)
    area, other = ((b[:, 2:] - b[:, :2]).prod(axis=1) for b in (boxes, others))
    ratio: Floats = common / np.maximum(area[:, None] + other[None, :] - common, 1e-9)
    return ratio


@dataclass(frozen=True, slots=True)
class Look:
    """What coverage knows of a frame: when, which view, which objects."""

    t: float
    view: Floats
    evidence: Evidence


def still_open(look: Look, selected: Look) -> Floats:
    """1 for each object of `look` that `selected` does not show, 0 for those it covers: (n,)."""
    classes = look.evidence.classes
    if not len(classes) or not len(selected.evidence.classes) or float(look.view @ selected.view) <= VIEW:
        return np.ones(len(classes), np.float32)
    same = classes[:, None] == selected.evidence.classes[None, :]
    same &= overlap(look.evidence.boxes, selected.evidence.boxes) > _IOU
    uncovered: Floats = 1.0 - same.any(axis=1).astype(np.float32)
    return uncovered


class Coverage:
    """The selected frames of one camera that are remembered: a ring of views and a ring of their objects."""

    def __init__(self) -> None:
        self._views: Floats = np.zeros((_FRAMES, 1), np.float32)
        self._times: Floats = np.full(_FRAMES, -np.inf)
        self._frames = 0
        self._boxes: Floats = np.zeros((_OBJECTS, 4), np.float32)
        self._classes: Ints = np.full(_OBJECTS, -1, np.intp)
        self._owner: Ints = np.zeros(_OBJECTS, np.intp)
        self._objects = 0

    def add(self, look: Look) -> None:
        """Remember a selected frame."""
        if self._views.shape[1] != len(look.view):
            self._views = np.zeros((_FRAMES, len(look.view)), np.float32)
        slot = self._frames % _FRAMES
        self._classes[self._owner == slot] = -1
        self._views[slot], self._times[slot] = look.view, look.t
        self._frames += 1
        where = (self._objects + np.arange(len(look.evidence.classes))) % _OBJECTS
        self._boxes[where], self._classes[where], self._owner[where] = look.evidence.boxes, look.evidence.classes, slot
        self._objects += len(where)

    def still_open(self, look: Look) -> Floats:
        """As the function of this name, over all remembered frames that are younger than the time to live."""
        n = len(look.evidence.classes)
        if not n or not self._frames:
            return np.ones(n, np.float32)
        frames = min(self._frames, _FRAMES)
        same_view = (self._views[:frames] @ look.view > VIEW) & (look.t - self._times[:frames] < _TTL_S)
        known = np.isin(self._classes, look.evidence.classes)
        mine = np.flatnonzero(same_view[np.minimum(self._owner, frames - 1)] & known)
        same = look.evidence.classes[:, None] == self._classes[mine][None, :]
        same &= overlap(look.evidence.boxes, self._boxes[mine]) > _IOU
        uncovered: Floats = 1.0 - same.any(axis=1).astype(np.float32)
        return uncovered

    def clear(self) -> None:
        """A new model sees differently: everything counts again."""
        self.__init__()  # type: ignore[misc]
