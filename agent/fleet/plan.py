"""A staged roll-out on paper: who gets it when, and what has become of each; in a file, so that it can be resumed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from agent import durable
from agent.errors import ConfigError
from agent.records import Record
from agent.wire import ModelUpdate

_LAYOUT = 1
Fate = Literal["sent", "ok", "failed"]


class Outcome(Record):
    """What has become of one device."""

    fate: Fate
    version: int = 0
    """Of its desired configuration, where the roll-out is one of configuration."""
    cmd_id: str = ""
    """Of its model update, where it is one of a model."""
    reason: str = ""


class Stage(Record):
    """Devices that get it together; the next stage begins when these are well."""

    name: str
    devices: tuple[str, ...]


class Limits(Record):
    """When a roll-out stops by itself."""

    failures: float = Field(default=0.05, gt=0, le=1)
    """Share of a stage's devices that may not fail: at this share it stops."""
    drift: float | None = None
    """Drift measure above which a device counts as failed."""
    answer_s: float = Field(default=120.0, gt=0)
    """A device that says nothing for so long counts as failed."""
    soak_s: float = Field(default=75.0, ge=0)
    """How long a stage has to be well: longer than a device's own probation, so that what it rolls back is seen."""
    at_once: int = Field(default=200, ge=1)
    """Devices that are under way at the same time."""


class Plan(Record):
    """A roll-out and how far it has come."""

    values: dict[str, Any] | None = None
    """Configuration to roll out."""
    update: ModelUpdate | None = None
    """Model to roll out."""
    stages: tuple[Stage, ...]
    limits: Limits = Limits()
    outcomes: dict[str, Outcome] = Field(default_factory=dict)
    state: Literal["planned", "running", "stopped", "done"] = "planned"
    reason: str = ""

    def save(self, file: Path) -> None:
        durable.save_state(file, _LAYOUT, {"plan": self.model_dump(mode="json")})

    @classmethod
    def load(cls, file: Path) -> Plan:
        """The plan in `file`; raises ConfigError where there is none."""
        state = durable.load_state(file, _LAYOUT) if file.exists() else None
        try:
            return cls.model_validate((state or {})["plan"])
        except (KeyError, ValueError):
            raise ConfigError(f"{file}: no roll-out", remedy="name the file that `fleet rollout` wrote") from None

    def counts(self, stage: Stage) -> dict[str, int]:
        """Devices of a stage by fate; `waiting` ones have not got it yet."""
        fates = [self.outcomes[name].fate if name in self.outcomes else "waiting" for name in stage.devices]
        return {fate: fates.count(fate) for fate in ("waiting", "sent", "ok", "failed")}


def stages(devices: Sequence[str], canaries: Sequence[str], percents: Sequence[float]) -> tuple[Stage, ...]:
    """Canaries first, then up to each of the percentages of all devices, then the rest.

    The order is that of a hash of the ids: no stage is one building or one delivery of hardware. Raises ConfigError.
    """
    strangers = sorted(set(canaries) - set(devices))
    if strangers:
        raise ConfigError(f"canary {strangers[0]}: no such device", remedy="`tailkeeper fleet ls` lists them")
    rest = sorted(set(devices) - set(canaries), key=lambda name: hashlib.sha256(name.encode()).digest())
    order = [*dict.fromkeys(canaries), *rest]
    cuts = [len(set(canaries)), *(round(len(order) * percent / 100) for percent in sorted(percents)), len(order)]
    found = []
    for begin, end in zip([0, *cuts], cuts, strict=False):
        if end > begin:
            name = "canaries" if begin == 0 and canaries else f"{100 * end / len(order):.0f} %"
            found.append(Stage(name=name, devices=tuple(order[begin:end])))
    return tuple(found)
