"""What only time tells: the cheap trace of errors that leave none in their own frame.

Three frames in a row are compared on their rows. An object served before and after but not now was missed now; one
served only now is likely no object; a name that differs from what stands there before and after is likely wrong.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from agent.selection.scores import Evidence, overlap

_NEAR = 0.2
"""IoU from which boxes of neighbouring frames may be one object: things move between two looks."""
_TRACE = 0.1
"""A row of at least this confidence is a trace of an object."""


def events(before: Evidence, now: Evidence, after: Evidence, serve: float) -> Counter[str]:
    """How often each kind of inconsistency shows in the middle frame.

    lost: served before and after, not now. flicker: served now, only suspected before and after. isolated: served
    now, without a trace before and after. flip: served now, under another name both before and after.
    """
    served = now.confidence >= serve
    past, future = _best(now, before), _best(now, after)
    other_past, other_future = _other_name(now, before, serve), _other_name(now, after, serve)
    flip = served & (other_past >= 0) & (other_past == other_future)
    low = np.minimum(past, future) >= _TRACE
    return Counter(
        lost=_lost(before, now, after, serve),
        flicker=int((served & ~flip & low & (np.maximum(past, future) < serve)).sum()),
        isolated=int((served & ~flip & (np.maximum(past, future) < _TRACE)).sum()),
        flip=int(flip.sum()),
    )


def _matches(one: Evidence, other: Evidence) -> NDArray[np.bool_]:
    """Which objects of the two may be the same, whatever their names: (n, m)."""
    return overlap(one.boxes, other.boxes) > _NEAR


def _best(one: Evidence, other: Evidence) -> NDArray[np.floating]:
    """Per object of `one`: the highest confidence of the same class at its place in `other`, 0 where there is none."""
    if not len(other.classes):
        return np.zeros(len(one.classes))
    same = _matches(one, other) & (one.classes[:, None] == other.classes)
    best: NDArray[np.floating] = (same * other.confidence).max(axis=1, initial=0.0)
    return best


def _other_name(one: Evidence, other: Evidence, serve: float) -> NDArray[np.intp]:
    """Per object of `one`: the class served at its place in `other` if its own is not, else -1."""
    keep = other.confidence >= serve
    if not keep.any():
        return np.full(len(one.classes), -1)
    place = overlap(one.boxes, other.boxes[keep])
    best = place.argmax(axis=1) if len(one.classes) else np.zeros(0, np.intp)
    own = ((place > _NEAR) & (one.classes[:, None] == other.classes[keep])).any(axis=1)
    named = ~own & (place.max(axis=1, initial=0.0) > 0.5)
    return np.where(named, other.classes[keep][best], -1)


def _lost(before: Evidence, now: Evidence, after: Evidence, serve: float) -> int:
    """Objects served before and after at one place with no served object of any name there now."""
    past, future = before.confidence >= serve, after.confidence >= serve
    if not past.any() or not future.any():
        return 0
    boxes, classes = before.boxes[past], before.classes[past]
    stays = (overlap(boxes, after.boxes[future]) > _NEAR) & (classes[:, None] == after.classes[future])
    seen = overlap(boxes, now.boxes[now.confidence >= serve]) > _NEAR
    return int((stays.any(axis=1) & ~seen.any(axis=1)).sum())
