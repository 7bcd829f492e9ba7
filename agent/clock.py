"""Time, as an argument: nothing else in the agent asks the operating system what time it is."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Protocol

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_SYNCED = Path("/run/systemd/timesync/synchronized")


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

    def __init__(self) -> None:
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
        return _SYNCED.exists()


def rfc3339(wall_ns: int) -> str:
    """Wall time as RFC 3339 UTC with milliseconds, e.g. ``2026-03-01T12:00:00.250Z``."""
    seconds, ns = divmod(wall_ns, 1_000_000_000)
    stamp = datetime.fromtimestamp(seconds, timezone.utc)
    return f"{stamp:%Y-%m-%dT%H:%M:%S}.{ns // 1_000_000:03d}Z"
