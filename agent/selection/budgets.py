"""What may be spent: a share of the considered frames per lane, and limits per day, for one camera.

Frames: every considered frame earns each lane its share of the budget; a pick costs one. What is not spent is carried,
up to two windows' worth: a still scene is not uploaded again later to fill a quota. A lane may pick while it has
anything left and the camera as a whole has a full token, so the long-run share is never exceeded and nothing is lost to
rounding. Canary draws are random and never refused: over a day there are some dozens too many or too few. What a lane
earns beyond what it may carry therefore pays the debts of others, or is theirs to spend.

Days: each limit is a token bucket whose capacity plus a day's filling is the limit, so no 24 hours can exceed it,
whichever they are, and nothing is spent by nine in the morning. The capacity is never less than one candidate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from agent.records import LANES, Lane
from agent.settings import SelectionSettings

DAY_S: Final = 86_400.0
_BURST = 0.04
"""Share of a day's limit that may be spent at once."""
_DEBT_WINDOWS = 2
_START_FRAME_S = 0.2
_START_BYTES, _START_LABELS = 150_000.0, 5.0
_SMOOTH = 0.05
"""Weight of the newest value in running means (frame spacing, bytes and labels per candidate)."""

EARNING: tuple[Lane, ...] = ("uncertain", "rare", "canary", "temporal")
"""The lanes that have a share of the budget."""
LIMITS = ("frames", "bytes", "labels")
"""What is limited by day."""
RANKED: tuple[Lane, ...] = ("uncertain", "rare", "temporal")
"""The lanes that pick the best of a window."""


@dataclass(slots=True)
class DayLimit:
    """A token bucket: any 24 hours hold at most `limit` (0: no limit), at most 4 % of it or one candidate at once."""

    limit: float
    cost: float = 1.0
    """Of one candidate, on average."""
    tokens: float = math.nan

    def __post_init__(self) -> None:
        self.tokens = self._burst if math.isnan(self.tokens) else min(self.tokens, self._burst)

    @property
    def _burst(self) -> float:
        return min(self.limit, max(self.limit * _BURST, self.cost))

    @property
    def _rate(self) -> float:
        """Per second. A limit of one candidate a day lets one through every other day: no 24 hours may hold two."""
        return max(self.limit - self._burst, self.limit / 2) / DAY_S

    def earn(self, seconds: float) -> None:
        self.tokens = min(self._burst, self.tokens + self._rate * seconds)

    def spend(self, amount: float) -> None:
        if self.limit:
            self.tokens -= amount

    def learn(self, cost: float) -> None:
        """A candidate has cost so much."""
        self.cost += _SMOOTH * (cost - self.cost)

    def room(self) -> float:
        """How many candidates there is room for now."""
        return math.inf if self.limit == 0 else max(0.0, self.tokens / min(self.cost, self.limit))

    def pace(self, wanted_per_s: float) -> float:
        """The share of the wanted candidates per second that the limit lets through in the long run, 0..1."""
        if self.limit == 0 or wanted_per_s <= 0:
            return 1.0
        return min(1.0, self._rate / (wanted_per_s * self.cost))


