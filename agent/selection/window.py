"""The best frames of a stretch of time: a bounded pool while the window is open, greedy picks when it ends.

What is not picked competes in the next seven windows too, so that a rich stretch is not cut off at its window's end.
Memory: the pool holds at most `POOL_FRAMES` frames and `POOL_BYTES` of pictures per camera, whatever the window's
length. A frame that finds room there gives up its pixels at once for the JPEG that would be stored of it: 48 frames of
768x432 take 2 MB instead of 48, of 1080p 15 MB instead of 100. On a busy road a third of all frames finds room, at
.7 ms each; raw frames would have to be as many as 16 to spare two fifths of that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np

from agent.errors import RejectError
from agent.records import Candidate, Frame, Lane, Picture, Rows
from agent.selection.coverage import Look, still_open
from agent.selection.scores import Floats

POOL_FRAMES = 48
POOL_BYTES = 100_000_000
Encode: TypeAlias = Callable[[Frame, Rows], Picture]
"""Makes of a frame what is stored of it; raises RejectError."""
_WINDOWS = 8
"""In how many windows a frame competes."""
_GONE = np.empty((0, 0, 3), np.uint8)


@dataclass(slots=True, eq=False)
class Entry:
    """A frame in the pool, and what it would add."""

    frame: Frame
    rows: Rows
    look: Look
    open: Floats
    """Per object: how much of it no selected frame covers, 0..1."""
    reasons: tuple[str, ...]
    picture: Picture | None = None
    """What is stored of the frame, in place of its pixels."""
    inconsistent: float = 0.0
    """Number of temporal inconsistencies, see `temporal`."""
    gains: dict[Lane, float] = field(default_factory=dict)
    """Marginal gain per lane; may only be too high."""
    seen: int = 0
    """How many of the window's picks `open` and `gains` take account of."""
    windows: int = 0
    """In how many windows it has competed in vain."""

    @property
    def size(self) -> int:
        """Bytes of its picture."""
        return len(self.picture.jpeg) if self.picture else self.frame.image.nbytes

    def candidate(self, lane: Lane, score: float, probability: float | None, *why: str) -> Candidate:
        """This frame, picked."""
        reasons = (*why, *self.reasons)
        return Candidate(self.frame, self.rows, lane, score, probability, reasons, self.picture)

    def shrink(self, encode: Encode) -> None:
        """Keep the picture in place of the pixels; where none can be made, it is refused when it is picked."""
        with contextlib.suppress(RejectError):
            self.picture = encode(self.frame, self.rows)
            self.frame = replace(self.frame, image=_GONE)

    def weigh(self) -> None:
        """Bring `gains` in line with `open`."""
        evidence = self.look.evidence
        self.gains = {
            "uncertain": float(evidence.unsure @ self.open),
            "rare": float(evidence.tail @ self.open),
            "temporal": self.inconsistent,
        }


@dataclass(slots=True)
class Window:
    """The open window of one camera."""

    lanes: tuple[Lane, ...]
    encode: Encode | None = None
    """Without it the pool keeps pixels."""
    start: float | None = None
    frames: int = 0
    entries: list[Entry] = field(default_factory=list)
    picks: list[Look] = field(default_factory=list)

    def offer(self, entry: Entry) -> None:
        """Take the frame in if it is worth something; a full pool gives up the one that it misses least."""
        entry.weigh()
        if not any(entry.gains[lane] > 0 for lane in self.lanes):
            return
        entry.seen = len(self.picks)
        self.entries.append(entry)
        if len(self.entries) > POOL_FRAMES:
            self.entries.remove(self._spare())
        if self.encode and self.entries[-1] is entry:
            entry.shrink(self.encode)
        while len(self.entries) > 2 and sum(each.size for each in self.entries) > POOL_BYTES:
            self.entries.remove(self._spare())

    def _spare(self) -> Entry:
        """The frame that is worth least: its best lane's gain, relative to that lane's best frame."""
        gains = np.array([[entry.gains[lane] for lane in self.lanes] for entry in self.entries])
        worth = (gains / np.maximum(gains.max(axis=0), 1e-9)).max(axis=1)
        return self.entries[int(worth.argmin())]

    def cover(self, look: Look) -> None:
        """A frame was selected, by whichever lane: it lowers what the others add."""
        self.picks.append(look)

    def discard(self, entry: Entry) -> None:
        """The frame goes another way."""
        self.entries = [other for other in self.entries if other is not entry]

    def pick(self, lane: Lane) -> tuple[Entry, float] | None:
        """Take out the frame that adds most in this lane, and its gain; None when nothing adds anything.

        Lazy greedy (Minoux 1978): gains only ever shrink, so an entry whose fresh gain still beats every other's stale
        one is the best without a look at the rest.
        """
        best: Entry | None = None
        for entry in sorted(self.entries, key=lambda entry: entry.gains[lane], reverse=True):
            if best is not None and best.gains[lane] >= entry.gains[lane]:
                break
            self._refresh(entry)
            if best is None or entry.gains[lane] > best.gains[lane]:
                best = entry
        if best is None or best.gains[lane] <= 0:
            return None
        self.entries.remove(best)
        return best, best.gains[lane]

    def restart(self, *, picked: bool) -> None:
        """Begin anew; frames that could not be picked for want of budget lose nothing by it."""
        self.start, self.frames = None, 0
        for entry in self.entries:
            self._refresh(entry)
            entry.seen, entry.windows = 0, entry.windows + picked
        self.entries = [entry for entry in self.entries if entry.windows < _WINDOWS]
        self.picks = []

    def _refresh(self, entry: Entry) -> None:
        if entry.seen < len(self.picks):
            for selected in self.picks[entry.seen :]:
                entry.open = np.minimum(entry.open, still_open(entry.look, selected))
            entry.seen = len(self.picks)
            entry.weigh()
