"""How hard the device may work: less where that is configured, and less still while heat or low voltage slow it down.

A processor that throttles itself gives back little for the heat it makes; with half of the work it cools down, and the
next frames take their usual time again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from agent.clock import Clock

log = logging.getLogger(__name__)

LOOK_S = 15.0
"""Seconds between looks at the sensors; heat changes slowly."""
THROTTLED = 0.5
"""What is left of the share while the hardware is throttled."""


def _in_a_thread(look: Callable[[], None]) -> None:
    threading.Thread(target=look, name="throttled", daemon=True).start()


class Restraint:
    """The share of the time that the model may be busy now, above 0 and at most 1."""

    def __init__(
        self,
        share: Callable[[], float],
        throttled: Callable[[], bool | None],
        clock: Clock,
        aside: Callable[[Callable[[], None]], None] = _in_a_thread,
    ) -> None:
        """`share` is the configured one; `throttled` is what the sensors say.

        They are asked `aside`: firmware may take seconds to answer, and no frame waits for it.
        """
        self._share, self._ask, self._clock, self._aside = share, throttled, clock, aside
        self._throttled = self._looking = False
        self._next_ns = 0

    def __call__(self) -> float:
        now = self._clock.mono_ns()
        if now >= self._next_ns and not self._looking:
            self._next_ns, self._looking = now + int(LOOK_S * 1e9), True
            self._aside(self._look)
        return self._share() * (THROTTLED if self._throttled else 1.0)

    def _look(self) -> None:
        try:
            before, self._throttled = self._throttled, bool(self._ask())
        finally:
            self._looking = False
        if before != self._throttled:
            log.warning("hardware throttled" if self._throttled else "hardware no longer throttled")
