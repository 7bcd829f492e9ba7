"""What is wrong with this device: configuration, model, cameras, disk, clock, broker, permissions.

Every finding names its remedy. Nothing is written and nothing of the running service is disturbed: the broker is asked
under a client id of its own, and a camera that the service holds is left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from agent.clock import Clock, SystemClock
from agent.doctor.broker import check_broker
from agent.doctor.check import Check, Status
from agent.doctor.machine import check_clock, check_disk, check_permissions
from agent.doctor.sight import check_cameras, check_model
from agent.errors import ConfigError
from agent.settings import Loaded, load

__all__ = ["Check", "Status", "run_checks"]


def run_checks(
    config: Path | None, *, clock: Clock | None = None, environ: Mapping[str, str] | None = None
) -> list[Check]:
    """Look at everything that the service of this config file needs (None: the default file).

    With a configuration that cannot be used, that is the only finding: nothing else is known then.
    """
    clock = clock or SystemClock()
    try:
        loaded = load(config, environ=environ)
        loaded.require_service()
    except ConfigError as error:
        remedy = error.remedy or "correct the file; `tailkeeper config schema` lists every key"
        return [Check("config", "fail", line, remedy) for line in error.what.splitlines()]
    return [
        *_check_config(loaded),
        *check_permissions(loaded),
        *check_disk(loaded.settings),
        *check_clock(clock),
        *check_model(loaded.settings),
        *check_cameras(loaded.settings, clock),
        *check_broker(loaded.settings, clock),
    ]


def _check_config(loaded: Loaded) -> list[Check]:
    where = str(loaded.file or "defaults and environment")
    warnings = [Check("config", "warn", *_split(warning)) for warning in loaded.warnings()]
    return warnings or [Check("config", "ok", f"{where} is valid")]


def _split(warning: str) -> tuple[str, str]:
    """What is wrong and its remedy, of one line in which a colon stands between them."""
    what, _, remedy = warning.partition(": ")
    return (what, remedy) if remedy else (warning, "")
