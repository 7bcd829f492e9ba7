"""Whether the canary lane's estimate of errors per frame keeps its promise: 95 % intervals hold in 95 % of draws."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from agent.selection.canary import estimate, uniform
from tests.bench.tailstream.results import BUDGETS, Judged

SEEDS = 500
_SHARE = 0.1
"""Of the budget, for the canary lane, by default."""


def coverage(judged: Sequence[Judged]) -> str:
    """Markdown: share of policy seeds whose interval holds the truth, over all streams joined to one."""
    errors = np.concatenate([[v.count for v in one.verdicts] for one in judged])
    lines = [f"{SEEDS} policy seeds on {len(errors)} frames, {errors.mean():.2f} errors a frame.\n"]
    lines += ["| budget | canaries | interval holds the truth | mean of estimates |", "|---|---|---|---|"]
    draws = [_draws(seed, len(errors)) for seed in range(SEEDS)]
    for budget in BUDGETS:
        chance = _SHARE * budget
        picked = [errors[numbers < chance] for numbers in draws]
        found = [e for e in (estimate(values.tolist(), [chance] * len(values)) for values in picked) if e]
        held = sum(one.low <= errors.mean() <= one.high for one in found) / SEEDS
        size, mean = np.mean([len(values) for values in picked]), np.mean([one.mean for one in found])
        lines.append(f"| {budget:.0%} | {size:.0f} | {held:.1%} | {mean:.2f} |")
    return "\n".join(lines)


def _draws(seed: int, frames: int) -> NDArray[np.float64]:
    """The selector's own canary numbers for the first camera."""
    return np.array([uniform(f"{seed}|0", frame, "canary") for frame in range(1, frames + 1)])
