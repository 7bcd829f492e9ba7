"""What a human will see already: objects of selected frames count no more, so each pick is worth what it adds.

Whole-frame similarity finds duplicates where the camera moves and collapses where it stands still (there all frames
look alike). Coverage of objects works in both, in three ways. By place: in the same view, an object where a selected
frame shows its kind is the same error again. By time: within seconds, so is one that has only moved. By scene: where
the camera comes back to a place that looks the same though the view is another, so are as many objects of a kind as
were shown there. How a picture looks is told by the model's embedding where it has one, else by its colours. A kind is
a class and whether it is served: a missed dog and a wrong dog are different errors. Selecting can only lower what other
frames are worth (the gain is submodular), which is what lets `window` pick greedily and lazily.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from agent.selection.scores import Evidence, Floats, Ints, overlap

VIEW = 0.9
"""Cosine of two signatures from which two frames are of one view."""
_CUT = 0.5
"""Cosine with the frame before under which the picture has changed altogether."""
_SAME_PLACE = 0.5
"""IoU."""
_MOVED_S = 8.0
"""How long a thing that moves is taken for the same; what it counts grows evenly over this time."""
_STRANGE, _ALIKE = 0.7, 0.9
"""Cosines of two palettes: below, two scenes are different places; above, one; in between, in proportion."""
_EMBEDDED = 0.9, 0.97
"""The same for embeddings from the end of YOLO26n's backbone."""
COLOURS = 216
_MIDDLE = 1.5
"""The step, of six per colour, that a picture's median is brought to."""
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


@dataclass(frozen=True, eq=False)
class Scenery:
    """What a picture shows as a whole, wherever it is in it.

    Looked at when it is asked for: of a camera that stands still, that is once per selected frame.
    """

    look: Callable[[], Floats]
    strange: float
    alike: float
    """Cosines up to which two pictures show different places, and from which one."""

    @cached_property
    def vector(self) -> Floats:
        """Unit length, or zeros: like nothing."""
        return self.look()


def palette(thumb: Floats) -> Scenery:
    """By its colours: (216,), unmoved by brightness and small shifts."""
    return Scenery(partial(_colours, thumb), _STRANGE, _ALIKE)


def embedded(embedding: Floats | None, length: int) -> Scenery:
    """By the model's embedding; zeros where it is not `length` finite numbers."""
    return Scenery(partial(_unit, embedding, length), *_EMBEDDED)


def _colours(thumb: Floats) -> Floats:
    steps = np.floor(np.minimum(thumb * (_MIDDLE / max(float(np.median(thumb)), 8.0)), 5))
    counts = np.bincount((steps @ np.array([36, 6, 1], np.float32)).ravel().astype(np.intp), minlength=COLOURS)
    colours: Floats = np.sqrt(counts / counts.sum()).astype(np.float32)
    return colours


def _unit(embedding: Floats | None, length: int) -> Floats:
    if embedding is None or embedding.shape != (length,) or not (norm := float(np.linalg.norm(embedding))) < np.inf:
        return np.zeros(length, np.float32)
    return embedding / max(norm, 1e-9)


@dataclass(frozen=True, slots=True)
class Look:
    """What coverage knows of a frame: when, which view, which objects."""

    t: float
    view: Floats
    scenery: Scenery
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
    left: Floats = np.ones(len(look.evidence.kinds), np.float32)
    mine, theirs = look.evidence, selected.evidence
    if not len(mine.kinds) or not len(theirs.kinds):
        return left
    same_view = float(look.view @ selected.view) > VIEW
    strange = _strangeness(look, selected, same_view)
    if strange < 1:
        left[mine.rank < np.bincount(theirs.kinds, minlength=int(mine.kinds.max()) + 1)[mine.kinds]] = strange
    if same_view:
        same = mine.kinds[:, None] == theirs.kinds[None, :]
        same &= overlap(mine.boxes, theirs.boxes) > _SAME_PLACE
        left[same.any(axis=1)] = 0.0
    return left


def _strangeness(look: Look, selected: Look, same_view: bool) -> float:
    """0 where objects of a kind are the same ones wherever they stand, 1 where that says nothing.

    In one view it is the place that tells, however often the picture was cut.
    """
    if look.scene == selected.scene:
        return min(1.0, abs(look.t - selected.t) / _MOVED_S)
    return 1.0 if same_view else float(_unlike(look.scenery, selected.scenery.vector))


