"""The process around the device: signals, systemd, a new configuration, crash loops."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from agent import __version__
from agent.clock import Clock, SystemClock
from agent.errors import ConfigError, ServiceError, TailkeeperError
from agent.health import (
    CrashLoop,
    Notifier,
    Pulse,
    Watchdog,
    answering,
    frame_patience,
    frames_flow,
    keep_prometheus,
    progresses,
    setup_logging,
)
from agent.service.device import Device, claim
from agent.settings import Loaded

log = logging.getLogger(__name__)

UPLINK_S = 120.0
"""A round of the uplink is over in seconds, however slow the link: everything it waits for is an event."""
TRIM_S = 10.0
"""How often memory that malloc holds for later goes back to the system: see `_Trimmer`."""
SAFE_S = 3600.0
"""After this time in safe mode the process ends, and systemd starts it for another try."""


def serve(
    configuration: Callable[[], Loaded],
    stop: threading.Event,
    reload: threading.Event,
    check: Callable[[], object] = lambda: None,
) -> None:
    """Run the device service until `stop` is set; a set `reload` reads the configuration again.

    A new configuration that cannot be used is reported, and the old one stays. Raises StopError when the first one
    cannot be used, and ServiceError when a loop failed (systemd then starts the service again).
    """
    clock, notifier = SystemClock(), Notifier()
    setup_logging(json=True, level="info")
    loaded = configuration()
    claim(loaded.settings.device.state_dir)
    crashes = CrashLoop(loaded.settings.device.state_dir / "starts.json", clock)
    make = partial(Device, clock=clock, restart=stop.set, check=check)
    safe = crashes.starting()
    device = make(loaded, safe=safe)
    if safe:
        log.error("safe mode", extra={"reason": "repeated crashes"})
        _end_after(SAFE_S, stop)
    while True:
        wanted = _run(device, loaded, notifier, configuration, stop, reload)
        if wanted is None:
            break
        del device
        gc.collect()  # a device refers to itself, and its model's memory must not wait for chance
        device, loaded = _renewed(make, wanted, loaded)
    crashes.stopped()


def _end_after(seconds: float, stop: threading.Event) -> None:
    timer = threading.Timer(seconds, stop.set)
    timer.daemon = True
    timer.start()


def _run(
    device: Device,
    loaded: Loaded,
    notifier: Notifier,
    configuration: Callable[[], Loaded],
    stop: threading.Event,
    reload: threading.Event,
) -> Loaded | None:
    """Run one device until it is to stop (None) or to go on with the configuration that is returned."""
    for warning in loaded.warnings():
        log.warning(warning)
    with device.running(), _watched(device, notifier):
        notifier.ready(f"{len(loaded.settings.cameras)} cameras" if device.watch else "safe mode")
        wanted = _attend(device, configuration, stop, reload)
        if wanted is None:
            notifier.stopping()
        else:
            notifier.reloading()
    if device.failure:
        raise ServiceError(f"a loop failed: {device.failure!r}") from device.failure
    return wanted


def _attend(
    device: Device, configuration: Callable[[], Loaded], stop: threading.Event, reload: threading.Event
) -> Loaded | None:
    """Wait beside the running device."""
    trimmer = _Trimmer(device.clock)
    while not stop.wait(0.2) and not device.failure:
        trimmer.trim_now_and_then()
        if reload.is_set():
            reload.clear()
            try:
                return configuration()
            except ConfigError as error:
                log.error("configuration not reloaded, the old one stays", extra={"error": str(error)})
    return None


class _Trimmer:
    """Gives memory back that malloc (glibc) keeps.

    Frames of changing sizes leave holes in its heaps: within half an hour of cameras that came and went resident memory
    grew from 196 to 283 MB. Keeping them out of the heaps with a fixed mmap threshold cost 3 ms a frame at 1080p.
    The free end of a heap is only given back in the first one, so the unit has malloc make do with that.
    """

    def __init__(self, clock: Clock) -> None:
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        self._pulse = Pulse(clock)

    def trim_now_and_then(self) -> None:
        if self._trim is not None and self._pulse.age_s() >= TRIM_S:
            self._trim(0)
            self._pulse.beat()


@contextlib.contextmanager
def _watched(device: Device, notifier: Notifier) -> Iterator[None]:
    """systemd's watchdog, fed while frames flow that ought to, and while the uplink moves."""
    checks = [progresses("uplink", device.uplink.pulse.age_s, UPLINK_S)] if device.watch else []
    if (watch := device.watch) and (cameras := device.cameras):

        def patience() -> float | None:
            states = ["paused"] if watch.paused else [health.state for health in cameras.health().values()]
            return frame_patience(states, device.settings.health.frame_age_limit_s)

        checks.append(frames_flow(watch.pulse.age_s, patience))
    stop, watchdog = threading.Event(), Watchdog(notifier, checks)
    metrics = (lambda: device.settings.health, device.operations.stats, stop)
    threads = [
        threading.Thread(target=watchdog.run, args=(stop,), name="watchdog"),
        threading.Thread(target=keep_prometheus, args=metrics, name="metrics"),
    ]
    for thread in threads:
        thread.start()
    try:
        with answering(device.settings.device.state_dir, lambda: _status(device, watchdog)):
            yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _status(device: Device, watchdog: Watchdog) -> dict[str, Any]:
    """What `tailkeeper status` shows."""
    return {
        "agent": __version__,
        "device": device.settings.device.id,
        "mode": "running" if device.watch else "safe mode",
        "complaints": [*watchdog.complaints, *filter(None, [device.spool.stats().degraded])],
        "broker": device.broker.problem or "connected",
        "stats": device.operations.stats().model_dump(),
    }


def _renewed(make: Callable[[Loaded], Device], wanted: Loaded, current: Loaded) -> tuple[Device, Loaded]:
    try:
        return make(wanted), wanted
    except TailkeeperError as error:
        log.error("configuration cannot be used, the old one stays", extra={"error": str(error)})
        return make(current), current
