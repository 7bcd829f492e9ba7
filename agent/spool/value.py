"""What an item is worth next to the others: the order of uploads and, from its other end, of evictions. Pure.

Scores of different lanes have different scales, so an item is ranked inside its lane: ``score / (score + typical)``,
where *typical* is the running mean of that lane's scores. That is 0 for nothing, .5 for a typical frame, towards 1 for
a far better one, whatever the scale. A canary's worth must not depend on what the model says, or the baseline is
biased: it is 1. A manual capture, which somebody waits for, is 2.

Eviction gives up, in this order: canaries beyond a quarter of the byte limit (oldest first, else a long outage would
leave nothing but canaries), ordinary items, canaries, manual captures, and last of all the only example of a class.
Among the ordinary items of least value (a quarter of those that may go, `FRONT` at most) the most redundant goes first:
the one whose rarest class the spool holds most often. A newcomer only displaces what is worth no more than itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from agent.records import Lane, Meta
from agent.spool.entry import Entry

CANARY_VALUE = 1.0
MANUAL_VALUE = 2.0
CANARY_SHARE = 0.25
FRONT = 32
MEMORY = 200
"""Items over which a lane's typical score is averaged: about half a day's budget."""


Worth: TypeAlias = Callable[[Lane, float], float]
"""Value of a score in a lane."""


class Typical:
    """Running mean of the scores of each lane."""

    def __init__(self, seen: Mapping[str, Sequence[float]] | None = None) -> None:
        self.seen = {lane: (float(count), float(mean)) for lane, (count, mean) in dict(seen or {}).items()}
        """By lane: number of items, mean score."""

    def learn(self, lane: Lane | None, score: float) -> None:
        count, mean = self.seen.get(str(lane), (0.0, 0.0))
        count = min(count + 1, MEMORY)
        self.seen[str(lane)] = (count, mean + (max(score, 0.0) - mean) / count)

    def value(self, lane: Lane, score: float) -> float:
        """The worth of an item with this score in this lane: ordinary lanes within [0, 1)."""
        if lane == "manual":
            return MANUAL_VALUE
        if lane == "canary":
            return CANARY_VALUE
        score = max(score, 0.0)
        typical = self.seen.get(lane, (0.0, 0.0))[1]
        return min(score / (score + typical), 0.999) if score else 0.0


def rank_of(lane: Lane | None, score: float) -> float:
    """What orders the items of one lane: the score, except where it must not matter and only age does."""
    return 0.0 if lane in ("canary", "manual") else max(score, 0.0)


def classes_of(meta: Meta) -> frozenset[str]:
    """The classes that the model itself would report in this frame; weaker rows are too often of any class at all."""
    return frozenset(" ".join(detection.name.split()) for detection in meta.detections if detection.served)


def examples_of(classes: frozenset[str]) -> frozenset[str]:
    """The names an item counts under: its classes, or "" (nothing served) as a kind of its own."""
    return classes or frozenset({""})


def is_only_example(classes: frozenset[str], examples: Mapping[str, int], own: int = 1) -> bool:
    """Whether without this item a class would be gone from the spool; `own` is 0 for an item not yet counted."""
    return any(examples.get(name, 0) <= own for name in classes)


def victims(
    lowest: Sequence[Entry], examples: Mapping[str, int], need: int, newcomer: tuple[bool, float]
) -> list[Entry] | None:
    """The entries to give up so that at least `need` bytes and one item go; None where the newcomer must be refused.

    `lowest` are ready entries by ascending value (oldest first among equals), `examples` counts items by class,
    `newcomer` is (only example of a class, value) of the item that wants the room.
    """
    left, counts = list(lowest), Counter(examples)
    chosen: list[Entry] = []
    freed = 0
    while not chosen or freed < need:
        victim = _next_victim(left, counts, newcomer)
        if victim is None:
            return None
        left.remove(victim)
        counts.subtract(examples_of(victim.classes))
        chosen.append(victim)
        freed += victim.blocks
    return chosen


def _next_victim(left: Sequence[Entry], counts: Mapping[str, int], newcomer: tuple[bool, float]) -> Entry | None:
    standings = [((is_only_example(entry.classes, counts), entry.value), entry) for entry in left]
    may_go = [(standing, entry) for standing, entry in standings if standing <= newcomer]
    spare = [entry for (alone, _), entry in may_go if not alone]
    front = [entry for entry in spare[: max(1, min(FRONT, len(spare) // 4))] if entry.value < CANARY_VALUE]
    if front:
        return max(front, key=lambda entry: (min(counts[name] for name in examples_of(entry.classes)), -entry.value))
    return next(iter(spare or [entry for _, entry in may_go]), None)


def first_of(entries: Sequence[Entry], need: int) -> list[Entry] | None:
    """As many entries from the front as free `need` bytes, one at least; None where all are too few."""
    chosen: list[Entry] = []
    for entry in entries:
        chosen.append(entry)
        need -= entry.blocks
        if need <= 0:
            return chosen
    return None
