"""The best frames of a stretch of time: a bounded pool while the window is open, greedy picks when it ends.

Memory: the pool holds at most `POOL_FRAMES` frames and `POOL_BYTES` of pixels per camera, whatever the window's length.
Pixels are kept raw because only winners are worth encoding; 4K frames (25 MB) still leave room for four.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.records import Frame, Lane, Rows
from agent.selection.coverage import Look, still_open
from agent.selection.scores import Floats

POOL_FRAMES = 48
POOL_BYTES = 100_000_000


@dataclass(slots=True, eq=False)
class Entry:
    """A frame in the pool: what it would add now, per lane."""

    frame: Frame
    rows: Rows
    look: Look
    open: Floats
    """Per object: 1 while no selected frame covers it."""
    reasons: tuple[str, ...]
    inconsistent: float = 0.0
    """Number of temporal inconsistencies, see `temporal`."""
    seen: int = 0
    """How many of the window's picks `open` takes account of."""

    def gain(self, lane: Lane) -> float:
        """Marginal gain in this lane."""
        evidence = self.look.evidence
        if lane == "uncertain":
            return float(evidence.error @ self.open)
        if lane == "rare":
            return float(evidence.tail @ self.open)
        return self.inconsistent


@dataclass(slots=True)
class Window:
    """The open window of one camera."""

    lanes: tuple[Lane, ...]
    start: float | None = None
    frames: int = 0
    entries: list[Entry] = field(default_factory=list)
    picks: list[Look] = field(default_factory=list)

    def offer(self, entry: Entry) -> None:
        """Take the frame in if it is worth something, at the cost of the one that adds least."""
        if not any(entry.gain(lane) > 0 for lane in self.lanes):
            return
        entry.seen = len(self.picks)
        self.entries.append(entry)
        room = max(2, min(POOL_FRAMES, POOL_BYTES // max(1, entry.frame.image.nbytes)))
        if len(self.entries) > room:
            self._drop()

    def _drop(self) -> None:
        """Give up the frame whose best lane value, relative to that lane's best frame, is the lowest."""
        best = {lane: max(entry.gain(lane) for entry in self.entries) or 1.0 for lane in self.lanes}
        worth = [max(entry.gain(lane) / best[lane] for lane in self.lanes) for entry in self.entries]
        self.entries.pop(min(range(len(worth)), key=worth.__getitem__))

    def discard(self, entry: Entry) -> None:
        """The frame goes another way."""
        self.entries = [other for other in self.entries if other.frame is not entry.frame]

    def restart(self, *, keep: bool) -> None:
        """Begin anew; `keep` lets the best frames so far compete in the next window, for want of budget in this one."""
        self.start, self.frames = None, 0
        if not keep:
            self.entries, self.picks = [], []

    def cover(self, look: Look) -> None:
        """A frame was selected, by whichever lane: it lowers what the others add."""
        self.picks.append(look)

    def pick(self, lane: Lane) -> tuple[Entry, float] | None:
        """Take out the frame that adds most in this lane, and its gain; None when nothing adds anything.

        Lazy greedy (Minoux 1978): gains only ever shrink, so an entry whose fresh gain still beats every other's stale
        one is the best without a look at the rest.
        """
        queue = sorted(self.entries, key=lambda entry: entry.gain(lane), reverse=True)
        best: Entry | None = None
        for entry in queue:
            if best is not None and best.gain(lane) >= entry.gain(lane):
                break
            self._refresh(entry)
            if best is None or entry.gain(lane) > best.gain(lane):
                best = entry
        if best is None or best.gain(lane) <= 0:
            return None
        self.entries.remove(best)
        self.cover(best.look)
        return best, best.gain(lane)

    def _refresh(self, entry: Entry) -> None:
        for selected in self.picks[entry.seen :]:
            entry.open = entry.open * still_open(entry.look, selected)
        entry.seen = len(self.picks)
