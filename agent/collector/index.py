"""The index of the collector's store in SQLite: which tables there are, and how they are opened.

Everything in it can be told from the store's files again (`recover`); tables are only ever added, so an index of an
older version needs no conversion.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias
from urllib.parse import quote

from agent.errors import ConfigError
from agent.records import Meta

log = logging.getLogger(__name__)

INDEX = "index.sqlite"
UNLABELLED = "unlabelled"
Database: TypeAlias = sqlite3.Connection
StoreError: TypeAlias = sqlite3.OperationalError
"""The disk or another process refuses: the same may succeed later."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS candidate (
    cid TEXT PRIMARY KEY,
    device TEXT NOT NULL,
    camera TEXT NOT NULL,
    ts TEXT NOT NULL,
    ts_ns INTEGER NOT NULL,
    lane TEXT NOT NULL,
    score REAL NOT NULL,
    probability REAL,
    model TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    received TEXT NOT NULL,
    label TEXT NOT NULL DEFAULT 'unlabelled'
);
CREATE TABLE IF NOT EXISTS device (
    device TEXT PRIMARY KEY,
    last TEXT NOT NULL,
    stored INTEGER NOT NULL DEFAULT 0,
    duplicate INTEGER NOT NULL DEFAULT 0,
    partial INTEGER NOT NULL DEFAULT 0,
    rejected INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0
);
-- What the model saw, so that nobody has to read 100,000 files: size in pixels, {class: served rows}.
CREATE TABLE IF NOT EXISTS content (
    cid TEXT PRIMARY KEY,
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    served TEXT NOT NULL
) WITHOUT ROWID;
-- One row per revision file of a label; classes is {class: boxes}.
CREATE TABLE IF NOT EXISTS label (
    cid TEXT NOT NULL,
    revision INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    verdict TEXT NOT NULL,
    who TEXT NOT NULL,
    at TEXT NOT NULL,
    tool TEXT NOT NULL,
    partial INTEGER NOT NULL,
    classes TEXT NOT NULL,
    taken TEXT NOT NULL,
    stands INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (cid, revision)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS exported (cid TEXT PRIMARY KEY, export INTEGER NOT NULL) WITHOUT ROWID;
-- How a stored picture looks, for those that were compared; twin: the candidate it is like, where that was exported.
CREATE TABLE IF NOT EXISTS looks (cid TEXT PRIMARY KEY, look BLOB NOT NULL, twin TEXT) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS candidate_label ON candidate (label);
CREATE INDEX IF NOT EXISTS candidate_sha256 ON candidate (sha256);
"""


def open_database(path: Path, schema: str, *, synchronous: str = "FULL") -> Database:
    """A database that several processes may use at once; transactions are explicit.

    One that is damaged is set aside as ``<name>.bad`` and begun anew. Raises StoreError where the disk refuses.
    """
    try:
        return _open(path, schema, synchronous)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise
        log.error("database damaged, begun anew", extra={"path": str(path), "error": str(error)})
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            os.replace(f"{path}{suffix}", f"{path}.bad{suffix}")
    return _open(path, schema, synchronous)


def _open(path: Path, schema: str, synchronous: str) -> Database:
    database = sqlite3.connect(path, isolation_level=None, timeout=30, check_same_thread=False)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute(f"PRAGMA synchronous = {synchronous}")
        database.execute("PRAGMA cache_size = -256")  # KiB: the system caches too, and 2 MB a file fill up over hours
        (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
        database.executescript(schema)
    except sqlite3.Error:
        database.close()
        raise
    return database


@contextlib.contextmanager
def transaction(database: Database) -> Iterator[None]:
    """All or nothing; the write lock is taken at the start, so nobody's decision is overtaken."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            database.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def look(folder: Path) -> Iterator[Database]:
    """The index for reading only: beside a running service its shared memory is used and not written.

    Raises ConfigError where there is no store.
    """
    path = folder / INDEX
    if not path.exists():
        raise ConfigError(f"{folder}: no collector's store", remedy="name the folder of collector.store")
    beside = all(path.with_name(path.name + suffix).exists() for suffix in ("-wal", "-shm"))
    how = "readonly_shm=1" if beside else "immutable=1"
    with contextlib.closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro&{how}", uri=True)) as database:
        yield database


def describe(database: Database, cid: str, meta: Meta) -> None:
    """Keep what commands ask of many candidates at once."""
    served = Counter(row.name for row in meta.detections if row.served)
    database.execute(
        "INSERT OR IGNORE INTO content VALUES (?, ?, ?, ?)",
        (cid, meta.image.w, meta.image.h, json.dumps(served, sort_keys=True)),
    )
