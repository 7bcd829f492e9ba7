"""What the report says, gathered in one pass over the index; only labelled canary draws have their files read."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, TypeAlias

from agent.collector import TRUTH, LabelStore, devices
from agent.dataset.report.accuracy import Canary, errors_of

Row: TypeAlias = dict[str, Any]

_STEPS = (
    *(timedelta(seconds=n) for n in (2, 10, 30)),
    *(timedelta(minutes=n) for n in (1, 5, 15)),
    *(timedelta(hours=n) for n in (1, 6)),
    *(timedelta(days=n) for n in (1, 7, 28, 364, 3640)),
)
_BINS = 40
"""Steps of time in a chart at most."""
_LATE, _EARLY = timedelta(days=60), timedelta(hours=1)
"""A time stamp so long before or after a candidate's arrival is a wrong clock's."""
_COLUMNS = (
    "c.cid, device, camera, ts, received, lane, score, probability, model, bytes, c.label AS state, served, "
    "width, height, l.revision, l.verdict, l.who, l.at, l.classes AS drawn"
)


@dataclass(frozen=True, slots=True)
class Axis:
    """Time in equal steps."""

    start: datetime
    step: timedelta
    bins: int

    @classmethod
    def over(cls, first: datetime, last: datetime) -> Axis:
        """The finest axis of few enough steps, each beginning at a round time."""
        for step in _STEPS:
            begin = datetime(1, 1, 1, tzinfo=timezone.utc)
            begin += (first - begin) // step * step
            bins = (last - begin) // step + 1
            if bins <= _BINS:
                break
        return cls(begin, step, bins)

    def bin(self, at: datetime) -> int:
        return min(max((at - self.start) // self.step, 0), self.bins - 1)

    def label(self, number: int) -> str:
        """When the step begins, no finer than the step."""
        at = self.start + number * self.step
        if self.step < timedelta(minutes=1):
            return f"{at:%H:%M:%S}"
        return f"{at:%d %b %H:%M}" if self.step < timedelta(days=1) else f"{at:%d %b %Y}"


@dataclass(slots=True)
class Camera:
    """One camera of one device."""

    lanes: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)
    canaries: list[Canary] = field(default_factory=list)


@dataclass(slots=True)
class Facts:
    """Everything that is shown; lists over time have one entry per step of an axis."""

    axis: Axis
    label_axis: Axis | None
    devices: list[Row]
    candidates: int = 0
    bytes: int = 0
    states: Counter[str] = field(default_factory=Counter)
    models: Counter[str] = field(default_factory=Counter)
    lanes: dict[str, list[int]] = field(default_factory=dict)
    served: Counter[str] = field(default_factory=Counter)
    drawn: Counter[str] = field(default_factory=Counter)
    """Objects that people drew, by class, where their label may be learned from."""
    cameras: dict[tuple[str, str], Camera] = field(default_factory=lambda: defaultdict(Camera))
    """By device and camera."""
    people: dict[str, list[int]] = field(default_factory=dict)
    """Labels that stand, by who said so."""
    pictures: dict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))
    """Candidates for the contact sheets, by lane, evenly over time."""
    unread: int = 0
    """Labelled canary draws whose files cannot be read."""

    @property
    def canaries(self) -> list[Canary]:
        return [one for camera in self.cameras.values() for one in camera.canaries]


def gather(store: LabelStore, tiles: int) -> Facts | None:
    """The facts of a store, with up to `tiles` pictures per lane; None where nothing has arrived."""
    store.describe_all()
    ends: list[datetime] = []
    said: list[datetime] = []
    numbers: Counter[str] = Counter()
    for row in store.rows("lane, ts, received, l.at", "1 ORDER BY ts_ns, c.cid"):
        numbers[row["lane"]] += 1
        _widen(ends, captured(row))
        if row["at"]:
            _widen(said, _time(row["at"]))
    if not ends:
        return None
    facts = Facts(Axis.over(*ends), Axis.over(*said) if said else None, devices(store.folder))
    every = {lane: -(-number // tiles) for lane, number in numbers.items()}
    for row in store.rows(_COLUMNS, "1 ORDER BY ts_ns, c.cid"):
        _add(facts, row, store.folder, every)
    return facts


def _widen(ends: list[datetime], at: datetime) -> None:
    ends[:] = [min([*ends, at]), max([*ends, at])]


def captured(row: Mapping[str, Any]) -> datetime:
    """When a candidate was taken; when it arrived, where its own clock cannot have been right."""
    taken, arrived = _time(row["ts"]), _time(row["received"])
    return taken if arrived - _LATE <= taken <= arrived + _EARLY else arrived


def _time(text: str) -> datetime:
    """RFC 3339 to the second, as far back as Python 3.10 reads it."""
    found = datetime.fromisoformat(re.sub(r"\.\d+", "", text).upper().replace("Z", "+00:00").replace(" ", "T"))
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)


def _add(facts: Facts, row: Row, folder: Path, every: Mapping[str, int]) -> None:
    lane, at = row["lane"], captured(row)
    seen = facts.lanes.setdefault(lane, [0] * facts.axis.bins)
    if sum(seen) % every[lane] == 0:
        facts.pictures[lane].append(row)
    seen[facts.axis.bin(at)] += 1
    camera = facts.cameras[row["device"], row["camera"]]
    camera.lanes[lane] += 1
    facts.candidates += 1
    facts.bytes += row["bytes"]
    facts.states[row["state"]] += 1
    facts.models[row["model"]] += 1
    served = Counter(json.loads(row["served"] or "{}"))
    facts.served.update(served)
    if row["verdict"]:
        camera.verdicts[row["verdict"]] += 1
        if row["state"] in TRUTH:
            facts.drawn.update(json.loads(row["drawn"]))
        if facts.label_axis:
            people = facts.people.setdefault(row["who"], [0] * facts.label_axis.bins)
            people[facts.label_axis.bin(_time(row["at"]))] += 1
    if lane == "canary" and row["probability"]:
        camera.canaries.append(_canary(facts, row, at, served.total(), folder))


def _canary(facts: Facts, row: Row, at: datetime, served: int, folder: Path) -> Canary:
    errors = None
    if row["state"] in TRUTH:
        errors = errors_of(folder, row["cid"], row["revision"])
        facts.unread += errors is None
    missed, wrong = errors or (None, None)
    return Canary(at.timestamp(), row["probability"], row["score"], served, missed, wrong)


def by_step(facts: Facts, canaries: list[Canary]) -> Iterator[list[Canary]]:
    """The canary draws of each step of time."""
    steps: list[list[Canary]] = [[] for _ in range(facts.axis.bins)]
    for canary in canaries:
        steps[facts.axis.bin(datetime.fromtimestamp(canary.at, timezone.utc))].append(canary)
    return iter(steps)