@dataclass(slots=True)
class Budget:
    """The budget of one camera; `cameras` share the agent's daily limits evenly."""

    policy: SelectionSettings
    cameras: int = 1
    balance: dict[Lane, float] = field(default_factory=dict)
    spent: dict[Lane, int] = field(default_factory=dict)
    frames: DayLimit = field(default_factory=lambda: DayLimit(0))
    bytes: DayLimit = field(default_factory=lambda: DayLimit(0, _START_BYTES))
    labels: DayLimit = field(default_factory=lambda: DayLimit(0, _START_LABELS))
    frame_s: float = _START_FRAME_S

    def __post_init__(self) -> None:
        self.balance = {lane: self.balance.get(lane, 0.0) for lane in EARNING}
        self.spent = {lane: self.spent.get(lane, 0) for lane in LANES}
        self.adopt(self.policy, self.cameras)

    def adopt(self, policy: SelectionSettings, cameras: int) -> None:
        """Go on under another policy or with another number of cameras; what was earned and owed stays."""
        self.policy, self.cameras = policy, max(1, cameras)
        for name in LIMITS:
            limit = getattr(policy, f"{name}_per_day") / self.cameras
            old: DayLimit = getattr(self, name)
            setattr(self, name, DayLimit(limit, old.cost, old.tokens if old.limit else math.nan))

    def earn(self, seconds: float | None) -> None:
        """One more considered frame, `seconds` after the one before; None or nonsense for the first one or a jump."""
        spare = 0.0
        for lane in EARNING:
            share, kept = self._share(lane), min(self.balance[lane] + self._share(lane), self._most(lane))
            spare += min(share, self.balance[lane] + share - kept)
            self.balance[lane] = kept
        for lane in sorted(EARNING, key=self.balance.__getitem__) if spare > 0 else ():
            gift = min(spare, self._most(lane) - self.balance[lane])
            self.balance[lane] += gift
            spare -= gift
        if seconds is not None and 0 < seconds < DAY_S:
            self.frame_s += _SMOOTH * (seconds - self.frame_s)
            for limit in self._limits:
                limit.earn(seconds)

    def _share(self, lane: Lane) -> float:
        """What the lane earns per frame."""
        return float(getattr(self.policy.shares, lane)) * self.policy.budget

    def _most(self, lane: Lane) -> float:
        """What the lane may carry."""
        share = self._share(lane)
        return max(_DEBT_WINDOWS * share * self.policy.window_frames, 1.0) if share else 0.0

    @property
    def pace(self) -> float:
        """The share of the frame budget that the daily limits let through in the long run, 0..1."""
        return min(limit.pace(self.policy.budget / self.frame_s) for limit in self._limits)

    @property
    def _limits(self) -> tuple[DayLimit, DayLimit, DayLimit]:
        return self.frames, self.bytes, self.labels

    def canary(self, raised: float = 1.0) -> float:
        """Inclusion probability of the canary lane now; at budget 1.0 every frame is kept."""
        share = 1.0 if self.policy.budget >= 1.0 else self.policy.shares.canary * raised
        return min(1.0, share * self.policy.budget * self.pace)

    def room(self) -> int:
        """How many more candidates the daily limits allow now."""
        return int(min(10_000.0, *(limit.room() for limit in self._limits)))

    def quota(self) -> int:
        """How many candidates the ranked lanes may pick now."""
        return max(0, min(math.floor(sum(self.balance.values()) + 1e-9), self.room()))

    def charge(self, lane: Lane, size: int, labels: int) -> None:
        """A candidate of `size` bytes with `labels` served objects has been stored."""
        self.spent[lane] += 1
        if lane in self.balance:
            self.balance[lane] -= 1.0
        self.frames.spend(1.0)
        self.bytes.spend(size)
        self.labels.spend(labels)
        self.bytes.learn(size)
        self.labels.learn(max(labels, 1))

    def state(self) -> dict[str, Any]:
        """JSON-able; see `restore`."""
        limits = {name: [getattr(self, name).cost, getattr(self, name).tokens] for name in LIMITS}
        return {"balance": self.balance, "spent": self.spent, "limits": limits, "frame_s": self.frame_s}

    @classmethod
    def restore(cls, policy: SelectionSettings, cameras: int, state: Mapping[str, Any]) -> Budget:
        """The budget that `state()` described, under today's policy."""
        budget = cls(policy, cameras, dict(state.get("balance", {})), dict(state.get("spent", {})))
        for name, (cost, tokens) in state.get("limits", {}).items():
            limit: DayLimit = getattr(budget, name)
            setattr(budget, name, DayLimit(limit.limit, cost, tokens))
        budget.frame_s = state.get("frame_s", budget.frame_s)
        return budget
