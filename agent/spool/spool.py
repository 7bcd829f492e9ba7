"""The spool itself: `put` on the watch thread, `claim` to `forget` on the uplink thread."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from agent import durable
from agent.clock import Clock
from agent.errors import ItemError, SpoolFullError
from agent.records import Item, Meta
from agent.settings import SpoolSettings
from agent.spool import files as item_files
from agent.spool import value
from agent.spool.entry import Entry, Recovery, SpoolStats
from agent.spool.files import ItemFiles
from agent.spool.index import Index, is_full
from agent.spool.ledger import Ledger
from agent.spool.recovery import Reconciliation, open_index
from agent.spool.reserve import Reserve
from agent.spool.totals import Totals

log = logging.getLogger(__name__)

_FULL = (errno.ENOSPC, errno.EDQUOT)
_GROUP = 128
"""Changes that wait for one commit at most."""
_GROUP_S = 1.0
"""Seconds that a change waits for its commit at most, while anything happens at all."""
_LEDGER_S = 600.0
"""Seconds of quiet after which spool time is saved."""
_EXPIRY_S = 60.0
_BACKLOG = 2000
"""Uncommitted changes kept while the disk refuses commits; with more, nothing is claimed."""
_OLD_EVERY = 4
"""Every so many claims the oldest item has its turn, or a low value would wait for ever."""
_FOLDER_SHARE = 10
"""Quarantine and reserve take at most this fraction of the byte limit each."""


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
        self._clock = clock
        self._wake = wake or (lambda: None)
        self._trace = trace or (lambda _: None)
        self._files = ItemFiles(folder)
        self._reserve = Reserve(folder / "reserve", min(settings.reserve_bytes, settings.max_bytes // _FOLDER_SHARE))
        self._lock = threading.RLock()
        self._putting = threading.Lock()
        self._index: Index | None = None
        self._ledger = Ledger(clock, {})
        self._totals = Totals()
        self._leaving: dict[str, int] = {}
        """Files whose rows are deleted but not committed, with their blocks: removed after the commit."""
        self._quarantined = self._quarantine_bytes = 0
        self._committed = self._expired = 0.0
        self._claims = self._refused = 0
        self._degraded: str | None = None

    # Start and stop

    def recover(self) -> Recovery:
        """Bring files and index together; at every start, before anything else.

        Claims are released, files without a row adopted, damaged and missing ones quarantined, unfinished ones removed;
        a damaged index is set aside and built anew. Raises SpoolFullError where the disk does not let us: every later
        call then tries again by itself.
        """
        with self._lock:
            self._drop_index()
            with self._table("recover"):
                return self._recovery

    def close(self) -> None:
        """Commit what waits. Call it last: after the watch and the uplink have ended."""
        with self._lock:
            if self._index is not None:
                with contextlib.suppress(SpoolFullError), self._table("close"):
                    self._commit()
                self._drop_index()

    # The watch's side

    def put(self, item: Item) -> bool:
        """Accept an item; it is durable when this returns. True: new, False: already there.

        Raises SpoolFullError when nothing of less worth may be given up for it, or the disk does not take it; then
        nothing of it is left, and the same call succeeds again once there is room.
        """
        content = item_files.encode(item)
        with self._putting:
            with self._table("put") as index:
                if index.get(item.cid, 0.0) is not None:
                    return False
                entry = self._entry(item.cid, item.meta, len(content))
                self._make_room(index, entry)
            self._trace("put.room")
            self._write(entry, content)
            self._trace("put.durable")
            with (
                contextlib.suppress(SpoolFullError),
                self._table("put") as index,
            ):  # on disk: the next opening adopts it
                if index.get(item.cid, 0.0) is None:
                    self._admit(index, entry)
            self._trace("put.row")
        self._wake()
        return True

    # The uplink's side

    def claim(self, limit: int) -> list[Entry]:
        """Up to `limit` ready and due entries, now in state sending: highest value first, every fourth the oldest."""
        with self._table("claim") as index:
            self._expire(index)
            claimed: list[Entry] = []
            while len(claimed) < limit and index.changes < _BACKLOG:
                self._claims += 1
                now = self._ledger.now()
                entry = index.oldest(now) if self._claims % _OLD_EVERY == 0 else index.best(now)
                if entry is None:
                    break
                index.set_state(entry.cid, "sending", now)
                claimed.append(dataclasses.replace(entry, state="sending", waited_s=0.0))
            return claimed

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
        with self._table("sent") as index:
            index.set_state(cid, "sent", self._ledger.now(), tries=1)

    def release(self, cid: str, after_s: float = 0.0, *, blamed: bool = False) -> None:
        """Back to ready (no receipt, disconnected), due in `after_s` seconds; `blamed` counts one disconnect."""
        with self._table("release") as index:
            now = self._ledger.now()
            index.set_state(cid, "ready", now, due=now + after_s, blamed=int(blamed))
        self._wake()

    def forget(self, cid: str) -> None:
        """The collector has it. The row goes first, the file after the commit; an unknown id is ignored."""
        with self._table("forget") as index:
            entry = index.get(cid, 0.0)
            if entry is not None:
                self._remove(index, entry)

    def quarantine(self, cid: str, reason: str) -> bool:
        """It can never be delivered: keep it visibly aside with the reason. False for an unknown id."""
        with self._table("quarantine") as index:
            entry = index.get(cid, 0.0)
            if entry is None:
                return False
            self._files.set_aside(self._files.path(cid), reason)
            self._trace("quarantine.file")
            index.delete(cid)
            self._totals.drop(entry)
            self._count_quarantine()
            log.warning("item quarantined", extra={"cid": cid, "reason": reason})
            return True

    def waiting(self) -> list[Entry]:
        """Entries in state sent, in order of arrival, with how long they have waited and how often they were sent."""
        with self._table("waiting") as index:
            return index.sent(self._ledger.now())

    def purge(self, expect: int) -> int:
        """Give up everything that is not in quarantine, on an operator's word; returns how many items went.

        Raises ItemError when there are not exactly `expect` items: the operator saw another state.
        """
        with self._table("purge") as index:
            if expect != self._totals.items:
                raise ItemError(
                    f"purge of {expect} items refused: the spool holds {self._totals.items}",
                    remedy="ask with that number",
                )
            for folder in self._files.folders():
                for cid in index.cids(folder):
                    entry = index.get(cid, 0.0)
                    if entry is not None:
                        self._remove(index, entry)
            self._ledger.evicted["purge"] += expect
            self._commit()
            return expect

    def stats(self) -> SpoolStats:
        """The figures for status and stats."""
        with self._table("stats") as index:
            born = index.oldest_born()
            return SpoolStats(
                items=self._totals.items,
                bytes=self._totals.bytes,
                oldest_s=None if born is None else max(self._ledger.now() - born, 0.0),
                sent=index.count_sent(),
                quarantined=self._quarantined,
                evicted=dict(self._ledger.evicted),
                refused=self._refused,
                degraded=self._degraded,
            )

    # Index: opening, grouping commits, errors

    @contextlib.contextmanager
    def _table(self, operation: str) -> Iterator[Index]:
        """The index, locked. What the disk says against it becomes SpoolFullError; the next call opens it anew."""
        with self._lock:
            try:
                index = self._index or self._open()
                yield index
                self._settle(index)
            except Index.Error as error:
                self._drop_index()
                self._refuse(f"{operation}: {self._folder}: {error}", error)
            except OSError as error:
                self._refuse(f"{operation}: {error}", error)

    def _open(self) -> Index:
        for folder in (self._folder, self._files.items, self._files.quarantine):
            durable.make_folder(folder)
        index, rebuilt = open_index(self._folder, min(4_000_000, self._settings.max_bytes // 20))
        try:
            self._recovery = self._reconcile(index, rebuilt)
        except BaseException:
            index.close()
            raise
        self._index = index
        self._settle(index)
        return index

    def _reconcile(self, index: Index, rebuilt: str) -> Recovery:
        self._ledger = Ledger(self._clock, index.ledger())
        index.worth = self._ledger.typical.value
        self._totals = Totals()
        self._leaving.clear()
        released = index.release_all(self._ledger.now())

        def adopt(cid: str, meta: Meta, size: int) -> None:
            self._admit(index, self._entry(cid, meta, size))

        found = Reconciliation(self._files, index, adopt).run(lambda: index.commit(self._ledger.to_save()))
        self._totals = Totals.of(index)
        self._count_quarantine()
        with contextlib.suppress(OSError):
            self._reserve.hold()
        recovery = Recovery(items=self._totals.items, released=released, rebuilt=rebuilt, **found)
        log.info("spool recovered", extra=dataclasses.asdict(recovery))
        return recovery

    def _drop_index(self) -> None:
        if self._index is not None:
            self._index.close()
            self._index = None

    def _settle(self, index: Index) -> None:
        """Commit when enough has come together or has waited long enough."""
        waited = self._ledger.now() - self._committed
        if index.changes >= _GROUP or waited >= (_GROUP_S if index.changes else _LEDGER_S):
            self._commit()

    def _commit(self) -> bool:
        """Make all changes durable, then remove the files of deleted rows. False while the disk refuses."""
        index = self._index
        if index is None:
            return False
        self._committed = self._ledger.now()
        try:
            index.commit(self._ledger.to_save())
        except Index.Error as error:
            if not (is_full(error) and self._make_space_to_commit(index)):
                self._degrade(f"commit: {self._folder}: {error}")
                return False
        self._trace("commit.rows")
        self._remove_leaving()
        return True

    def _make_space_to_commit(self, index: Index) -> bool:
        """On a full disk files go before rows and the reserve is given up; True when the commit then succeeds."""
        self._remove_leaving()
        self._reserve.release()
        try:
            index.commit(self._ledger.to_save())
        except Index.Error:
            return False
        return True

    def _remove_leaving(self) -> None:
        for cid in list(self._leaving):
            with contextlib.suppress(OSError):  # read-only: the next recovery adopts it, and it is sent once more
                self._files.remove(cid)
            del self._leaving[cid]
        self._trace("commit.files")

    def _degrade(self, reason: str) -> None:
        if self._degraded is None:
            log.warning("spool degraded", extra={"reason": reason})
        self._degraded = reason

    def _refuse(self, what: str, cause: Exception | None = None) -> NoReturn:
        self._degrade(what)
        raise SpoolFullError(what, remedy="make room or mend the disk; it goes on by itself") from cause

    # Room

    def _write(self, entry: Entry, content: bytes) -> None:
        """The file, durably; on a full disk once more after items of less worth were given up for it."""
        for may_evict in (True, False):
            try:
                self._reserve.hold()
                self._files.write(entry.cid, content)
            except OSError as error:
                with contextlib.suppress(OSError):
                    self._files.remove(entry.cid)
                if may_evict and error.errno in _FULL and self._give_up_for(entry):
                    continue
                self._refused += 1
                self._refuse(f"put: write {self._files.path(entry.cid)}: {error.strerror}", error)
            else:
                if self._degraded is not None:
                    log.info("spool takes items again", extra={"was": self._degraded})
                self._degraded = None
                return

    def _give_up_for(self, entry: Entry) -> bool:
        """Full disk, whoever filled it: remove files of less worth at once."""
        with self._table("put") as index:
            chosen = self._victims(index, entry, entry.blocks)
            for victim in chosen or ():
                self._evict(index, victim, "disk")
            self._remove_leaving()
            return chosen is not None

    def _make_room(self, index: Index, entry: Entry) -> None:
        """Within the limits, before the file is written."""
        if self._excess(entry) > 0 and self._leaving:
            self._commit()
        excess = self._excess(entry)
        crowded = self._totals.items >= self._settings.max_items
        if excess <= 0 and not crowded:
            return
        chosen = self._victims(index, entry, excess)
        if chosen is None:
            self._refused += 1
            limit = f"{self._settings.max_items} items" if crowded else f"{self._settings.max_bytes} bytes"
            self._refuse(f"put: {self._folder}: the limit of {limit} is reached and nothing of less worth may go")
        for victim in chosen:
            self._evict(index, victim, "items" if crowded else "bytes")
        self._trace("evict.rows")
        if not self._commit():
            self._refused += 1
            self._refuse(self._degraded or "put: nothing can be evicted")

    def _excess(self, entry: Entry) -> int:
        """Bytes by which everything in the folder would pass the limit with this entry."""
        own = self._totals.blocks + sum(self._leaving.values()) + self._quarantine_bytes + self._reserve.bytes
        index = self._index.size() if self._index else 0
        return own + index + entry.blocks - self._settings.max_bytes

    def _victims(self, index: Index, entry: Entry, need: int) -> list[Entry] | None:
        now = self._ledger.now()
        if self._totals.canary_blocks > self._settings.max_bytes * value.CANARY_SHARE:
            surplus = list(index.lowest("canary", now, value.FRONT))
            if sum(victim.blocks for victim in surplus) >= need:
                return value.first_of(surplus, need)
        examples = self._totals.examples
        alone = sum(1 for count in examples.values() if count == 1)
        standing = (value.is_only_example(entry.classes, examples, own=0), entry.value)
        return value.victims(index.worst(now, 8 * value.FRONT + alone), examples, need, standing)

    def _evict(self, index: Index, entry: Entry, reason: str) -> None:
        self._remove(index, entry)
        self._ledger.evicted[reason] += 1
        log.info("item evicted", extra={"cid": entry.cid, "reason": reason, "value": round(entry.value, 3)})

    def _remove(self, index: Index, entry: Entry) -> None:
        index.delete(entry.cid)
        self._totals.drop(entry)
        self._leaving[entry.cid] = entry.blocks

    def _expire(self, index: Index) -> None:
        """Give up what is older than the age limit; looked for once a minute."""
        now = self._ledger.now()
        if now - self._expired < _EXPIRY_S:
            return
        self._expired = now
        for entry in index.born_before(now, now - self._settings.max_age_s):
            self._evict(index, entry, "age")

    def _count_quarantine(self) -> None:
        gone = self._files.trim_quarantine(self._settings.max_bytes // _FOLDER_SHARE)
        self._ledger.evicted.update(Counter({"quarantine": gone} if gone else {}))
        self._quarantine_bytes = self._files.quarantine_bytes()
        self._quarantined = len(self._files.quarantined())

    # Entries

    def _entry(self, cid: str, meta: Meta, size: int) -> Entry:
        return Entry(
            *(cid, meta.camera, meta.ts_ns, meta.lane, meta.score),
            value=self._ledger.typical.value(meta.lane, meta.score),
            bytes=size,
            state="ready",
            age_s=self._ledger.age_of(meta),
            classes=value.classes_of(meta),
        )

    def _admit(self, index: Index, entry: Entry) -> None:
        index.insert(entry, self._ledger.now())
        self._totals.add(entry)
        self._ledger.typical.learn(entry.lane, entry.score)
