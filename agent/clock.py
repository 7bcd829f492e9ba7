"""Time, as an argument: nothing else in the agent asks the operating system what time it is."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Protocol, TypeAlias

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_MARKS = (Path("/run/systemd/timesync/synchronized"), Path("/run/tailkeeper-clock/synchronized"))
"""Files that say yes: systemd-timesyncd's, and that of deploy/tailkeeper-clock.service, which hears of every daemon."""
_WORST_US = 16_000_000
"""Error that the kernel assumes of a clock nobody keeps: after the last correction it grows by 500 ppm up to that.
STA_UNSYNC does not tell: chrony leaves it set where it must not touch the hardware clock (systemd pull 13245)."""
Witness: TypeAlias = Callable[[], "bool | None"]
"""Says whether the wall clock is synchronised; None where it cannot know."""


class Clock(Protocol):
    """Wall time (may jump by years), monotonic time (never goes back), the boot, and whether to trust wall time."""

    def wall_ns(self) -> int:
        """Nanoseconds since 1970 UTC by the wall clock."""

    def mono_ns(self) -> int:
        """Nanoseconds of monotonic time since this boot."""

    def boot(self) -> str:
        """Id of this boot: monotonic times of different boots cannot be compared."""

    def synced(self) -> bool:
        """Whether the wall clock has been synchronised since boot."""


class SystemClock:
    """The machine's own clocks."""

    def __init__(self, witnesses: Sequence[Witness] | None = None) -> None:
        """`witnesses` are asked in turn until one says yes."""
        self._witnesses = (marked, kernel) if witnesses is None else tuple(witnesses)
        self._synced = False
        try:
            self._boot = _BOOT_ID.read_text("ascii").strip().replace("-", "")
        except OSError:
            self._boot = "unknown"

    def wall_ns(self) -> int:
        return time.time_ns()

    def mono_ns(self) -> int:
        return time.monotonic_ns()

    def boot(self) -> str:
        return self._boot

    def synced(self) -> bool:
        self._synced = self._synced or any(witness() for witness in self._witnesses)
        return self._synced


def marked() -> bool | None:
    """Whether there is a file that says so; without one nothing is known."""
    return any(mark.exists() for mark in _MARKS) or None


class _Timex(ctypes.Structure):
    """The head of struct timex (adjtimex(2)), and more room than the rest of it takes."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("rest", ctypes.c_byte * 512),
    )


def kernel() -> bool | None:
    """What the kernel was told by whoever keeps the time: timesyncd, chrony, ntpd.

    None where we may not ask: ProtectClock= in the shipped units forbids reading as well (systemd issue 26413).
    """
    answer = _Timex()  # modes 0: only read
    if ctypes.CDLL(None).adjtimex(ctypes.byref(answer)) < 0:
        return None
    return bool(answer.maxerror < _WORST_US)


def rfc3339(wall_ns: int) -> str:
    """Wall time as RFC 3339 UTC with milliseconds, e.g. ``2026-03-01T12:00:00.250Z``."""
    seconds, ns = divmod(wall_ns, 1_000_000_000)
    stamp = datetime.fromtimestamp(seconds, timezone.utc)
    return f"{stamp:%Y-%m-%dT%H:%M:%S}.{ns // 1_000_000:03d}Z"
