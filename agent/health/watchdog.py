"""systemd's notifications and its watchdog, fed by work that was done and never by a loop that merely turns.

A process whose frames are stale, or whose uplink hangs, looks alive to a watchdog that is fed from a timer. So each
feeding asks every check first, and a check looks at the age of real work. The protocol is sd_notify(3).
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

log = logging.getLogger(__name__)

Check: TypeAlias = Callable[[], str | None]
"""None while all is well, else one line that says what is not."""

DOWN_PATIENCE_S = 600.0
"""While no camera can be opened, reopening is the cure; a restart is tried this seldom, for wedged drivers."""
_DELIVERING = frozenset({"live", "dark"})
_OWING_NOTHING = frozenset({"ended", "off", "paused"})


class Notifier:
    """Tells systemd how the service is; does nothing where the service was not started by systemd."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        meant_for_us = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog_s = int(environ.get("WATCHDOG_USEC", 0)) / 1e6 if meant_for_us else 0.0
        """Time within which systemd wants to be fed; 0 where it does not watch."""

    def ready(self, status: str = "") -> None:
        self._send(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """To be followed by `ready` when the new configuration is in use."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, status: str = "stopping") -> None:
        self._send(f"STOPPING=1\nSTATUS={status}")

    def status(self, text: str) -> None:
        """One line for ``systemctl status``."""
        self._send(f"STATUS={text}")

    def feed(self) -> None:
        self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.sendto(message.encode(), address)
        except OSError as error:
            log.warning("systemd not notified", extra={"error": str(error)})


class Watchdog:
    """Feeds systemd's watchdog while every check passes, and reports each change for the worse or the better."""

    def __init__(self, notifier: Notifier, checks: Sequence[Check]) -> None:
        self._notifier = notifier
        self._checks = tuple(checks)
        self.complaints: tuple[str, ...] = ()
        """What the checks said last."""

    def run(self, stop: threading.Event) -> None:
        """Look at the checks three times per watchdog interval until `stop` is set."""
        interval_s = self._notifier.watchdog_s / 3 or 5.0
        while True:
            self.look()
            if stop.wait(interval_s):
                return

    def look(self) -> bool:
        """Ask every check; feed when none complains. Returns whether it fed."""
        complaints = tuple(text for check in self._checks if (text := check()))
        if complaints != self.complaints:
            self._report(complaints)
        self.complaints = complaints
        if not complaints:
            self._notifier.feed()
        return not complaints

    def _report(self, complaints: tuple[str, ...]) -> None:
        if not complaints:
            log.info("healthy again")
        elif not self.complaints:
            log.warning("unhealthy", extra={"complaints": list(complaints)})
        self._notifier.status("; ".join(complaints) or "running")


def frames_flow(age_s: Callable[[], float], patience_s: Callable[[], float | None]) -> Check:
    """Check that the newest frame that went through the whole watch loop is young enough.

    `age_s` is the age of that frame; `patience_s` the age allowed now, None while no frame is expected
    (see `frame_patience`).
    """

    def check() -> str | None:
        patience, age = patience_s(), age_s()
        return None if patience is None or age <= patience else f"no frame for {patience:.0f} s"

    return check


def frame_patience(states: Iterable[str], limit_s: float, down_s: float = DOWN_PATIENCE_S) -> float | None:
    """How old the newest frame may be, given the cameras' states; None while no frame is expected.

    A camera that delivers owes a frame within `limit_s`. Cameras that are starting or being reopened heal by
    themselves, so a restart is worth trying only after `down_s`. Ended and paused cameras, and those outside their
    schedule, owe nothing.
    """
    present = set(states)
    if present & _DELIVERING:
        return limit_s
    return down_s if present - _OWING_NOTHING else None


def progresses(name: str, age_s: Callable[[], float], limit_s: float) -> Check:
    """Check that a loop finished a step of its own within `limit_s` (waiting for work counts as a step)."""

    def check() -> str | None:
        return None if age_s() <= limit_s else f"{name} has not moved for {limit_s:.0f} s"

    return check
