"""When uploads may go out: start delay, holds after a refusal, bytes per second, quiet hours."""

from __future__ import annotations

import logging
import random
import time

from agent.clock import Clock
from agent.settings import UplinkSettings, parse_schedule

log = logging.getLogger(__name__)

HOLD_S = 1.0
"""First hold; doubles to `receipt_timeout_max_s` until something is accepted."""


class Pace:
    """Says when the next part may be sent. Random times keep a fleet from marching in step."""

    def __init__(self, settings: UplinkSettings, clock: Clock, rng: random.Random) -> None:
        self.settings = settings
        self._clock = clock
        self._rng = rng
        self._held_ns = 0
        """Until when nothing is sent."""
        self._holds = 0
        self._paid_ns = 0
        """Until when the bytes sent so far use up the allowance."""

    def wait_s(self) -> float:
        """Seconds until something may be sent; 0 for now. Quiet hours are looked at again every minute."""
        now = self._clock.mono_ns()
        wait = max(self._held_ns, self._paid_ns) - now
        return max(wait / 1e9, 60.0 if self.settings.paused or self._quiet() else 0.0)

    def connected(self) -> None:
        """A new connection: begin after a random part of `start_spread_s`."""
        self._hold_for(self._rng.uniform(0, self.settings.start_spread_s))

    def hold(self, reason: str) -> None:
        """Refused: send nothing for a while, each time longer."""
        seconds = min(self.settings.receipt_timeout_max_s, HOLD_S * 2.0 ** min(self._holds, 30))
        self._holds += 1
        self._hold_for(seconds * self._rng.uniform(0.5, 1))
        log.warning("uploads held", extra={"reason": reason, "seconds": round(seconds, 1)})

    def accepted(self) -> None:
        self._holds = 0

    def pay(self, size: int) -> None:
        """A packet of `size` bytes goes out: what follows waits until the allowance covers it."""
        if self.settings.bytes_per_s:
            start = max(self._paid_ns, self._clock.mono_ns())
            self._paid_ns = start + size * 1_000_000_000 // self.settings.bytes_per_s

    def flush(self) -> None:
        """An operator wants it now; the allowance and quiet hours still hold."""
        self._held_ns = 0

    def receipt_ns(self, times: int) -> int:
        """When a receipt is overdue: `receipt_timeout_s` doubled so many times, with jitter."""
        top = self.settings.receipt_timeout_max_s
        seconds = min(top, self.settings.receipt_timeout_s * 2.0 ** min(times, 30)) * self._rng.uniform(0.5, 1)
        return self._clock.mono_ns() + int(seconds * 1e9)

    def _hold_for(self, seconds: float) -> None:
        self._held_ns = max(self._held_ns, self._clock.mono_ns() + int(seconds * 1e9))

    def _quiet(self) -> bool:
        """Local time, by the wall clock as it is."""
        if not self.settings.quiet_hours:
            return False
        now = time.localtime(self._clock.wall_ns() // 1_000_000_000)
        spans = parse_schedule(self.settings.quiet_hours)
        return any(span.covers(now.tm_wday, now.tm_hour * 60 + now.tm_min) for span in spans)
