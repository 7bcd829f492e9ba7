"""The device service: its parts, wired; its threads; the order in which they stop. No logic of its own.

Start: settings, `spool.recover()`, then all loops; an unreachable broker never delays collection.
Stop:  the watch loop first, the uplink finishes what is in flight within a limit, the spool closes last.
"""

from __future__ import annotations

import contextlib
import logging
import random
import secrets
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from agent import durable
from agent.broker import Broker, ConnectionCounter, Presence
from agent.camera import Cameras, open_cameras
from agent.clock import Clock, SystemClock
from agent.detector import Detector
from agent.errors import ConfigError, ServiceError, TailkeeperError
from agent.health import Health, Notifier, setup_logging
from agent.privacy import Privacy
from agent.records import Candidate, Thresholds
from agent.seal import Seal
from agent.selection import Selector
from agent.settings import Loaded, Settings
from agent.spool import Spool
from agent.uplink import Uplink
from agent.watch import STATE_VERSION, Watch
from agent.wire import Topics

log = logging.getLogger(__name__)

FINISH_S = 3.0
"""How long the uplink may finish what is in flight at a stop: systemd and people expect an end within five seconds."""


class Service:
    """One device. Whatever is wrong with its configuration or model is found when it is made."""

    def __init__(self, loaded: Loaded, clock: Clock) -> None:
        """Raises ConfigError, ModelError or CameraError, naming what cannot be used."""
        settings = loaded.settings
        state_dir = settings.device.state_dir
        _claim_state_dir(state_dir)
        rng = random.Random()  # jitter
        self.loaded = loaded
        self.health = Health(clock, state_dir)
        self.detector = Detector.from_settings(settings.model)
        topics = Topics(settings.broker.prefix, settings.device.id)
        presence = Presence(topics.status, clock.boot(), ConnectionCounter(state_dir / "connections.json"))
        self.broker = Broker(settings.broker, settings.device.id, clock, rng, presence=presence)
        self.spool = Spool(settings.device.spool_dir, settings.spool, clock, wake=self._wake_uplink)
        self.uplink = Uplink(
            self.spool,
            self.broker,
            topics,
            settings=settings.uplink,
            clock=clock,
            rng=rng,
            counters=self.health.counters,
        )
        self._seal = make_seal(settings, self.detector, clock)
        self.cameras = open_cameras(settings.cameras, clock, rng=rng)
        self.watch = make_watch(
            settings, self.cameras, self.detector, self._keep, self.health, state_dir / "selection.json"
        )
        self.failure: Exception | None = None
        """Why a loop ended by itself; the service cannot go on without it."""
        self._stops = {name: threading.Event() for name in ("watch", "uplink")}
        self._threads = {
            "watch": self._thread("watch", lambda: self.watch.run(self._stops["watch"])),
            "uplink": self._thread("uplink", lambda: self.uplink.run(self._stops["uplink"], FINISH_S)),
        }

    @contextlib.contextmanager
    def running(self) -> Iterator[Service]:
        """The loops run inside."""
        recovery = self.spool.recover()
        log.info("spool recovered", extra={"recovery": str(recovery)})
        self.broker.start()
        for thread in self._threads.values():
            thread.start()
        try:
            yield self
        finally:
            self.stop_watching()
            self._stop("uplink")
            self.broker.close()
            self.spool.close()

    def stop_watching(self) -> None:
        """End the watch loop: open windows are closed and what they picked is in the spool. Uploads go on."""
        self.cameras.wake()
        self._stop("watch")
        self.cameras.close()

    def apply(self, loaded: Loaded) -> bool:
        """Go on with another configuration; False where only a restart can do that. No frame is dropped."""
        return False

    def _stop(self, name: str) -> None:
        self._stops[name].set()
        if name == "watch":
            self.cameras.wake()
        else:
            self.uplink.wake()
        self._threads[name].join()

    def _thread(self, name: str, loop: Callable[[], None]) -> threading.Thread:
        def guarded() -> None:
            try:
                loop()
            except Exception as error:
                log.exception("%s loop failed", name)
                self.failure = error

        return threading.Thread(target=guarded, name=name)

    def _wake_uplink(self) -> None:
        self.uplink.wake()

    def _keep(self, candidate: Candidate) -> int:
        item = self._seal(candidate)
        self.spool.put(item)
        return len(item.image)


