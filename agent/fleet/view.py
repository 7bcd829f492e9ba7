"""What the messages of a device say about it, put together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar

from agent.errors import WireError
from agent.wire import CommandState, Info, Payload, ReportedConfig, Stats, Status

Kind = TypeVar("Kind", bound=Payload)


@dataclass(slots=True)
class Device:
    """The newest messages of one device, as bytes: a fleet sends many more than anybody looks at."""

    id: str
    raw: dict[str, bytes] = field(default_factory=dict)
    """By topic below ``up/``: status, info, config, stats, cmd/<id>."""
    _parsed_of: dict[str, Payload | None] = field(default_factory=dict)
    _status: Status | None = None

    def take(self, topic: str, payload: bytes) -> None:
        """A message on ``up/<topic>``; an empty one takes a retained one away."""
        self._parsed_of.pop(topic, None)
        if topic == "status":
            self._take_status(payload)
        elif payload:
            self.raw[topic] = payload
        else:
            self.raw.pop(topic, None)

    def _take_status(self, payload: bytes) -> None:
        """A will that comes late speaks of an older connection than the one that is up: it is ignored."""
        try:
            status = Status.decode(payload)
        except WireError:
            return
        if self._status is None or status.conn >= self._status.conn:
            self._status = status

    @property
    def status(self) -> Status | None:
        return self._status

    @property
    def info(self) -> Info | None:
        return self._parsed("info", Info)

    @property
    def config(self) -> ReportedConfig | None:
        return self._parsed("config", ReportedConfig)

    @property
    def stats(self) -> Stats | None:
        return self._parsed("stats", Stats)

    def command(self, cmd_id: str) -> CommandState | None:
        return self._parsed(f"cmd/{cmd_id}", CommandState)

    @property
    def drift(self) -> float | None:
        """The largest drift measure of any camera; None while unknown."""
        stats = self.stats
        return (
            max((abs(v) for of_camera in stats.drift.values() for v in of_camera.values()), default=None)
            if stats
            else None
        )

    @property
    def groups(self) -> tuple[str, ...]:
        config = self.config
        groups = config.values.get("device", {}).get("groups", ()) if config else ()
        return tuple(str(group) for group in groups)

    def row(self) -> dict[str, Any]:
        """One line of the fleet's table; what is unknown is None."""
        info, config, stats = self.info, self.config, self.stats
        cameras = list(stats.cameras.values()) if stats else []
        ages = [camera.frame_age_s for camera in cameras if camera.frame_age_s is not None]
        rates = [camera.fps for camera in cameras if camera.fps is not None]
        return {
            "device": self.id,
            "state": self.status.state if self.status else None,
            "reason": self.status.reason if self.status else None,
            "agent": info.agent if info else None,
            "model": info.model.id if info and info.model else None,
            "fps": round(sum(rates), 2) if rates else None,
            "temp_c": stats.temp_c if stats else None,
            "spool": stats.spool.items if stats else None,
            "frame_age_s": max(ages, default=None),
            "drift": self.drift,
            "config": config.version if config else None,
            "errors": len(config.errors) if config else None,
            "ts": stats.ts if stats else (self.status.ts if self.status else None),
        }

    def _parsed(self, topic: str, kind: type[Kind]) -> Kind | None:
        """None also for what a broken or newer device says: one such must not hide the rest of the fleet."""
        if topic not in self._parsed_of:
            try:
                self._parsed_of[topic] = kind.decode(self.raw[topic]) if topic in self.raw else None
            except WireError:
                self._parsed_of[topic] = None
        found = self._parsed_of[topic]
        return found if isinstance(found, kind) else None
