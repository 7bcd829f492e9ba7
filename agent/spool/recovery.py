"""Bring index and files together again: at every start, and whenever the index had to be opened anew."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from agent import durable
from agent.errors import ItemError
from agent.records import Meta
from agent.spool.files import FOLDERS, ItemFiles, cid_of
from agent.spool.index import Index, IndexDamagedError

INDEX = "index.sqlite"


def open_index(folder: Path, checkpoint_bytes: int, suspicion: str) -> tuple[Index, str]:
    """The index, and why it is a new one ("" when it was sound). A damaged one is set aside as ``index.sqlite.bad``.

    `suspicion` says what was wrong with it when it was last in use; then it is not tried again.
    """
    path = folder / INDEX
    try:
        if suspicion:
            raise IndexDamagedError(suspicion)
        return Index(path, checkpoint_bytes=checkpoint_bytes), ""
    except IndexDamagedError as damage:
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            path.replace(path.with_name(path.name + ".bad"))
        durable.sync_folder(folder)
        return Index(path, checkpoint_bytes=checkpoint_bytes), str(damage)


class Reconciliation:
    """One walk over the folders of ``items``, comparing names with rows; memory holds one folder at a time."""

    def __init__(self, files: ItemFiles, index: Index, adopt: Callable[[str, Meta, int], None], now: float) -> None:
        """`now`: spool time."""
        self._files = files
        self._index = index
        self._adopt = adopt
        """Takes a file without a row into the index: cid, metadata, file size."""
        self._now = now
        self._counts: Counter[str] = Counter()

    def run(self, commit: Callable[[], None]) -> dict[str, int]:
        """Walk; returns what was found under the names of `Recovery`."""
        for folder in FOLDERS:
            self._folder(folder)
            if self._index.changes > 100:
                commit()
        self._counts["temporaries"] += self._files.quarantine.sweep(self._files.items)
        return dict(self._counts)

    def _folder(self, folder: str) -> None:
        rows = self._index.cids(folder)
        for name in self._files.names(folder):
            path = self._files.items / folder / name
            cid = cid_of(name, folder)
            if name.endswith(durable.TEMPORARY):
                path.unlink()
                self._counts["temporaries"] += 1
            elif cid is None:
                self._set_aside(path, "the file's name is not an item's")
            elif cid in rows:
                rows.remove(cid)
            else:
                self._adopt_file(cid)
        for cid in rows:
            self._index.delete(cid)
            if not self._files.quarantine.knows(self._files.path(cid).name):
                self._set_aside(self._files.path(cid), "the file is missing")

    def _adopt_file(self, cid: str) -> None:
        try:
            meta, size = self._files.read_meta(cid)
        except ItemError as error:
            self._set_aside(self._files.path(cid), error.what)
            return
        self._adopt(cid, meta, size)
        self._counts["adopted"] += 1

    def _set_aside(self, path: Path, reason: str) -> None:
        self._files.quarantine.add(path, reason, self._now)
        self._counts["quarantined"] += 1
