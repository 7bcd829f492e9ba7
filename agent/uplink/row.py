"""One item on its way: which parts are with the broker, and since when its receipt is awaited."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from agent.records import Item
from agent.spool import Entry
from agent.wire import Part


@dataclass(slots=True, eq=False)
class Row:
    """An item on its way. It is SENT while `due_ns` is set, otherwise SENDING."""

    entry: Entry
    item: Item | None = None
    """Loaded while parts are to be sent."""
    parts: tuple[Part, ...] = ()
    todo: deque[int] = field(default_factory=deque)
    """Parts to hand over, by index."""
    flying: set[int] = field(default_factory=set)
    """Parts without the broker's word."""
    accepted: set[int] = field(default_factory=set)
    begun: bool = False
    """Whether anything of it was handed over, so that a receipt may come."""
    progress: bool = False
    """Whether the broker accepted a part of it over this connection."""
    due_ns: int | None = None
    """When the receipt is overdue."""
    asks: int = 0
    """Questions to the collector since it was sent."""
    partials: int = 0
    """Receipts that said partial."""

    @property
    def cid(self) -> str:
        return self.entry.cid

    @property
    def widest(self) -> int:
        """Bytes of the longest part's body."""
        return max((part.length for part in self.parts), default=0)

    def cut(self, parts: tuple[Part, ...]) -> None:
        """These are the parts, all to be sent."""
        self.parts = parts
        self.todo = deque(range(len(parts)))
        self.accepted.clear()

    def sent(self) -> None:
        """The broker has every part."""
        self.item = None
        self.entry = dataclasses.replace(self.entry, tries=self.entry.tries + 1)

    def repeat(self, missing: Sequence[int] | None) -> None:
        """Send these parts again, or all where none of them is ours."""
        known = [i for i in missing or () if i < len(self.parts)] or range(len(self.parts))
        self.todo = deque(i for i in known if i not in self.flying)
        self.accepted.difference_update(self.todo)
        self.partials += 1
        self.due_ns = None

    def interrupt(self) -> None:
        """The connection is gone, and with it what was flying."""
        self.todo = deque(i for i in range(len(self.parts)) if i not in self.accepted)
        self.flying.clear()
        self.item = None
        self.begun = self.progress = False
