"""The index together with what is kept in memory about it: opening, grouped commits, and files that leave."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from agent import durable
from agent.clock import Clock
from agent.errors import SpoolFullError
from agent.records import Meta
from agent.spool import value
from agent.spool.entry import Entry, Recovery
from agent.spool.files import ItemFiles
from agent.spool.index import Index, is_damage, is_full
from agent.spool.ledger import Ledger
from agent.spool.recovery import Reconciliation, open_index
from agent.spool.reserve import Reserve
from agent.spool.totals import Totals

log = logging.getLogger(__name__)

_GROUP = 128
"""Changes that wait for one commit at most."""
_GROUP_S = 5.0
"""Seconds that a change waits for its commit, until the next call: an item that is delivered at once costs none."""
_REMOVALS = 16
"""Files that are removed together, where so many come within `_QUIET_S`: each alone has the disk write as much as two
blocks, and many more at once would hold uploads up for some ten milliseconds. After a power cut they are sent again."""
_QUIET_S = 600.0
"""Seconds without a commit after which spool time is saved; that new rows wait, for their files are as good; and that
files wait for their removal."""
_DUE_S = 3600.0
"""After a start no item waits longer than this for its next turn."""


class Table:
    """What the spool knows of its items. All of it is used inside ``with table.use(...)``, which locks it."""

    def __init__(
        self,
        folder: Path,
        files: ItemFiles,
        reserve: Reserve,
        clock: Clock,
        checkpoint_bytes: int,
        trace: Callable[[str], None],
    ) -> None:
        self._folder = folder
        self._files = files
        self._reserve = reserve
        self._clock = clock
        self._checkpoint_bytes = checkpoint_bytes
        self._trace = trace
        self._lock = threading.RLock()
        self._index: Index | None = None
        self._suspicion = ""
        self._committed = 0.0
        self._changed: float | None = None
        self.ledger = Ledger(clock, {})
        self.totals = Totals()
        self.leaving: dict[str, int] = {}
        """Files whose rows are deleted, with their blocks: they are removed after the commit."""
        self._gone: dict[str, float] = {}
        """Those whose rows are deleted for good, with the time when that was."""
        self.recovery = Recovery()
        """What the last opening found."""
        self._complaints: dict[str, str] = {}

    @contextlib.contextmanager
    def use(self, operation: str) -> Iterator[Index]:
        """The index, opened and locked. What the disk says against it becomes SpoolFullError.

        An index that fails or shows damage is dropped: the next use opens it anew, from the files where it must.
        """
        with self._lock:
            try:
                index = self._index or self._open()
                yield index
                self._settle(index)
            except Index.Error as error:
                self._suspicion = str(error) if is_damage(error) else ""
                self.drop()
                self.refuse("index", f"{operation}: index in {self._folder}: {error}", error)
            except OSError as error:
                self.refuse("index", f"{operation}: {error}", error)

    def drop(self) -> None:
        """Close the index as it is; changes that were not committed are lost."""
        with self._lock:
            if self._index is not None:
                self._index.close()
            self._index = None

    def close(self) -> None:
        """Commit what waits, then close; what the disk refuses now is found again by the next opening."""
        with self._lock:
            with contextlib.suppress(Index.Error):
                self.commit()
            self.drop()

    def commit(self) -> bool:
        """Make all changes durable, then remove the files of deleted rows. False while the disk refuses."""
        done = self._commit_rows()
        if done:
            self._remove_gone(len(self._gone))
        return done

    def _commit_rows(self) -> bool:
        if self._index is None:
            return False
        self._committed, self._changed = self.ledger.now(), None
        try:
            self._index.commit(self.ledger.to_save())
        except Index.Error as error:
            if is_damage(error):
                raise
            if not (is_full(error) and self._commit_on_full_disk(self._index)):
                self.complain("commit", f"commit: index in {self._folder}: {error}")
                return False
        self.mended("commit")
        self._gone = {cid: self._gone.get(cid, self._committed) for cid in self.leaving}
        self._trace("commit.rows")
        return True

    def admit(self, index: Index, entry: Entry) -> None:
        """A row for a file that is on the disk."""
        index.insert(entry, self.ledger.now())
        self.totals.add(entry)
        self.ledger.typical.learn(entry.lane, entry.score)

    def remove(self, index: Index, entry: Entry) -> None:
        """Delete the row; the file follows the commit."""
        index.delete(entry.cid)
        self.totals.drop(entry)
        self.leaving[entry.cid] = entry.blocks

    def deliver(self, index: Index, entry: Entry) -> None:
        """As `remove`; but where no commit has seen the row none has to follow, and the file may go at once."""
        if not index.cancel(entry.cid):
            self.remove(index, entry)
            return
        self.totals.drop(entry)
        self.leaving[entry.cid] = entry.blocks
        self._gone[entry.cid] = self.ledger.now()

    def evict(self, index: Index, entry: Entry, reason: str) -> None:
        """Give a ready item up, counted."""
        self.remove(index, entry)
        self.ledger.evicted[reason] += 1
        log.info("item evicted", extra={"cid": entry.cid, "reason": reason, "value": round(entry.value, 3)})

    def entry_of(self, cid: str, meta: Meta, size: int) -> Entry:
        """What the index will say of an item with a file of `size` bytes."""
        return Entry(
            *(cid, meta.camera, meta.ts_ns, meta.lane, meta.score),
            value=self.ledger.typical.value(meta.lane, meta.score),
            bytes=size,
            state="ready",
            age_s=self.ledger.age_of(meta),
            classes=value.classes_of(meta),
        )

    @property
    def degraded(self) -> str | None:
        """What the disk refuses now; None when all is well."""
        return next(iter(self._complaints.values()), None)

    def complain(self, about: str, reason: str) -> None:
        """Something does not work now; logged when it begins."""
        if about not in self._complaints:
            log.warning("spool degraded", extra={"reason": reason})
        self._complaints[about] = reason

    def mended(self, about: str) -> None:
        """It works (again)."""
        reason = self._complaints.pop(about, None)
        if reason is not None:
            log.info("spool mended", extra={"was": reason})

    def refuse(self, about: str, reason: str, cause: Exception | None = None) -> NoReturn:
        self.complain(about, reason)
        raise SpoolFullError(reason, remedy="make room or mend the disk; it goes on by itself") from cause

    def _open(self) -> Index:
        for folder in (self._folder, self._files.items, self._files.quarantine.folder):
            durable.make_folder(folder)
        index, rebuilt = open_index(self._folder, self._checkpoint_bytes, self._suspicion)
        self._suspicion = ""
        try:
            self._reconcile(index, rebuilt)
        except BaseException:
            index.close()
            raise
        self._index = index
        self.mended("index")
        self.commit()
        return index

    def _reconcile(self, index: Index, rebuilt: str) -> None:
        self.ledger = Ledger.resume(self._clock, index.ledger())
        index.worth = self.ledger.typical.value
        self.leaving.clear()
        self._gone.clear()
        released = index.release_all(self.ledger.now(), _DUE_S)

        def adopt(cid: str, meta: Meta, size: int) -> None:
            self.admit(index, self.entry_of(cid, meta, size))

        now = self.ledger.now()
        found = Reconciliation(self._files, index, adopt, now).run(lambda: index.commit(self.ledger.to_save()))
        self.totals = Totals.of(index)
        self.recovery = Recovery(items=self.totals.items, released=released, rebuilt=rebuilt, **found)
        log.info("spool recovered", extra=dataclasses.asdict(self.recovery))

    def _settle(self, index: Index) -> None:
        """Commit when enough has come together or has waited long enough."""
        now = self.ledger.now()
        if not index.changes:
            self._changed = None
        elif self._changed is None:
            self._changed = now
        waited = 0.0 if self._changed is None or index.only_new else now - self._changed
        if index.changes >= _GROUP or waited >= _GROUP_S or now - self._committed >= _QUIET_S:
            self._commit_rows()
        if len(self._gone) >= _REMOVALS or any(now - since >= _QUIET_S for since in self._gone.values()):
            self._remove_gone(_REMOVALS)

    def _commit_on_full_disk(self, index: Index) -> bool:
        """Files go before their rows, and the reserve is given up; True when the commit then succeeds."""
        self._gone = dict.fromkeys(self.leaving, 0.0)
        self._remove_gone(len(self._gone))
        self._reserve.release()
        try:
            index.commit(self.ledger.to_save())
        except Index.Error:
            return False
        return True

    def _remove_gone(self, count: int) -> None:
        """Remove so many of the files whose rows are gone, the oldest first."""
        some = list(self._gone)[:count]
        for cid in some:
            with contextlib.suppress(OSError):  # read-only: the next recovery adopts it, and it is sent once more
                self._files.remove(cid)
            del self.leaving[cid], self._gone[cid]
            self._trace("commit.file")
        if some and not self._gone:
            self._trace("commit.files")
