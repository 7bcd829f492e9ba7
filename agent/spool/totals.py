"""Running figures over all items of the spool, so that no question has to read every row."""

from __future__ import annotations

from collections import Counter

from agent.records import Lane
from agent.spool.entry import Entry
from agent.spool.index import Index
from agent.spool.value import examples_of


class Totals:
    """Number and size of the items, and how many the spool holds of each class."""

    def __init__(self) -> None:
        self.items = 0
        self.bytes = 0
        self.blocks = 0
        """Bytes that the files take on the disk."""
        self.canary_blocks = 0
        self.examples: Counter[str] = Counter()
        """Items by class; "" counts those in which nothing was served."""

    @classmethod
    def of(cls, index: Index) -> Totals:
        totals = cls()
        for group in index.totals():
            totals._count(*group)
        return totals

    def add(self, entry: Entry) -> None:
        self._count(entry.classes, entry.lane, 1, entry.bytes, entry.blocks)

    def drop(self, entry: Entry) -> None:
        self._count(entry.classes, entry.lane, -1, -entry.bytes, -entry.blocks)

    def _count(self, classes: frozenset[str], lane: Lane | None, items: int, size: int, blocks: int) -> None:
        self.items += items
        self.bytes += size
        self.blocks += blocks
        if lane == "canary":
            self.canary_blocks += blocks
        for name in examples_of(classes):
            self.examples[name] += items
