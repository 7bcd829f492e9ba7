"""Rules people know from other systems: classes, confidence band, number of detections, none detected, timed, random.

A rule fires on single frames, outside the lanes' shares but inside the daily limits. Its cooldown and its limits by
minute, hour and day are kept over a restart as ages, because a live camera's time line starts anew at every boot; the
time that nobody watched does not count.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from agent.records import Rows
from agent.settings import RuleSettings

_LIMITS = (("per_minute", 60.0), ("per_hour", 3600.0), ("per_day", 86_400.0))
_ALL = ""
"""Stands for all classes together, where a rule does not count by class."""

Ages: TypeAlias = dict[str, list[float]]
"""By class name (or `_ALL`): how long ago a rule fired, seconds, oldest first."""


class Rule:
    """One rule of one camera."""

    def __init__(
        self, settings: RuleSettings, classes: Sequence[str], serve: float, ages: Mapping[str, Sequence[float]]
    ) -> None:
        """`ages`: what `ages()` gave before a restart."""
        self.settings = settings
        self._serve = serve
        self._classes = classes
        self._wanted = np.isin(np.asarray(classes, object), list(settings.classes) or list(classes))
        self._memory = max(1, *(getattr(settings, name) for name, _ in _LIMITS))
        self._ages: Ages = {name: list(old) for name, old in ages.items()}
        self._now = 0.0
        self._fired: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=self._memory))
        """The latest firings by class, as many as the largest limit needs."""
        self._begun = False

    def fires(self, t: float, rows: Rows, draw: Callable[[], float]) -> bool:
        """Whether this frame is wanted; `rows` are clean, `draw` gives a uniform number when the rule needs chance."""
        if not self._begun:
            self._begun = True
            for name, old in self._ages.items():
                self._fired[name].extend(t - age for age in old)
        self._now = t
        names = self._matches(rows)
        free = [name for name in names if not self._waits(name, t)]
        if not free or (self.settings.probability < 1.0 and draw() >= self.settings.probability):
            return False
        for name in free:
            self._fired[name].append(t)
        return True

    def ages(self) -> Ages:
        """How long ago it fired: what a restart must remember."""
        if not self._begun:
            return self._ages
        return {name: [round(self._now - at, 3) for at in fired] for name, fired in self._fired.items()}

    def _matches(self, rows: Rows) -> list[str]:
        """The classes for which the frame is wanted, or that it is wanted whatever they are; empty where it is not."""
        rule = self.settings
        mine = rows[self._wanted[rows[:, 5].astype(np.intp)]]
        served = mine[mine[:, 4] >= self._serve]
        if rule.none_detected and len(served):
            return []
        if rule.count is not None and not rule.count[0] <= len(served) <= rule.count[1]:
            return []
        if rule.confidence is not None:
            low, high = rule.confidence
            return self._named(mine[(mine[:, 4] >= low) & (mine[:, 4] <= high)])
        if len(served) or not rule.classes or rule.none_detected or rule.count is not None:
            return self._named(served) or [_ALL]
        return []

    def _named(self, rows: Rows) -> list[str]:
        if not self.settings.each_class:
            return [_ALL] * bool(len(rows))
        return sorted({self._classes[int(c)] for c in rows[:, 5]})

    def _waits(self, name: str, t: float) -> bool:
        """Whether the timer, the cooldown or a limit holds it back."""
        rule, fired = self.settings, self._fired[name]
        while fired and fired[-1] > t:  # time has gone back
            fired.pop()
        if fired and t - fired[-1] < max(rule.every_s, rule.cooldown_s):
            return True
        limits = ((getattr(rule, limit), span) for limit, span in _LIMITS)
        return any(0 < most <= len(fired) and t - fired[-most] < span for most, span in limits)


class Rules:
    """All rules of one camera."""

    def __init__(
        self,
        settings: Sequence[RuleSettings],
        classes: Sequence[str],
        serve: float,
        state: Mapping[str, Mapping[str, Sequence[float]]] | None = None,
    ) -> None:
        kept = state or {}
        self.rules = [Rule(one, classes, serve, kept.get(one.name, {})) for one in settings]
        self.before = max((one.before for one in settings), default=0)

    def firing(self, t: float, rows: Rows, draw: Callable[[str], float]) -> list[RuleSettings]:
        """The rules that want this frame; `draw` gives a uniform number per rule name."""
        return [rule.settings for rule in self.rules if rule.fires(t, rows, partial(draw, rule.settings.name))]

    def state(self) -> dict[str, Any]:
        return {rule.settings.name: rule.ages() for rule in self.rules}
