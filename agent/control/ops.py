"""What operators can ask of a device, and what control needs of the agent to do it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from pydantic import ConfigDict, Field

from agent.records import Record
from agent.settings import Loaded
from agent.wire import Info, ModelUpdate, Stats

What: TypeAlias = Literal["collect", "upload", "all"]


@dataclass(frozen=True, slots=True)
class Ops:
    """The running agent, as control sees it. Called from control's own threads; each may take seconds.

    A refusal or failure is raised as a TailkeeperError, whose text the operator reads.
    """

    apply: Callable[[Loaded], None]
    """Swap the configuration between two frames; when it raises, the one before stays in force."""
    frames: Callable[[], Mapping[str, float | None]]
    """Per camera that should give frames now, the age in seconds of its newest one that went through the loop; None
    where there was none yet. Cameras that are paused, out of schedule or ended are left out."""
    pause: Callable[[What], None]
    resume: Callable[[What], None]
    flush: Callable[[], None]
    """Close windows now and upload without waiting."""
    capture: Callable[[str | None, str], list[str]]
    """(camera or all, key) -> cids of frames that were taken after the call and are in the spool; when it is called
    again with the same key, the cids that are there already."""
    restart: Callable[[], None]
    """End the agent; systemd starts it again."""
    purge: Callable[[int | None], int]
    """Delete this number of spooled items, which must be all of them; None: however many there are."""
    diag: Callable[[], dict[str, Any]]
    """Versions, configuration without secrets, counters, last events, what `check` says."""
    log_level: Callable[[str, float], None]
    """(level, seconds)"""
    need: Callable[[Mapping[str, float]], None]
    """Weights per class name that the fleet still needs."""
    stats: Callable[[], Stats]
    info: Callable[[tuple[str, ...]], Info]
    """Birth certificate; its argument is the list of ops."""


class Arguments(Record):
    """Base of the commands' arguments: a wrong key is refused, since it would change what the operator meant."""

    model_config = ConfigDict(extra="forbid")


class NoArguments(Arguments):
    pass


class Capture(Arguments):
    camera: str | None = Field(default=None, max_length=64)


class Which(Arguments):
    what: What = "all"


class Purge(Arguments):
    expect: int | None = Field(default=None, ge=0)
    """Items that will be deleted; without it the answer says how many there are."""


class LogLevel(Arguments):
    level: Literal["debug", "info", "warning", "error"]
    for_s: float = Field(default=600.0, gt=0, le=86_400)


class Update(ModelUpdate, Arguments):
    """Arguments of model_update."""
