"""The best frames of a stretch of time: a bounded pool while the window is open, greedy picks when it ends.

What is not picked competes in the next seven windows too, so that a rich stretch is not cut off at its window's end.
Memory: the pool holds at most `POOL_FRAMES` frames and `POOL_BYTES` of pixels per camera, whatever the window's length.
Pixels are kept raw because only winners are worth encoding; 4K frames (25 MB) still leave room for four.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from agent.records import Frame, Lane, Rows
from agent.selection.coverage import Look, still_open
from agent.selection.scores import Floats

POOL_FRAMES = 48
POOL_BYTES = 100_000_000
_WINDOWS = 8
"""In how many windows a frame competes."""


@dataclass(slots=True, eq=False)
class Entry:
    """A frame in the pool, and what it would add."""

    frame: Frame
    rows: Rows
    look: Look
    open: Floats
    """Per object: how much of it no selected frame covers, 0..1."""
    reasons: tuple[str, ...]
    inconsistent: float = 0.0
    """Number of temporal inconsistencies, see `temporal`."""
    gains: dict[Lane, float] = field(default_factory=dict)
    """Marginal gain per lane; may only be too high."""
    seen: int = 0
    """How many of the window's picks `open` and `gains` take account of."""
    windows: int = 0
    """In how many windows it has competed in vain."""

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
        room = max(2, min(POOL_FRAMES, POOL_BYTES // max(1, entry.frame.image.nbytes)))
        if len(self.entries) > room:
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
        self.entries = [other for other in self.entries if other.frame is not entry.frame]

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
