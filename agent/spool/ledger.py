"""What the spool keeps beside the items: its own time, what was given up, and each lane's typical score.

Spool time is the running time of the device since the spool was made, in seconds: it goes on over a restart of the
service within one boot, stands still while the machine is off, and never jumps as the wall clock does. All ages and
waits are differences of it.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from agent.clock import Clock
from agent.records import Meta
from agent.spool.value import Typical


class Ledger:
    """The figures, kept in the index as one JSON text with every commit."""

    def __init__(self, clock: Clock, saved: dict[str, Any]) -> None:
        """Go on from what was saved; raises ValueError or TypeError where that is not a ledger."""
        self._clock = clock
        mono = clock.mono_ns()
        base = float(saved.get("time", 0.0))
        if saved.get("boot") == clock.boot():
            base += max(mono - int(saved.get("mono", mono)), 0) / 1e9
        self._start = base - mono / 1e9
        self.evicted: Counter[str] = Counter({str(key): int(n) for key, n in dict(saved.get("evicted", {})).items()})
        self.typical = Typical(saved.get("typical"))

    @classmethod
    def resume(cls, clock: Clock, saved: dict[str, Any]) -> Ledger:
        """Go on from what was saved; a ledger that cannot be read counts as none, no item depends on it."""
        try:
            return cls(clock, saved)
        except (ValueError, TypeError):
            return cls(clock, {})

    def now(self) -> float:
        """Spool time in seconds."""
        return self._start + self._clock.mono_ns() / 1e9

    def age_of(self, meta: Meta) -> float:
        """Seconds since capture: by monotonic time within this boot, else by wall time where both ends were synced."""
        if meta.boot == self._clock.boot():
            return max(self._clock.mono_ns() - meta.mono_ns, 0) / 1e9
        if meta.clock_synced and self._clock.synced():
            return max(self._clock.wall_ns() - meta.ts_ns, 0) / 1e9
        return 0.0

    def to_save(self) -> dict[str, Any]:
        return {
            "time": self.now(),
            "boot": self._clock.boot(),
            "mono": self._clock.mono_ns(),
            "evicted": dict(self.evicted),
            "typical": self.typical.seen,
        }
