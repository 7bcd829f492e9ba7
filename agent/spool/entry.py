"""What the spool says of itself: its entries, its figures, and what a recovery found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from agent.records import Lane

BLOCK = 4096
"""Bytes that a disk gives out at a time: what a file takes is rounded up to whole blocks."""

State = Literal["ready", "sending", "sent", "quarantine"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One item as the index knows it: everything that matters for its turn, and not the picture."""

    cid: str
    camera: str
    ts_ns: int
    lane: Lane | None
    """None where the file in quarantine cannot be read any more."""
    score: float
    value: float
    """What the item is worth next to the others (see `agent.spool.value`)."""
    bytes: int
    """Size of the item's file."""
    state: State
    tries: int = 0
    """How often it was sent whole."""
    blamed: int = 0
    """Disconnects blamed on it."""
    waited_s: float = 0.0
    """Seconds since it got its state; downtime counts only within one boot."""
    age_s: float = 0.0
    """Seconds since it was put (a lower bound where the clock cannot be trusted)."""
    classes: frozenset[str] = frozenset()
    """Names of the classes served in it; empty when nothing was."""
    reason: str = ""
    """Why it is in quarantine."""

    @property
    def blocks(self) -> int:
        """Bytes that its file takes on the disk."""
        return whole_blocks(self.bytes)


def whole_blocks(size: int) -> int:
    """A file's size, rounded up to the blocks it takes."""
    return -(-size // BLOCK) * BLOCK


@dataclass(frozen=True, slots=True)
class SpoolStats:
    """The spool's figures for status and stats."""

    items: int
    bytes: int
    """Size of all item files."""
    oldest_s: float | None
    sent: int
    quarantined: int
    evicted: dict[str, int]
    """Number of items given up so far, by reason."""
    refused: int
    """Items that `put` refused since the start."""
    degraded: str | None
    """Why the spool takes nothing now; None when it does."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """What `recover` found and mended."""

    items: int = 0
    adopted: int = 0
    """Files without a row: taken into the index."""
    released: int = 0
    """Rows that were being sent when the service stopped."""
    quarantined: int = 0
    """Damaged or missing files."""
    temporaries: int = 0
    """Files that were never finished: removed."""
    rebuilt: str = ""
    """Why the index was built anew; empty when it was sound."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What `verify` found when it read every file."""

    items: int
    damaged: dict[str, str] = field(default_factory=dict)
    """By cid or file name: what is wrong."""
    unlisted: tuple[str, ...] = ()
    """Items on disk without a row: the next `recover` adopts them."""
    missing: tuple[str, ...] = ()
    """Rows whose file is gone."""