def _unlike(scenery: Scenery, others: Floats) -> Floats:
    """0 for those of the other vectors (n, length) that show the same place, 1 for different ones."""
    unlike: Floats = np.clip((scenery.alike - others @ scenery.vector) / (scenery.alike - scenery.strange), 0.0, 1.0)
    return unlike


class Coverage:
    """The selected frames of one camera: what they show as a whole, and a ring of their distinct objects."""

    def __init__(self, classes: int, length: int = COLOURS) -> None:
        """`length`: of the vectors that tell scenes apart."""
        self._frames = 0
        # Full, not zeros: their memory is there from the start, and does not come page by page for as long as it takes.
        self._views: Floats = np.full((_FRAMES, 1), 0.0, np.float32)
        self._sceneries: Floats = np.full((_FRAMES, length), 0.0, np.float32)
        self._scenes: Ints = np.full(_FRAMES, -1, np.intp)
        self._seen: Floats = np.full(_FRAMES, -np.inf)
        self._counts: Ints = np.full((_FRAMES, 2 * classes), 0, np.intp)
        self._boxes: Floats = np.zeros((_OBJECTS, 4), np.float32)
        self._kinds: Ints = np.full(_OBJECTS, -1, np.intp)
        self._owner: Ints = np.zeros(_OBJECTS, np.intp)
        """Which of the remembered frames showed it first: the view that it belongs to."""
        self._times: Floats = np.full(_OBJECTS, -np.inf)
        self._objects = 0

    def add(self, look: Look) -> None:
        """Remember a selected frame; of objects that are known in this view, only that they were seen again."""
        if self._views.shape[1] != len(look.view):
            self._views = np.full((_FRAMES, len(look.view)), 0.0, np.float32)
        known, mine = self._same_place(look, self._same_view(look))
        self._times[mine[known.any(axis=0)]] = look.t
        new = ~known.any(axis=1)
        slot = self._frames % _FRAMES
        self._frames += 1
        self._kinds[self._owner == slot] = -1
        self._views[slot], self._sceneries[slot] = look.view, look.scenery.vector
        self._scenes[slot], self._seen[slot] = look.scene, look.t
        self._counts[slot] = np.bincount(look.evidence.kinds, minlength=self._counts.shape[1])
        where = (self._objects + np.arange(int(new.sum()))) % _OBJECTS
        self._boxes[where], self._kinds[where] = look.evidence.boxes[new], look.evidence.kinds[new]
        self._owner[where], self._times[where] = slot, look.t
        self._objects += len(where)

    def still_open(self, look: Look) -> Floats:
        """As the function of this name, over all remembered frames that are not too old."""
        if not self._frames or not len(look.evidence.kinds):
            return np.ones(len(look.evidence.kinds), np.float32)
        same_view = self._same_view(look)
        left = self._strange(look, same_view)
        known, _ = self._same_place(look, same_view)
        left[known.any(axis=1)] = 0.0
        return left

    def _strange(self, look: Look, same_view: NDArray[np.bool_]) -> Floats:
        """How much each object counts, by time and by scene."""
        evidence = look.evidence
        frames = min(self._frames, _FRAMES)
        age = np.abs(look.t - self._seen[:frames])
        here = self._scenes[:frames] == look.scene
        strange = np.where(here, age / _MOVED_S, 1.0)
        if not (here | same_view).all():
            strange = np.where(here | same_view, strange, _unlike(look.scenery, self._sceneries[:frames]))
        near = np.flatnonzero((strange < 1) & (age < _TTL_S))
        left: Floats = np.ones(len(evidence.kinds), np.float32)
        if len(near):
            shown = self._counts[near][:, evidence.kinds] > evidence.rank
            left = np.where(shown, strange[near, None], 1.0).min(axis=0)
        return left

    def _same_place(self, look: Look, same_view: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], Ints]:
        """Which objects of the look are which of the ring: (n, m), and the m places in the ring."""
        kinds = look.evidence.kinds
        mine = np.flatnonzero((self._kinds >= 0) & (look.t - self._times < _TTL_S))
        mine = mine[same_view[self._owner[mine]]]
        mine = mine[np.isin(self._kinds[mine], kinds)]
        same = kinds[:, None] == self._kinds[mine][None, :]
        same &= overlap(look.evidence.boxes, self._boxes[mine]) > _SAME_PLACE
        return same, mine

    def _same_view(self, look: Look) -> NDArray[np.bool_]:
        """Which of the remembered frames are of the look's view."""
        same: NDArray[np.bool_] = self._views[: min(self._frames, _FRAMES)] @ look.view > VIEW
        return same
