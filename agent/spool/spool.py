"""The spool itself: `put` on the watch thread, `claim` to `forget` on the uplink thread."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import logging
import threading
from collections.abc import Callable
from pathlib import Path

from agent.clock import Clock
from agent.errors import ItemError, SpoolFullError
from agent.records import Item
from agent.settings import SpoolSettings
from agent.spool import files as item_files
from agent.spool import value
from agent.spool.entry import BLOCK, Entry, Recovery, SpoolStats
from agent.spool.files import FOLDERS, ItemFiles
from agent.spool.index import Index
from agent.spool.reserve import Reserve, free_bytes
from agent.spool.table import Table

log = logging.getLogger(__name__)

_EXPIRY_S = 60.0
_BACKLOG = 2000
"""Changes kept while the disk refuses commits; with more, nothing is claimed."""
_OLD_EVERY = 4
"""Every so many claims the oldest item has its turn, or a low value would wait for ever."""
_MARGIN = 65_536
"""Bytes left to the index when items are given up on a full disk."""
_LOG_BYTES = 256_000
"""The index's log begins again from its start at this size: a log that grows makes the file system write
as much again of its own with each commit."""
_SHARE = 10
"""Quarantine and reserve take at most this fraction of the byte limit each, the index's log half of it."""


class Spool:
    """The device's store of items that wait for their receipt. Thread-safe."""

    def __init__(
        self,
        folder: Path,
        settings: SpoolSettings,
        clock: Clock,
        wake: Callable[[], None] | None = None,
        trace: Callable[[str], None] | None = None,
    ) -> None:
        """`wake` is called when something new may be claimed, `trace` with the name of each step (crash tests)."""
        self._folder = folder
        self._settings = settings
        self._wake = wake or (lambda: None)
        self._trace = trace or (lambda _: None)
        self._files = ItemFiles(folder)
        self._reserve = Reserve(folder / "reserve", min(settings.reserve_bytes, settings.max_bytes // _SHARE))
        checkpoint_bytes = min(_LOG_BYTES, settings.max_bytes // _SHARE // 2)
        self._table = Table(folder, self._files, self._reserve, clock, checkpoint_bytes, self._trace)
        self._putting = threading.Lock()
        self._expired = 0.0
        self._claims = 0
        self._refused = 0

    # Start and stop

    def recover(self) -> Recovery:
        """Bring files and index together; at every start, before anything else.

        Claims are released, files without a row adopted, damaged and missing ones quarantined, unfinished ones removed;
        a damaged index is set aside and built anew. Raises SpoolFullError where the disk does not let us: every later
        call then tries again by itself.
        """
        self._table.drop()
        with self._table.use("recover"):
            with contextlib.suppress(OSError):  # the next `put` says so
                self._reserve.hold()
            return self._table.recovery

    def close(self) -> None:
        """Commit what waits. Call it last: after the watch and the uplink have ended."""
        self._table.close()

    # The watch's side

    def put(self, item: Item) -> bool:
        """Accept an item; it is durable when this returns. True: new, False: already there.

        Raises SpoolFullError when nothing of less worth may be given up for it, or the disk does not take it; then
        nothing of it is left, and the same call succeeds again once there is room.
        """
        with self._putting:
            try:
                new = self._put(item, item_files.encode(item))
            except SpoolFullError:
                self._refused += 1
                raise
            self._table.mended("put")
        if new:
            self._wake()
        return new

    def _put(self, item: Item, content: bytes) -> bool:
        with self._table.use("put") as index:
            if index.get(item.cid, 0.0) is not None:
                return False
            entry = self._table.entry_of(item.cid, item.meta, len(content))
            self._make_room(index, entry)
        self._trace("put.room")
        self._write(entry, content)
        self._trace("put.durable")
        with contextlib.suppress(SpoolFullError), self._table.use("put") as index:
            if index.get(item.cid, 0.0) is None:  # else the index was opened anew meanwhile and adopted it
                self._table.admit(index, entry)
        self._trace("put.row")
        return True

    # The uplink's side

    def claim(self, limit: int) -> list[Entry]:
        """Up to `limit` ready and due entries, now in state sending: highest value first, every fourth the oldest."""
        with self._table.use("claim") as index:
            claimed: list[Entry] = []
            while len(claimed) < limit and index.changes < _BACKLOG:
                now = self._table.ledger.now()
                self._claims += 1
                entry = index.oldest(now) if self._claims % _OLD_EVERY == 0 else index.best(now)
                if entry is None:
                    break
                index.set_state(entry.cid, "sending", now)
                claimed.append(dataclasses.replace(entry, state="sending", waited_s=0.0))
            return claimed

    def expire(self) -> None:
        """Give up what is older than the age limit, in the quarantine too; looked for once a minute.

        To be called whether there is a connection or not: the limit says how long pictures may be kept here.
        """
        with self._table.use("expire") as index:
            now = self._table.ledger.now()
            if now - self._expired < _EXPIRY_S:
                return
            self._expired = now
            born = now - self._settings.max_age_s
            for entry in index.born_before(now, born):
                self._table.evict(index, entry, "age")
            if born > 0:
                self._table.ledger.evicted["age"] += self._files.quarantine.expire(born)

    def load(self, cid: str) -> Item:
        """The verified item. A damaged one goes to quarantine; raises ItemError then, and for an unknown id."""
        try:
            return self._files.read(cid)
        except ItemError as error:
            reason = error.what
        except OSError as error:
            reason = f"the disk does not read it: {error.strerror}"
        if not self.quarantine(cid, reason):
            reason = "there is no such item"
        raise ItemError(f"spool item {cid}: {reason}")

    def sent(self, cid: str) -> None:
        """Every part was accepted by the broker: from now on it waits for its receipt."""
        with self._table.use("sent") as index:
            index.set_state(cid, "sent", self._table.ledger.now(), tries=1)

    def release(self, cid: str, after_s: float = 0.0, *, blamed: bool = False) -> None:
        """Back to ready (no receipt, disconnected), due in `after_s` seconds; `blamed` counts one disconnect."""
        with self._table.use("release") as index:
            now = self._table.ledger.now()
            index.set_state(cid, "ready", now, due=now + after_s, blamed=int(blamed))
        self._wake()

    def forget(self, cid: str) -> None:
        """The collector has it. The row goes first, the file after the commit; an unknown id is ignored."""
        with self._table.use("forget") as index:
            entry = index.get(cid, 0.0)
            if entry is not None:
                self._table.deliver(index, entry)

    def quarantine(self, cid: str, reason: str) -> bool:
        """It can never be delivered: keep it visibly aside with the reason. False for an unknown id."""
        with self._table.use("quarantine") as index:
            now = self._table.ledger.now()
            entry = index.get(cid, now)
            if entry is None:
                return False
            self._files.quarantine.add(self._files.path(cid), reason, now - entry.age_s)
            self._trace("quarantine.file")
            index.delete(cid)
            self._table.totals.drop(entry)
            self._trim_quarantine()
        log.warning("item quarantined", extra={"cid": cid, "reason": reason})
        return True

    def waiting(self) -> list[Entry]:
        """Entries in state sent, in order of arrival, with how long they have waited and how often they were sent."""
        with self._table.use("waiting") as index:
            return index.sent(self._table.ledger.now())

    # Operators

    def purge(self, expect: int) -> int:
        """Give up everything that is not in quarantine, on an operator's word; returns how many items went.

        Raises ItemError when there are not exactly `expect` items: the operator saw another state.
        """
        with self._table.use("purge") as index:
            held = self._table.totals.items
            if expect != held:
                raise ItemError(
                    f"purge of {expect} items refused: the spool holds {held}", remedy="ask for that number"
                )
            for folder in FOLDERS:
                for entry in filter(None, [index.get(cid, 0.0) for cid in index.cids(folder)]):
                    self._table.remove(index, entry)
                self._table.commit()
            self._table.ledger.evicted["purge"] += held
            self._table.commit()
        log.warning("spool purged", extra={"items": held})
        return held

    def stats(self) -> SpoolStats:
        """The figures for status and stats; also while the disk refuses, so far as they are known then."""
        oldest_s, sent = None, 0
        with contextlib.suppress(SpoolFullError), self._table.use("stats") as index:
            born, sent = index.oldest_born(), index.count_sent()
            oldest_s = None if born is None else max(self._table.ledger.now() - born, 0.0)
        totals = self._table.totals
        return SpoolStats(
            *(totals.items, totals.bytes, oldest_s, sent),
            quarantined=self._files.quarantine.items,
            evicted=dict(self._table.ledger.evicted),
            refused=self._refused,
            degraded=self._table.degraded,
        )

    # Room

    def _make_room(self, index: Index, entry: Entry) -> None:
        """Within the limits, before the file is written."""
        leaving = self._table.leaving
        if leaving and (entry.cid in leaving or self._excess(index, entry) > 0) and not self._table.commit():
            self._table.refuse("put", f"put: {self._table.degraded}")
        crowded = self._table.totals.items >= self._settings.max_items
        excess = self._excess(index, entry)
        if excess <= 0 and not crowded:
            return
        if not self._give_up_for(index, entry, excess, "items" if crowded else "bytes"):
            limit = f"{self._settings.max_items} items" if crowded else f"{self._settings.max_bytes} bytes"
            self._table.refuse(
                "put", f"put: {self._folder}: the limit of {limit} is reached and nothing of less worth may go"
            )

    def _excess(self, index: Index, entry: Entry) -> int:
        """Bytes by which everything in the folder would pass the limit with this entry."""
        items = self._table.totals.blocks + sum(self._table.leaving.values()) + entry.blocks
        return items + self._files.quarantine.blocks + self._reserve.bytes + index.size() - self._settings.max_bytes

    def _write(self, entry: Entry, content: bytes) -> None:
        """The file, durably; on a full disk again after room was made for it."""
        for attempt in range(3):
            try:
                self._reserve.hold()
                self._files.write(entry.cid, content)
            except OSError as error:
                with contextlib.suppress(OSError):
                    self._files.remove(entry.cid)
                full = error.errno in (errno.ENOSPC, errno.EDQUOT)
                if not (full and attempt < 2 and self._make_room_on_disk(entry)):
                    path = self._files.path(entry.cid)
                    self._table.refuse("put", f"put: write {path}: {error.strerror}", error)
            else:
                return

    def _make_room_on_disk(self, entry: Entry) -> bool:
        """Full, whoever filled it: finish what is leaving, then give up items of less worth. False: nothing may go."""
        with self._table.use("put") as index:
            leaving = bool(self._table.leaving)
            self._table.commit()
            self._files.remove_empty_folders()
            need = entry.blocks + self._reserve.missing + _MARGIN - free_bytes(self._folder)
            return (leaving and need <= 0) or self._give_up_for(index, entry, need, "disk")

    def _give_up_for(self, index: Index, entry: Entry, need: int, reason: str) -> bool:
        """Evict at least `need` bytes and one item of no more worth than `entry`; False where that cannot be."""
        chosen = self._victims(index, entry, need)
        for victim in chosen or ():
            self._table.evict(index, victim, reason)
        self._trace("evict.rows")
        return bool(chosen) and (self._table.commit() or reason == "disk")

    def _victims(self, index: Index, entry: Entry, need: int) -> list[Entry] | None:
        now, totals = self._table.ledger.now(), self._table.totals
        if totals.canary_blocks > self._settings.max_bytes * value.CANARY_SHARE:
            surplus = value.first_of(list(index.lowest("canary", now, value.FRONT)), need)
            if surplus:
                return surplus
        alone = sum(1 for count in totals.examples.values() if count == 1)
        enough = 4 * value.FRONT + alone + max(need, 0) // BLOCK
        standing = (value.is_only_example(entry.classes, totals.examples, own=0), entry.value)
        return value.victims(index.worst(now, enough), totals.examples, need, standing)

    def _trim_quarantine(self) -> None:
        limit = self._settings.max_bytes // _SHARE
        if self._files.quarantine.blocks <= limit:
            return
        self._table.commit()  # a row that outlived its file would come back as missing at the next start
        gone = self._files.quarantine.trim(limit)
        if gone:
            self._table.ledger.evicted["quarantine"] += gone
