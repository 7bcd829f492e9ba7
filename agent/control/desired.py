"""The configuration the fleet wants: levels, versions, the trial of a new one, and what is reported back.

Levels are ``all``, ``groups.<name>`` in the order of `device.groups`, and ``device``; later ones win. A level is taken
when its version is newer than any seen there and the merged whole is valid. It is stored before it is applied, with
the values before it beside it until its trial is over: whenever the power goes, the next start has a valid
configuration, and one that makes the agent crash is given up after a few starts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from agent import durable
from agent.errors import ConfigError
from agent.records import Record
from agent.settings import Loaded, merge
from agent.wire import ConfigProblem, DesiredConfig, ReportedConfig, Versions

_LAYOUT = 1
STARTS_IN_TRIAL = 3
"""Starts of the agent within the trial of one configuration: more is a crash loop, and that configuration its cause."""
PROBLEMS_LIMIT = 20
"""Problems reported per level: who sent a hundred wrong keys learns from the first."""


class Level(Record):
    """What one level wants."""

    version: int
    values: dict[str, Any]


class Seen(Record):
    """The newest version that came at a level, taken or refused, and a digest of it."""

    version: int
    digest: str


class Trial(Record):
    """A configuration that is in force and has yet to prove itself."""

    level: str
    version: int
    before: dict[str, Level]
    """The levels as they were when all was well."""
    starts: int = 0


class State(Record):
    levels: dict[str, Level] = Field(default_factory=dict)
    seen: dict[str, Seen] = Field(default_factory=dict)
    problems: dict[str, tuple[ConfigProblem, ...]] = Field(default_factory=dict)
    trial: Trial | None = None


class Desired:
    """Desired configuration of one device, kept in one small file; used by one thread."""

    def __init__(self, folder: Path, base: Loaded, *, trace: Callable[[str], None] = lambda _: None) -> None:
        """`base`: the device's own configuration. `trace` is told each step that changes something on the disk."""
        self._file = folder / "desired.json"
        self._base = base
        self._trace = trace
        self._order = ("all", *(f"groups.{name}" for name in base.settings.device.groups), "device")
        durable.make_folder(folder)
        state = durable.load_state(self._file, _LAYOUT)
        try:
            self._state = State.model_validate(state or {})
        except ValueError:
            self._state = State()
        self._usable: frozenset[str] = frozenset()
        """Levels that are valid together with the device's own configuration as it is now."""
        self.loaded = self._resume()
        """The configuration in force: the device's own with the fleet's values in it."""

    @property
    def trial(self) -> Trial | None:
        return self._state.trial

    def offer(self, level: str, wanted: DesiredConfig) -> bool:
        """Take a level's new values; True where the configuration in force is another now and has to be applied.

        False where nothing changes: not new, the same values, or refused, which `report` tells.
        """
        digest = _digest(wanted.values)
        seen = self._state.seen.get(level)
        if seen and wanted.version <= seen.version:
            if (wanted.version, digest) != (seen.version, seen.digest):
                what = "older than" if wanted.version < seen.version else "other values under the number of"
                self.refuse(level, wanted.version, f"{what} version {seen.version}, which was seen before", "version")
            return False
        levels = {**self._state.levels, level: Level(version=wanted.version, values=wanted.values)}
        seen_now = {**self._state.seen, level: Seen(version=wanted.version, digest=digest)}
        try:
            loaded = self._merged({name: each for name, each in levels.items() if name in {*self._usable, level}})
        except ConfigError as error:
            self._save(seen=seen_now, problems=self._with_problems(level, _problems(level, wanted.version, error)))
            return False
        changed = loaded.settings != self.loaded.settings
        trial = self._state.trial
        if changed:
            before = trial.before if trial else self._state.levels
            trial = Trial(level=level, version=wanted.version, before=before)
        self._save(levels=levels, seen=seen_now, problems=self._with_problems(level, ()), trial=trial)
        self.loaded, self._usable = loaded, self._usable | {level}
        return changed

    def refuse(self, level: str, version: int, msg: str, path: str = "") -> bool:
        """Report what came at a level as wrong; False where that is reported already."""
        problem = ConfigProblem(level=level, version=version, path=path, msg=msg)
        if self._state.problems.get(level) == (problem,):
            return False
        self._save(problems=self._with_problems(level, (problem,)))
        return True

    def settle(self) -> None:
        """The configuration in force has proved itself."""
        if self._state.trial:
            self._save(trial=None)

    def roll_back(self, reason: str) -> None:
        """Return to the levels before the trial, and report why."""
        trial = self._state.trial
        if trial is None:
            return
        problem = ConfigProblem(level=trial.level, version=trial.version, path="", msg=f"rolled back: {reason}")
        self._save(levels=trial.before, trial=None, problems=self._with_problems(trial.level, (problem,)))
        self.loaded = self._fold()

    def report(self) -> ReportedConfig:
        """What is in force and what was wrong, for ``up/config``; no secrets in it."""
        state, values = self._state, self.loaded.tables()
        applied = _versions({name: state.levels[name].version for name in self._usable})
        return ReportedConfig(
            version=applied.device,
            versions=applied,
            hash=_digest(values),
            values=values,
            errors=tuple(problem for found in state.problems.values() for problem in found),
            seen=_versions({name: seen.version for name, seen in state.seen.items()}),
        )

    def _resume(self) -> Loaded:
        """What is in force at a start; a configuration that keeps the agent from staying up is given up."""
        trial = self._state.trial
        if trial and trial.starts >= STARTS_IN_TRIAL:
            self.roll_back(f"the agent started {trial.starts} times within its trial: a crash loop")
        elif trial:
            self._save(trial=trial.model_copy(update={"starts": trial.starts + 1}))
        return self._fold()

    def _fold(self) -> Loaded:
        """Every stored level that is still valid: the device's own file may have changed under them."""
        kept: dict[str, Level] = {}
        loaded = self._base
        for name, level in self._ordered(self._state.levels):
            try:
                loaded = self._merged({**kept, name: level})
                kept[name] = level
            except ConfigError as error:
                self._save(problems=self._with_problems(name, _problems(name, level.version, error)))
        self._usable = frozenset(kept)
        return loaded

    def _merged(self, levels: Mapping[str, Level]) -> Loaded:
        return self._base.with_desired(merge(*(level.values for _, level in self._ordered(levels))))

    def _ordered(self, levels: Mapping[str, Level]) -> Iterator[tuple[str, Level]]:
        return ((name, levels[name]) for name in self._order if name in levels)

    def _with_problems(self, level: str, problems: tuple[ConfigProblem, ...]) -> dict[str, tuple[ConfigProblem, ...]]:
        others = {name: found for name, found in self._state.problems.items() if name != level}
        return {**others, level: problems[:PROBLEMS_LIMIT]} if problems else others

    def _save(self, **changes: Any) -> None:
        state = self._state.model_copy(update=changes)
        self._trace("config.saving")
        durable.save_state(self._file, _LAYOUT, state.model_dump(mode="json"))
        self._state = state
        self._trace("config.saved")


def _problems(level: str, version: int, error: ConfigError) -> tuple[ConfigProblem, ...]:
    found = error.problems or (("", error.what),)
    return tuple(ConfigProblem(level=level, version=version, path=path[:200], msg=msg[:400]) for path, msg in found)


def _versions(numbers: Mapping[str, int]) -> Versions:
    groups = {name.removeprefix("groups."): n for name, n in numbers.items() if name.startswith("groups.")}
    return Versions(all=numbers.get("all", 0), device=numbers.get("device", 0), groups=groups)


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
