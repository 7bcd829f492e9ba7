"""One device: its parts, its loops, and the order in which they start and stop."""

from __future__ import annotations

import contextlib
import logging
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from agent import durable
from agent.broker import Broker, ConnectionCounter, Presence
from agent.camera import Cameras, Stamper, open_cameras
from agent.clock import Clock
from agent.control import Control, Desired, rehearse
from agent.detector import Detector
from agent.errors import ConfigError, SpoolFullError
from agent.health import Health, Restraint, Sensors
from agent.models import ModelStore, Rollout, Runtime
from agent.service.operations import Operations
from agent.service.parts import make_parts
from agent.settings import Loaded, Settings
from agent.spool import Spool
from agent.uplink import Uplink
from agent.watch import STAMP, STATE_VERSION, Watch
from agent.wire import Topics

log = logging.getLogger(__name__)

FINISH_S = 2.5
"""How long the uplink may finish what is in flight at a stop: systemd and people expect an end within five seconds."""
SAFE_MODE = "safe mode after repeated crashes: nothing is collected"


class Device:
    """Everything that makes a device, wired. Whatever is wrong with configuration or model is found when it is made."""

    def __init__(
        self,
        loaded: Loaded,
        clock: Clock,
        *,
        safe: bool = False,
        restart: Callable[[], None] = lambda: None,
        check: Callable[[], object] = lambda: None,
    ) -> None:
        """`safe`: control only, for a device that crashes again and again. `restart` ends the process; `check` is the
        doctor's word for diagnoses. Raises ConfigError, ModelError or CameraError, naming what cannot be used.
        """
        state_dir = loaded.settings.device.state_dir
        claim(state_dir)
        desired = Desired(state_dir / "control", loaded)
        self.settings: Settings = desired.loaded.settings
        self.clock, self.rng = clock, random.Random()
        self.models = ModelStore(state_dir / "models", self.settings.model.path)
        self.cameras: Cameras | None = None
        self.watch: Watch | None = None
        with ThreadPoolExecutor(1, thread_name_prefix="load") as aside:  # all else is made while the model is loaded
            model = None if safe else aside.submit(self.models.open, self.load_model)
            self.health = Health(clock, state_dir)
            self.spool = Spool(self.settings.device.spool_dir, self.settings.spool, clock, wake=self._wake)
            self.broker = self._make_broker(state_dir)
            self.uplink = self._make_uplink()
            self.operations = Operations(self, desired.loaded, restart=restart, check=check)
            self.control = self._make_control(desired, state_dir / "control")
            if model:
                self.watch = self._make_watch(state_dir / "selection.json", model)
        self.failure: Exception | None = None
        """Why a loop ended by itself; the device cannot go on without it."""
        self._loops: dict[str, _Loop] = {}

    @contextlib.contextmanager
    def running(self) -> Iterator[Device]:
        """The loops run inside. An unreachable broker delays nothing."""
        try:
            self.spool.recover()
        except SpoolFullError as error:  # the spool tries again with every call
            log.error("spool not recovered yet", extra={"error": str(error)})
        self.control.restore()
        self.broker.start()
        if self.watch:
            self._start("watch", self.watch.run)
            self._start("uplink", lambda stop: self.uplink.run(stop, FINISH_S))
        else:
            self.broker.alert("mode", SAFE_MODE)
        self._start("control", self.control.run)
        try:
            yield self
        finally:
            self.stop_watching()
            for name in ("uplink", "control"):
                self._stop(name)
            self.broker.close()
            self.spool.close()

    @property
    def ended(self) -> bool:
        """Whether every source was a recording and all of it has been looked at."""
        return self.watch is not None and self.watch.ended.is_set()

    def stop_watching(self) -> None:
        """End the watch loop: windows are closed and what they picked is in the spool. Uploads go on."""
        self._stop("watch")
        if self.cameras:
            self.cameras.close()

    def _start(self, name: str, loop: Callable[[threading.Event], None]) -> None:
        self._loops[name] = _Loop(name, loop, self._fail)

    def _stop(self, name: str) -> None:
        if loop := self._loops.pop(name, None):
            loop.stop.set()
            self._wake()
            if self.cameras:
                self.cameras.wake()
            loop.thread.join()

    def _fail(self, error: Exception) -> None:
        self.failure = error

    def _wake(self) -> None:
        self.uplink.wake()

    def _make_broker(self, state_dir: Path) -> Broker:
        settings = self.settings
        connections = ConnectionCounter(state_dir / "connections.json")
        presence = Presence(self._topics.status, self.clock.boot(), connections)
        return Broker(settings.broker, settings.device.id, self.clock, self.rng, presence=presence)

    def _make_uplink(self) -> Uplink:
        return Uplink(
            self.spool,
            self.broker,
            self._topics,
            settings=self.settings.uplink,
            clock=self.clock,
            rng=self.rng,
            counters=self.health.counters,
        )

    def _make_watch(self, state_file: Path, model: Future[Detector]) -> Watch:
        """The cameras come first: they are opened and give their first frames while the model is loaded."""
        state = durable.load_state(state_file, STATE_VERSION) or {}
        stamper = Stamper(self.clock, int(state.get(STAMP, 0)))
        self.cameras = open_cameras(self.settings.cameras, self.clock, stamper=stamper, rng=self.rng)
        try:
            parts = make_parts(self.settings, model.result(), self.clock, budgets=state)
        except BaseException:
            self.cameras.close()
            raise
        return Watch(
            self.cameras,
            parts,
            keep=lambda _, item: self.spool.put(item),
            health=self.health,
            clock=self.clock,
            state_file=state_file,
            newest_stamp=lambda: stamper.newest_ns,
            share=Restraint(lambda: self.settings.health.busy_share, Sensors(self.clock).throttled, self.clock),
        )

    def _make_control(self, desired: Desired, folder: Path) -> Control:
        model = self.settings.model
        operations = self.operations
        runtime = Runtime(
            rehearse=rehearse(floor=model.select_floor, threads=model.threads, providers=model.providers),
            warm=operations.warm,
            pulse=operations.model_pulse,
            required_classes=operations.required_classes,
        )
        rollout = Rollout(
            self.models,
            runtime,
            trusted_keys=model.trusted_keys,
            trial_s=model.trial_s,
            clock=self.clock,
            rng=self.rng,
        )
        return Control(
            desired=desired,
            broker=self.broker,
            device=self.settings.device.id,
            ops=operations.table(),
            rollout=rollout,
            folder=folder,
            clock=self.clock,
            rng=self.rng,
        )

    def load_model(self, path: Path) -> Detector:
        """A warm detector for the model at `path`, as configured; raises ModelError."""
        model = self.settings.model.model_copy(update={"path": path})
        return Detector.from_settings(model, cache=self.settings.device.state_dir / "engines")

    @property
    def _topics(self) -> Topics:
        return Topics(self.settings.broker.prefix, self.settings.device.id)


class _Loop:
    """A loop in a thread of its own; one that fails is reported and ends the device."""

    def __init__(self, name: str, loop: Callable[[threading.Event], None], fail: Callable[[Exception], None]) -> None:
        self.stop = threading.Event()

        def run() -> None:
            try:
                loop(self.stop)
            except Exception as error:
                log.exception("loop failed", extra={"loop": name})
                fail(error)

        self.thread = threading.Thread(target=run, name=name)
        self.thread.start()


def claim(folder: Path) -> None:
    """Make the state folder; raises ConfigError where the service may not write to it."""
    probe = folder / f".write-test{durable.TEMPORARY}"
    try:
        durable.make_folder(folder)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise ConfigError(
            f"device.state_dir {folder}: {error.strerror}", remedy="name a folder that the service may write to"
        ) from None
