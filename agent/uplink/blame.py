"""Whose fault is a connection that the broker closed?

Usually nobody's: brokers restart. So an item that was under way is only suspect, and is next sent alone. When the
broker closes the connection again, then the packet is too large for it (MQTT 3.1.1 brokers do not say how much they
take) or the item is poison. Packets are halved first; at the smallest an item is blamed, and after three times it is
set aside. One item at a time: where two in a row would go, the broker drops everybody's, and none is at fault.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Literal

from agent.uplink.row import Row
from agent.wire import CHUNK_FLOOR

log = logging.getLogger(__name__)

LIMIT = 3
"""Disconnects blamed on one item before it is set aside."""
HEADER_BYTES = 600
"""About what header, topic and framing add to a part's body."""

Verdict = Literal["innocent", "smaller", "blamed", "poison", "all dropped"]


class Blame:
    """Remembers suspects and the packet size that the broker seems to take."""

    def __init__(self) -> None:
        self.suspects: set[str] = set()
        self.ceiling: int | None = None
        """Bytes of a packet at most, where closed connections taught us so."""
        self._condemned = False

    def accepted(self, cid: str) -> None:
        """The broker took a part of it."""
        self.suspects.discard(cid)
        self._condemned = False

    def judge(self, rows: Sequence[Row]) -> tuple[Verdict, Row | None]:
        """The verdict on the rows that were under way, without any progress, when the broker closed the connection."""
        flying = [row for row in rows if row.flying and not row.progress]
        if len(flying) != 1 or flying[0].cid not in self.suspects:
            self.suspects.update(row.cid for row in flying)
            return "innocent", None
        row = flying[0]
        size = max(row.parts[i].length for i in row.flying) + HEADER_BYTES
        if size > 2 * CHUNK_FLOOR:
            self.ceiling = size // 2
            return "smaller", row
        if self._condemned:
            return "all dropped", row
        if row.entry.blamed + 1 < LIMIT:
            return "blamed", row
        self._condemned = True
        self.ceiling = None
        self.suspects.discard(row.cid)
        return "poison", row
