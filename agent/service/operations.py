"""What control may ask of the running device, in control's threads; what touches frames is posted to the watch."""

from __future__ import annotations

import platform
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent import __version__, wire
from agent.clock import rfc3339
from agent.control import Ops
from agent.errors import RejectError
from agent.health import recent_events, set_level
from agent.models import Pulse
from agent.service.parts import change_parts, make_parts
from agent.settings import Loaded
from agent.spool import listing, read_item
from agent.watch import Watch

if TYPE_CHECKING:
    from agent.service.device import Device

OWES_NOTHING = frozenset({"off", "ended"})
LEVEL = "info"


class Operations:
    """The operations of one device."""

    def __init__(
        self, device: Device, loaded: Loaded, *, restart: Callable[[], None], check: Callable[[], object]
    ) -> None:
        self._device = device
        self._loaded = loaded
        self._restart = restart
        self._check = check
        self._level_timer: threading.Timer | None = None

    def table(self) -> Ops:
        """As control takes them."""
        return Ops(
            apply=self.apply,
            frames=self.frames,
            pause=lambda what: self._set_paused(what, paused=True),
            resume=lambda what: self._set_paused(what, paused=False),
            flush=self.flush,
            capture=self.capture,
            restart=self._restart,
            purge=self.purge,
            diag=self.diag,
            log_level=self.log_level,
            need=self.need,
            stats=self.stats,
            info=self.info,
        )

    def apply(self, loaded: Loaded) -> None:
        """Swap what may be set from afar between two frames; raises ConfigError for what this device cannot do."""
        device, before, after = self._device, self._loaded.settings, loaded.settings
        if device.watch:
            device.watch.exchange(lambda parts: change_parts(parts, before, after, device.clock))
        for camera in device.cameras or ():
            settings = next(each for each in after.cameras if each.name == camera.name)
            camera.set_fps(settings.fps)
            camera.set_schedule(settings.schedule)
        device.uplink.apply(after.uplink)
        device.settings, self._loaded = after, loaded

    def frames(self) -> dict[str, float | None]:
        """Age in seconds of the newest frame of every camera that owes frames now."""
        watch = self._device.watch
        if watch is None or watch.paused or self._device.cameras is None:
            return {}
        now = self._device.clock.mono_ns()
        owing = [name for name, health in self._device.cameras.health().items() if health.state not in OWES_NOTHING]
        return {name: (now - watch.newest[name]) / 1e9 if name in watch.newest else None for name in owing}

    def _set_paused(self, what: str, *, paused: bool) -> None:
        if what in ("collect", "all") and self._device.watch:
            self._device.watch.paused = paused
            self._device.watch.pulse.beat()
        if what in ("upload", "all"):
            self._device.uplink.paused = paused
            self._device.uplink.wake()

    def flush(self) -> None:
        self._watch.post(self._watch.flush).result()
        self._device.uplink.flush()

    def capture(self, camera: str | None, key: str) -> list[str]:
        """Frames taken after the call, in the spool; those that an earlier call with this key took, where it did."""
        if taken := self._captured(f"command {key}"):
            return taken
        cameras = [each.name for each in self._device.settings.cameras if camera in (None, each.name)]
        if not cameras:
            known = ", ".join(each.name for each in self._device.settings.cameras)
            raise RejectError(f"no camera {camera!r}", remedy=f"this device has {known}")
        return self._watch.capture(cameras, key)

    def _captured(self, reason: str) -> list[str]:
        folder = self._device.settings.device.spool_dir
        manual = [entry.cid for entry in listing(folder) if entry.lane == "manual" and entry.state != "quarantine"]
        return [cid for cid in manual if reason in read_item(folder, cid).meta.reasons]

    def purge(self, expect: int | None) -> int:
        spool = self._device.spool
        return spool.purge(spool.stats().items if expect is None else expect)

    def diag(self) -> dict[str, Any]:
        device = self._device
        return {
            "agent": __version__,
            "python": platform.python_version(),
            "system": platform.platform(),
            "model": device.watch.parts.detector.model.model_dump() if device.watch else None,
            "providers": device.watch.parts.detector.providers if device.watch else None,
            "config": dict(self._loaded.shown()),
            "stats": self.stats().model_dump(),
            "cameras": {name: health.error for name, health in device.cameras.health().items()}
            if device.cameras
            else {},
            "events": recent_events(),
            "check": self._check(),
        }

    def log_level(self, level: str, for_s: float) -> None:
        """Show events from `level` on for a while."""
        if self._level_timer:
            self._level_timer.cancel()
        set_level(level)
        self._level_timer = threading.Timer(for_s, set_level, (LEVEL,))
        self._level_timer.daemon = True
        self._level_timer.start()

    def need(self, weights: Mapping[str, float]) -> None:
        if watch := self._device.watch:
            watch.post(lambda: watch.parts.selector.need(weights))

    def stats(self) -> wire.Stats:
        device = self._device
        spool = device.spool.stats()
        device.broker.alert("spool", spool.degraded)
        report = device.watch.parts.selector.report() if device.watch else {}
        return device.health.stats(
            cameras={
                name: wire.CameraStats(
                    state=health.state,
                    fps=round(health.fps, 2),
                    frame_age_s=health.frame_age_s,
                    reconnects=health.reconnects,
                    dropped=health.dropped,
                )
                for name, health in (device.cameras.health() if device.cameras else {}).items()
            },
            spool=wire.SpoolStats.model_validate(spool, from_attributes=True),
            budget={lane: wire.BudgetStats(**figures) for lane, figures in report.get("budget", {}).items()},
            drift=report.get("drift", {}),
        )

    def info(self, ops: tuple[str, ...]) -> wire.Info:
        device, settings = self._device, self._device.settings
        detector = device.watch.parts.detector if device.watch else None
        return wire.Info(
            device=settings.device.id,
            agent=__version__,
            hardware={"machine": platform.machine(), "system": platform.system(), "kernel": platform.release()},
            cameras=tuple(camera.name for camera in settings.cameras),
            model=detector.model if detector else None,
            classes=detector.classes if detector else (),
            ops=ops,
            limits={"max_packet_bytes": settings.broker.max_packet_bytes, "spool_bytes": settings.spool.max_bytes},
            boot=device.clock.boot(),
            ts=rfc3339(device.clock.wall_ns()),
        )

    # What a model roll-out needs

    def warm(self, path: Path) -> Callable[[], None]:
        """Load a model beside the running one; what is returned makes it the running one between two frames.

        In safe mode none runs: the next start takes it.
        """
        if self._device.watch is None:
            return lambda: None
        detector = self._device.load_model(path)

        def switch() -> None:
            def renewed(parts: Any) -> Any:
                budgets = parts.selector.state()
                return make_parts(self._device.settings, detector, self._device.clock, budgets=budgets)

            self._watch.exchange(renewed)

        return switch

    def model_pulse(self) -> Pulse:
        return self._device.watch.model_pulse() if self._device.watch else Pulse()

    def required_classes(self) -> Sequence[str]:
        settings = self._device.settings
        redacted = {name for camera in settings.cameras for name in camera.redact}
        return sorted(redacted | {name for rule in settings.selection.rules for name in rule.classes})

    @property
    def _watch(self) -> Watch:
        if self._device.watch is None:
            raise RejectError(
                "the device is in safe mode and looks at no camera", remedy="mend the cause, then restart"
            )
        return self._device.watch
