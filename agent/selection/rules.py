"""Rules people know from other systems: classes, confidence band, number of detections, none detected, timed, random.

A rule fires on single frames, outside the lanes' shares but inside the daily limits. Its cooldown and its limits by
minute, hour and day are kept over a restart as ages, because a live camera's time line starts anew at every boot; the
time that nobody watched does not count.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from agent.records import Rows
from agent.settings import RuleSettings

_LIMITS = (("per_minute", 60.0), ("per_hour", 3600.0), ("per_day", 86_400.0))


class Rule:
    """One rule of one camera."""

    def __init__(
        self, settings: RuleSettings, classes: Sequence[str], serve: float, ages: Sequence[float] = ()
    ) -> None:
        """`ages`: how long ago it fired before, seconds, oldest first (see `ages`)."""
        self.settings = settings
        self._serve = serve
        self._wanted = np.isin(np.asarray(classes, object), list(settings.classes) or list(classes))
        self._ages, self._now = tuple(ages), 0.0
        self._fired: deque[float] = deque()
        self._begun: float | None = None

    def fires(self, t: float, rows: Rows, draw: Callable[[], float]) -> bool:
        """Whether this frame is wanted; `rows` are clean, `draw` gives a uniform number when the rule needs chance."""
        if self._begun is None:
            self._begun = t
            self._fired.extend(t - age for age in self._ages)
        self._now = t
        if not self._matches(rows) or self._waits(t):
            return False
        if self.settings.probability < 1.0 and draw() >= self.settings.probability:
            return False
        self._fired.append(t)
        return True

    def ages(self) -> list[float]:
        """How long ago it fired, seconds, oldest first: what a restart must remember."""
        if self._begun is None:
            return list(self._ages)
        return [round(self._now - fired, 3) for fired in self._fired]

    def _matches(self, rows: Rows) -> bool:
        rule = self.settings
        mine = rows[self._wanted[rows[:, 5].astype(np.intp)]]
        served = int((mine[:, 4] >= self._serve).sum())
        if rule.none_detected and served:
            return False
        if rule.count is not None and not rule.count[0] <= served <= rule.count[1]:
            return False
        if rule.confidence is not None:
            low, high = rule.confidence
            return bool(((mine[:, 4] >= low) & (mine[:, 4] <= high)).any())
        return served > 0 or not rule.classes or rule.none_detected or rule.count is not None

    def _waits(self, t: float) -> bool:
        """Whether the timer, the cooldown or a limit holds it back; forgets what no longer matters."""
        rule, fired = self.settings, self._fired
        while fired and (fired[0] > t or t - fired[0] >= max(_LIMITS[-1][1], rule.every_s, rule.cooldown_s)):
            fired.popleft()
        if fired and t - fired[-1] < max(rule.every_s, rule.cooldown_s):
            return True
        limits = ((getattr(rule, name), span) for name, span in _LIMITS)
        return any(limit and sum(t - at < span for at in fired) >= limit for limit, span in limits)


class Rules:
    """All rules of one camera."""

    def __init__(
        self,
        settings: Sequence[RuleSettings],
        classes: Sequence[str],
        serve: float,
        state: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        kept = state or {}
        self.rules = [Rule(one, classes, serve, kept.get(one.name, ())) for one in settings]
        self.before = max((one.before for one in settings), default=0)

    def firing(self, t: float, rows: Rows, draw: Callable[[str], float]) -> list[RuleSettings]:
        """The rules that want this frame; `draw` gives a uniform number per rule name."""
        return [rule.settings for rule in self.rules if rule.fires(t, rows, partial(draw, rule.settings.name))]

    def state(self) -> dict[str, Any]:
        return {rule.settings.name: rule.ages() for rule in self.rules}
