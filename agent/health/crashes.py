"""Crash loops: a service that dies again and again goes on in safe mode (control only), where it can be repaired."""

from __future__ import annotations

from pathlib import Path

from agent.clock import Clock
from agent.durable import load_state, save_state

_VERSION = 1


class CrashLoop:
    """Remembers on disk when the service started without having stopped cleanly before.

    Times are monotonic seconds of one boot: the wall clock may jump, and starts after a power cut are no crashes.
    """

    def __init__(self, path: Path, clock: Clock, *, limit: int = 5, within_s: float = 600.0) -> None:
        self._path = path
        self._clock = clock
        self._limit = limit
        self._within_s = within_s

    def starting(self) -> bool:
        """To be called first thing. Returns True when this start belongs to a crash loop: go on in safe mode."""
        now = self._clock.mono_ns() / 1e9
        state = load_state(self._path, _VERSION) or {}
        same_boot = state.get("boot") == self._clock.boot()
        starts = [t for t in state.get("starts", ()) if same_boot and now - t < self._within_s][-self._limit :]
        self._save([*starts, now])
        return len(starts) >= self._limit

    def stopped(self) -> None:
        """To be called when the service ends as it was asked to: earlier crashes are forgiven."""
        self._save([])

    def _save(self, starts: list[float]) -> None:
        save_state(self._path, _VERSION, {"boot": self._clock.boot(), "starts": starts})
