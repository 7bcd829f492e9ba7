"""How hard the device may work: less where that is configured, and less still while heat or low voltage slow it down.

A processor that throttles itself gives back little for the heat it makes; with half of the work it cools down, and the
next frames take their usual time again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from agent.clock import Clock

log = logging.getLogger(__name__)

LOOK_S = 5.0
"""Seconds between looks at the sensors: a Raspberry Pi answers in milliseconds, and heat changes slowly."""
THROTTLED = 0.5
"""What is left of the share while the hardware is throttled."""


class Restraint:
    """The share of the time that the model may be busy now, above 0 and at most 1."""

    def __init__(self, share: Callable[[], float], throttled: Callable[[], bool | None], clock: Clock) -> None:
        """`share` is the configured one; `throttled` is what the sensors say."""
        self._share, self._ask, self._clock = share, throttled, clock
        self._throttled = False
        self._next_ns = 0

    def __call__(self) -> float:
        now = self._clock.mono_ns()
        if now >= self._next_ns:
            self._next_ns = now + int(LOOK_S * 1e9)
            before, self._throttled = self._throttled, bool(self._ask())
            if before != self._throttled:
                log.warning("hardware throttled" if self._throttled else "hardware no longer throttled")
        return self._share() * (THROTTLED if self._throttled else 1.0)