def serve(configuration: Callable[[], Loaded], stop: threading.Event, reload: threading.Event) -> None:
    """Run the device service until `stop` is set; a set `reload` reads the configuration again.

    A new configuration that cannot be used is reported, and the old one stays. Raises StopError when the first one
    cannot be used, and ServiceError when a loop failed (systemd then starts the service again).
    """
    clock, notifier = SystemClock(), Notifier()
    setup_logging(json=True, level="info")
    loaded: Loaded | None = configuration()
    service = Service(loaded, clock) if loaded else None
    while service and loaded:
        for warning in loaded.warnings():
            log.warning(warning)
        with service.running():
            notifier.ready(f"{len(loaded.settings.cameras)} cameras")
            wanted = _attend(service, configuration, stop, reload)
            notifier.stopping() if wanted is None else notifier.reloading()
        if service.failure:
            raise ServiceError(f"a loop failed: {service.failure!r}") from service.failure
        service = _next_service(wanted, loaded, clock) if wanted else None
        loaded = service.loaded if service else None


def _attend(
    service: Service, configuration: Callable[[], Loaded], stop: threading.Event, reload: threading.Event
) -> Loaded | None:
    """Wait beside the running service; the configuration to go on with, None to end."""
    while not stop.wait(0.2) and not service.failure:
        if reload.is_set():
            reload.clear()
            try:
                return configuration()
            except ConfigError as error:
                log.error("configuration not reloaded, the old one stays", extra={"error": str(error)})
    return None


def _next_service(wanted: Loaded, current: Loaded, clock: Clock) -> Service:
    try:
        return Service(wanted, clock)
    except TailkeeperError as error:
        log.error("configuration cannot be used, the old one stays", extra={"error": str(error)})
        return Service(current, clock)


def make_seal(settings: Settings, detector: Detector, clock: Clock) -> Seal:
    """What turns candidates into items, as configured."""
    return Seal(
        device=settings.device.id,
        model=detector.model,
        classes=detector.classes,
        thresholds=Thresholds(serve=settings.model.serve_threshold, floor=settings.model.select_floor),
        image=settings.image,
        privacy=Privacy(settings.cameras, detector.classes),
        clock=clock,
    )


def make_watch(
    settings: Settings,
    cameras: Cameras,
    detector: Detector,
    keep: Callable[[Candidate], int],
    health: Health,
    state_file: Path | None = None,
) -> Watch:
    """The watch loop as configured, budgets as they were; used alike for live cameras and for replay."""
    selector = Selector(
        settings.selection,
        serve=settings.model.serve_threshold,
        floor=settings.model.select_floor,
        classes=detector.classes,
        counts=detector.counts,
        odds=detector.odds,
        seed=settings.selection.seed or secrets.randbits(62),
        state=durable.load_state(state_file, STATE_VERSION) if state_file else None,
        cameras=[camera.name for camera in settings.cameras],
    )
    return Watch(
        cameras=cameras,
        detector=detector,
        selector=selector,
        privacy=Privacy(settings.cameras, detector.classes),
        keep=keep,
        health=health,
        state_file=state_file,
    )


def _claim_state_dir(folder: Path) -> None:
    try:
        durable.make_folder(folder)
        (folder / f".write-test{durable.TEMPORARY}").write_bytes(b"")
    except OSError as error:
        raise ConfigError(
            f"device.state_dir {folder}: {error.strerror}", remedy="name a folder that the service may write to"
        ) from None
