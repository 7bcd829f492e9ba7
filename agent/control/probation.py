"""A new configuration on probation: did it stop frames or the connection that were there before?

What a configuration stops on purpose does not count: cameras that are paused or out of schedule are not expected to
give frames, and a lower frame rate is given its longer intervals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from agent.clock import Clock
from agent.settings import Settings

INTERVALS = 3.0
"""Frame intervals without a frame after which a camera counts as silent, where that is longer than the age limit."""


@dataclass(frozen=True, slots=True)
class Vitals:
    """What is well at one moment."""

    expected: frozenset[str]
    """Cameras that should give frames."""
    live: frozenset[str]
    """Cameras that do."""
    connected: bool


def vitals(frames: Mapping[str, float | None], settings: Settings, *, connected: bool) -> Vitals:
    """`frames`: per camera that should give frames, the age in seconds of its newest one."""
    limit = settings.health.frame_age_limit_s
    slow = {camera.name: INTERVALS / camera.fps for camera in settings.cameras if camera.fps}
    live = (name for name, age in frames.items() if age is not None and age <= max(limit, slow.get(name, 0.0)))
    return Vitals(frozenset(frames), frozenset(live), connected)


class Probation:
    """The trial time of one configuration, or of several that came on top of each other."""

    def __init__(self, clock: Clock, look: Callable[[], Vitals]) -> None:
        self._clock = clock
        self._look = look
        self._before: Vitals | None = None
        self._until_ns: int | None = None

    def begin(self, length_s: float, before: Vitals | None) -> None:
        """`before`: what was well without the new configuration; None after a restart, where all cameras should live.

        What was well before an earlier change that is still on trial has to be well after this one too.
        """
        if self._until_ns is not None and before and self._before:
            live, connected = self._before.live | before.live, self._before.connected or before.connected
            before = Vitals(before.expected, live, connected)
        self._before = before
        self._until_ns = self._clock.mono_ns() + int(length_s * 1e9)

    def end(self) -> None:
        self._until_ns = None

    def over(self) -> bool:
        """Whether a trial is under way whose time has come."""
        return self._until_ns is not None and self._clock.mono_ns() >= self._until_ns

    def verdict(self) -> str | None:
        """Why the configuration is not to stay; None where it is."""
        now = self._look()
        silent = now.expected - now.live
        if self._before:
            silent &= self._before.live
        if silent:
            return f"no frames of {', '.join(sorted(silent))} under it"
        if self._before and self._before.connected and not now.connected:
            return "the connection to the broker was lost under it"
        return None
