"""Scores of all policies on all streams, summed up as tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from tests.bench.tailstream.errors import Verdict, judge
from tests.bench.tailstream.ours import candidates
from tests.bench.tailstream.rivals import RIVALS, Signals, oracle, signals
from tests.bench.tailstream.scoring import Score, score
from tests.bench.tailstream.streams import FLOOR, SERVE, Case

OURS = "tailkeeper"
BUDGETS = (0.05, 0.02)
DRAWS = 3
"""Seeds of a policy per stream: its own chance (canary draws, random picks) is averaged."""

Results = dict[tuple[str, float, str], list[list[Score]]]
"""By kind of stream, budget and policy: per stream, the scores of all draws."""

Picker = Callable[[float, int], list[int]]
"""Picks for a budget and a seed."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A stream with everything that policies and scores need."""

    case: Case
    verdicts: list[Verdict]
    seen: Signals

    @classmethod
    def of(cls, case: Case) -> Judged:
        """Look at the truth and at what rivals look at, once."""
        seen = signals(case.stream, case.counts, case.tail, SERVE, FLOOR, case.odds)
        return cls(case, judge(case.stream, case.tail, SERVE), seen)

    def ours(self, budget: float, seed: int) -> list[int]:
        """Picks of the agent's own selector."""
        case = self.case
        return [c.frame.index for c in candidates(case.stream, case.counts, case.odds, budget, seed)]

    def rivals(self) -> dict[str, Picker]:
        """Every other policy."""

        def picker(name: str) -> Picker:
            return lambda budget, seed: RIVALS[name](self.seen, budget, np.random.default_rng(seed))

        return {name: picker(name) for name in RIVALS} | {"oracle": lambda budget, _: oracle(self.verdicts, budget)}


def measure(judged: Iterable[Judged], pickers: Callable[[Judged], Mapping[str, Picker]], draws: int = DRAWS) -> Results:
    """Run policies over streams; each stream has seeds of its own, the same for all policies."""
    results: Results = defaultdict(list)
    for index, one in enumerate(judged):
        seeds = range(DRAWS * index + 1, DRAWS * index + 1 + draws)
        for name, pick in pickers(one).items():
            for budget in BUDGETS:
                scores = [score(one.verdicts, pick(budget, seed), budget) for seed in seeds]
                results[one.case.kind, budget, name].append(scores)
    return results


def harmonics(results: Results, kinds: Iterable[str], budget: float, policy: str) -> list[float]:
    """Harmonic mean of UER and UTM per stream of these kinds, averaged over draws."""
    return [float(np.mean([s.harmonic for s in draws])) for kind in kinds for draws in results[kind, budget, policy]]


WORLDS = {"roving": ("roving",), "fixed": ("bare", "cluttered"), "demo world": ("demo",)}
"""The kinds of streams that are judged together."""


def table(results: Results, policies: Iterable[str]) -> str:
    """Markdown: UER / UTM and their harmonic mean per policy; the last lines compare us with the best of the others."""
    columns = [(kind, budget) for budget in BUDGETS for kind in ("roving", "bare", "cluttered", "demo")]
    lines = [
        "| | " + " | ".join(f"{kind} {budget:.0%}" for kind, budget in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for policy in policies:
        cells = [_cell([s for draws in results[kind, budget, policy] for s in draws]) for kind, budget in columns]
        lines.append(f"| {policy} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(scores: list[Score]) -> str:
    if not scores:
        return "-"
    uer, utm = (float(np.mean([getattr(s, name) for s in scores])) for name in ("uer", "utm"))
    each = [s.harmonic for s in scores]
    return f"{uer:.2f} / {utm:.2f}, {np.mean(each):.3f} ± {np.std(each):.3f}"


def verdict(results: Results, rivals: Iterable[str]) -> str:
    """Markdown: ours against the better of prototype and best rival, per world and budget."""
    lines = ["| | ours | best of the others | ratio |", "|---|---|---|---|"]
    for world, kinds in WORLDS.items():
        for budget in BUDGETS:
            mine = float(np.mean(harmonics(results, kinds, budget, OURS)))
            means = {name: float(np.mean(harmonics(results, kinds, budget, name))) for name in rivals}
            best = max(means, key=means.__getitem__)
            lines.append(
                f"| {world} {budget:.0%} | {mine:.3f} | {means[best]:.3f} ({best}) | {mine / means[best]:.2f} |"
            )
    return "\n".join(lines)


def deltas(results: Results, policies: Iterable[str]) -> str:
    """Markdown: difference of the harmonic mean to ours, per world and budget, and its mean over all."""
    columns = [(world, budget) for budget in BUDGETS for world in WORLDS]
    lines = ["| off | " + " | ".join(f"{world} {budget:.0%}" for world, budget in columns) + " | mean |"]
    lines.append("|---" * (len(columns) + 2) + "|")
    for policy in policies:
        changes = [
            float(np.mean(harmonics(results, WORLDS[w], b, policy)) - np.mean(harmonics(results, WORLDS[w], b, OURS)))
            for w, b in columns
        ]
        lines.append(f"| {policy} | " + " | ".join(f"{c:+.3f}" for c in [*changes, float(np.mean(changes))]) + " |")
    return "\n".join(lines)
