"""A clock that moves only when a test moves it."""

from __future__ import annotations

from agent.clock import SystemClock


class FakeClock:
    """Wall and monotonic time in nanoseconds; `advance` moves both, `jump` only the wall clock."""

    def __init__(self, *, wall_ns: int = 1_800_000_000_000_000_000, mono_ns: int = 1_000_000_000_000) -> None:
        self.wall = wall_ns
        self.mono = mono_ns
        self.boot_id = "0" * 32
        self.is_synced = True

    def advance(self, seconds: float) -> None:
        self.wall += int(seconds * 1e9)
        self.mono += int(seconds * 1e9)

    def jump(self, seconds: float) -> None:
        self.wall += int(seconds * 1e9)

    def reboot(self) -> None:
        """A new boot: another id, and monotonic time starts again."""
        self.boot_id = f"{int(self.boot_id, 16) + 1:032x}"
        self.mono = 1_000_000_000

    def wall_ns(self) -> int:
        return self.wall

    def mono_ns(self) -> int:
        return self.mono

    def boot(self) -> str:
        return self.boot_id

    def synced(self) -> bool:
        return self.is_synced


class RunningClock(SystemClock):
    """Real time goes by; the wall clock is wrong, has never been synchronised, and may jump."""

    def __init__(self, wall_s: float) -> None:
        """`wall_s`: what the wall clock shows now, in seconds since 1970."""
        super().__init__()
        self._ahead_ns = int(wall_s * 1e9) - self.mono_ns()

    def jump(self, seconds: float) -> None:
        self._ahead_ns += int(seconds * 1e9)

    def wall_ns(self) -> int:
        return self.mono_ns() + self._ahead_ns

    def synced(self) -> bool:
        return False
