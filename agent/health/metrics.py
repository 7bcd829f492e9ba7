"""The device's health in numbers: the stats message of the protocol, and the same numbers for Prometheus."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from threading import Event
from typing import Any

from agent import wire
from agent.clock import Clock, rfc3339
from agent.durable import TEMPORARY
from agent.health.counters import Counters, Latencies
from agent.health.sensors import Sensors, disk_free_mb
from agent.settings import HealthSettings

log = logging.getLogger(__name__)


class Health:
    """Collects what the service counts and what the device's sensors say."""

    def __init__(self, clock: Clock, state_dir: Path, *, sensors: Sensors | None = None) -> None:
        self._clock = clock
        self._state_dir = state_dir
        self._sensors = sensors or Sensors(clock)
        self._started_ns = clock.mono_ns()
        self.counters = Counters()
        self.inference = Latencies()

    def stats(
        self,
        *,
        cameras: dict[str, wire.CameraStats],
        spool: wire.SpoolStats,
        budget: dict[str, wire.BudgetStats],
        drift: dict[str, dict[str, float]],
    ) -> wire.Stats:
        """The whole stats message: what the caller knows, with this device's sensors and counters."""
        sensors = self._sensors
        return wire.Stats(
            ts=rfc3339(self._clock.wall_ns()),
            uptime_s=round((self._clock.mono_ns() - self._started_ns) / 1e9, 1),
            cameras=cameras,
            infer_ms=wire.InferStats(**self.inference.percentiles()),
            cpu=sensors.cpu(),
            rss_mb=sensors.rss_mb(),
            temp_c=sensors.temperature_c(),
            throttled=sensors.throttled(),
            clock_synced=self._clock.synced(),
            disk_free_mb=disk_free_mb(self._state_dir),
            spool=spool,
            budget=budget,
            drift=drift,
            counters=self.counters.snapshot(),
        )


_LABELS = {"cameras": "camera", "counters": "counter", "budget": "lane", "drift": "camera", "evicted": "reason"}
"""Tables of the stats whose keys are names, and the label that holds the name."""


def prometheus_text(stats: wire.Stats) -> str:
    """The numbers of the stats in Prometheus' text format; unknown ones are left out, texts become a label."""
    families: dict[str, list[str]] = {}
    for name, labels, value in _samples(stats.model_dump(exclude={"v", "ts"}), "tailkeeper", {}):
        families.setdefault(name, []).append(f"{name}{_label_text(labels)} {value}\n")
    return "".join(f"# TYPE {name} gauge\n{''.join(lines)}" for name, lines in families.items())


def write_prometheus(path: Path, stats: wire.Stats) -> None:
    """Replace the file that node_exporter's textfile collector reads; a reader never sees half of it.

    Not durable on purpose: the next one follows within a minute, and an fsync each would wear out the disk.
    """
    temporary = path.with_name(path.name + TEMPORARY)
    temporary.write_text(prometheus_text(stats), "utf-8")
    temporary.chmod(0o644)  # it is for another user, whatever the service's umask
    os.replace(temporary, path)


def keep_prometheus(settings: Callable[[], HealthSettings], stats: Callable[[], wire.Stats], stop: Event) -> None:
    """Write the textfile every `stats_s` seconds, where one is configured, until `stop` is set."""
    failed = False
    while not stop.wait(settings().stats_s):
        if not settings().prometheus_file:
            continue
        try:
            write_prometheus(Path(settings().prometheus_file), stats())
            failed = False
        except OSError as error:
            if not failed:
                log.warning("metrics not written", extra={"error": str(error)})
            failed = True


def _samples(
    tree: Mapping[str, Any], name: str, labels: dict[str, str]
) -> Iterator[tuple[str, dict[str, str], float | int]]:
    for key, value in tree.items():
        inner = f"{name}_{key}" if key else name
        if isinstance(value, Mapping) and key in _LABELS:
            for who, entry in value.items():
                table = entry if isinstance(entry, Mapping) else {"": entry}
                yield from _samples(table, inner, {**labels, _LABELS[key]: who})
        elif isinstance(value, Mapping):
            yield from _samples(value, inner, labels)
        elif isinstance(value, str):
            yield inner, {**labels, key: value}, 1
        elif value is not None:
            yield inner, labels, value + 0


def _label_text(labels: Mapping[str, str]) -> str:
    def escaped(text: str) -> str:
        return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")

    return "{" + ",".join(f'{name}="{escaped(value)}"' for name, value in labels.items()) + "}" if labels else ""
