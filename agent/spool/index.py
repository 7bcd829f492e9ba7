"""The index of the spool: SQLite, one small row per item. The only user of sqlite3 on the device.

Changes collect in one open transaction and are committed together (`commit`), with synchronous=FULL: the pages that
many changes touch are written once. Pages are small because each commit writes whole pages. Nothing here has to survive
for an item to survive, the files do that; a lost commit means that something is sent again, and the collector says
`duplicate`. While the disk refuses a commit the changes are kept in memory and carried out again later.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from agent.records import LANES, Lane
from agent.spool.entry import BLOCK, Entry, State
from agent.spool.value import Typical, Worth, rank_of

STATES: tuple[State, ...] = ("ready", "sending", "sent")
_PAGE = 1024
_SCHEMA = [
    """CREATE TABLE item (
    turn INTEGER PRIMARY KEY,           -- order of arrival
    cid BLOB NOT NULL UNIQUE,
    state INTEGER NOT NULL CHECK (state BETWEEN 0 AND 2),
    rank REAL NOT NULL,                 -- orders the items of one lane
    bytes INTEGER NOT NULL,
    camera TEXT NOT NULL,
    ts_ns INTEGER NOT NULL,
    lane TEXT NOT NULL,
    score REAL NOT NULL,
    classes TEXT NOT NULL,              -- names, one a line
    born REAL NOT NULL,                 -- times are spool time in seconds (see agent.spool.ledger)
    crc INTEGER NOT NULL,               -- of what never changes: a flipped bit must not evict an item
    since REAL NOT NULL,
    due REAL NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0,
    blamed INTEGER NOT NULL DEFAULT 0
)""",
    "CREATE INDEX ready ON item (lane, rank) WHERE state = 0",
    "CREATE INDEX flying ON item (state) WHERE state > 0",
    "CREATE TABLE ledger (one INTEGER PRIMARY KEY CHECK (one = 1), text TEXT NOT NULL)",
]
_REFUSALS = ("readonly", "unable to open", "disk I/O", "full", "locked")
_DELETE = "DELETE FROM item WHERE cid = ?"
_FROZEN = "cid, camera, ts_ns, lane, score, rank, bytes, classes, born"
_INSERT = f"INSERT INTO item ({_FROZEN}, crc, state, since, due) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?)"
_COLUMNS = f"{_FROZEN}, crc, state, tries, blamed, since, due"


class IndexDamagedError(sqlite3.DatabaseError):
    """The index cannot be read as one: build it anew from the files."""


class Index:
    """One connection to the index; not thread-safe by itself. Every method may raise `Index.Error`."""

    Error = sqlite3.Error

    def __init__(self, path: Path, *, checkpoint_bytes: int = 4_000_000) -> None:
        """Open or create it. Raises IndexDamagedError, or Index.Error where the disk does not let us."""
        self._path = path
        self._pending: list[tuple[str, str, tuple[object, ...]]] = []
        """Changes that are not committed: the id of the row, statement, values."""
        self._new: set[str] = set()
        """Ids whose rows no commit has seen."""
        self.worth: Worth = Typical().value
        """Value of a score in a lane; it moves with what the spool learns, so rows hold only the rank in their lane."""
        _check_header(path)
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
        self._db.text_factory = _text
        try:
            self._prepare(checkpoint_bytes)
        except BaseException as error:
            self._db.close()
            if is_damage(error):
                raise IndexDamagedError(str(error)) from None
            raise

    def _prepare(self, checkpoint_bytes: int) -> None:
        db = self._db
        db.execute(f"PRAGMA page_size = {_PAGE}")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA secure_delete = OFF")  # Debian's default would write every freed page once more
        db.execute("PRAGMA cache_size = -1024")
        db.execute(f"PRAGMA wal_autocheckpoint = {max(checkpoint_bytes // _PAGE, 16)}")
        if db.execute("PRAGMA schema_version").fetchone() == (0,):
            db.executescript(f"BEGIN; {';'.join(_SCHEMA)}; COMMIT;")
        self._check()

    def _check(self) -> None:
        """Raise IndexDamagedError unless it is our layout and every row is as it was written."""
        if [text for (text,) in self._db.execute("SELECT sql FROM sqlite_master WHERE sql NOT NULL")] != _SCHEMA:
            raise IndexDamagedError("its layout is another")
        (verdict,) = self._db.execute("PRAGMA integrity_check(1)").fetchone()
        if verdict != "ok":
            raise IndexDamagedError(verdict)
        for _ in self._entries(0.0, ""):
            pass

    def size(self) -> int:
        """Bytes of the index, its write-ahead log and the one that was set aside."""
        total = 0
        for suffix in ("", "-wal", ".bad"):
            with contextlib.suppress(OSError):
                total += self._path.with_name(self._path.name + suffix).stat().st_size
        return total

    @property
    def changes(self) -> int:
        """Number of changes that are not committed yet."""
        return len(self._pending)

    @property
    def only_new(self) -> bool:
        """Whether nothing waits for a commit but new rows: their files say the same."""
        return all(sql == _INSERT for _, sql, _ in self._pending)

    def change(self, cid: str, sql: str, *values: object) -> int:
        """Carry out a change of this row in the open transaction; returns the number of rows that it touched."""
        self._begin()
        touched = self._db.execute(sql, values).rowcount
        self._pending.append((cid, sql, values))
        return touched

    def commit(self, ledger: dict[str, Any]) -> None:
        """Make all changes durable together with the ledger. When it raises, they are kept for another call."""
        self._begin()
        text = json.dumps(ledger, separators=(",", ":"))
        try:
            self._db.execute("INSERT OR REPLACE INTO ledger VALUES (1, ?)", (text,))
            self._db.execute("COMMIT")
        except sqlite3.Error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        self._pending.clear()
        self._new.clear()

    def _begin(self) -> None:
        """Open the transaction; after a refused commit SQLite has rolled back, so carry the changes out again."""
        if self._db.in_transaction:
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for _, sql, values in self._pending:
                self._db.execute(sql, values)
        except sqlite3.Error:
            self._db.execute("ROLLBACK")
            raise

    def _rows(self, sql: str, *values: object) -> sqlite3.Cursor:
        if self._pending:
            self._begin()
        return self._db.execute(sql, values)

    def close(self) -> None:
        self._db.close()

    def ledger(self) -> dict[str, Any]:
        """What was kept with the last commit; {} when there is none."""
        return _tree(self._rows("SELECT text FROM ledger").fetchone())

    def insert(self, entry: Entry, now: float) -> None:
        if all(cid != entry.cid for cid, _, _ in self._pending):  # else a row may be there whose deletion waits
            self._new.add(entry.cid)
        frozen = (
            *(_key(entry.cid), entry.camera, entry.ts_ns, entry.lane, entry.score),
            *(rank_of(entry.lane, entry.score), entry.bytes, "\n".join(sorted(entry.classes)), now - entry.age_s),
        )
        self.change(
            entry.cid,
            _INSERT,
            *(*frozen, _crc(frozen), now, now),
        )

    def delete(self, cid: str) -> None:
        self.change(cid, _DELETE, _key(cid))

    def cancel(self, cid: str) -> bool:
        """Delete a row that no commit has seen, as if it had never been; False, and nothing done, for any other.

        An item that is delivered at once costs the disk no commit at all.
        """
        if cid not in self._new:
            return False
        self._begin()
        self._db.execute(_DELETE, (_key(cid),))
        self._new.remove(cid)
        self._pending = [change for change in self._pending if change[0] != cid]
        if not self._pending:
            self._db.execute("ROLLBACK")
        return True

    def get(self, cid: str, now: float) -> Entry | None:
        return next(self._entries(now, "WHERE cid = ?", _key(cid)), None)

    def best(self, now: float) -> Entry | None:
        """The ready and due entry of highest value, the older one among equals."""
        return max((best for lane in LANES for best in self._best_of(lane, now)), key=lambda e: e.value, default=None)

    def _best_of(self, lane: Lane, now: float) -> Iterator[Entry]:
        ready = "state = 0 AND lane = ? AND due <= ?"
        where = f"WHERE {ready} AND rank = (SELECT max(rank) FROM item WHERE {ready}) ORDER BY turn LIMIT 1"
        return self._entries(now, where, lane, now, lane, now)

    def oldest(self, now: float) -> Entry | None:
        """The ready and due entry that came first."""
        return next(self._entries(now, "WHERE +state = 0 AND due <= ? ORDER BY turn LIMIT 1", now), None)

    def worst(self, now: float, limit: int) -> list[Entry]:
        """The `limit` ready entries of lowest value, oldest first among equals."""
        return sorted((e for lane in LANES for e in self.lowest(lane, now, limit)), key=lambda e: e.value)[:limit]

    def lowest(self, lane: Lane, now: float, limit: int) -> Iterator[Entry]:
        """Ready entries of one lane by ascending rank, oldest first among equals."""
        return self._entries(now, "WHERE state = 0 AND lane = ? ORDER BY rank, turn LIMIT ?", lane, limit)

    def born_before(self, now: float, born: float) -> list[Entry]:
        """Ready entries that were put before this spool time."""
        return list(self._entries(now, "WHERE +state = 0 AND born < ?", born))

    def sent(self, now: float) -> list[Entry]:
        return list(self._entries(now, "WHERE state = 2 ORDER BY turn"))

    def cids(self, folder: str) -> set[str]:
        """The ids whose files belong in this folder under ``items``."""
        low, high = bytes.fromhex(folder + "0"), bytes.fromhex(folder + "f" * 31)
        rows = self._rows("SELECT cid FROM item WHERE cid BETWEEN ? AND ?", low, high)
        return {row[0].hex() for row in rows}

    def set_state(
        self, cid: str, state: State, now: float, *, due: float = 0.0, tries: int = 0, blamed: int = 0
    ) -> bool:
        """Change the state; `tries` and `blamed` are added to the counters. False where there is no such row."""
        return (
            self.change(
                cid,
                "UPDATE item SET state = ?, since = ?, due = ?, tries = tries + ?, blamed = blamed + ? WHERE cid = ?",
                *(STATES.index(state), now, due, tries, blamed, _key(cid)),
            )
            == 1
        )

    def release_all(self, now: float, longest_s: float) -> int:
        """Every row that was being sent is ready again, and none is due later than in `longest_s`; returns how many."""
        self.change("", "UPDATE item SET due = ? WHERE due > ?", now, now + longest_s)
        return self.change("", "UPDATE item SET state = 0, since = ?, due = ? WHERE state = 1", now, now)

    def totals(self) -> Iterator[tuple[frozenset[str], Lane, int, int, int]]:
        """Per group of items with equal classes and lane: classes, lane, number, bytes, bytes in whole blocks."""
        whole = f"sum((bytes + {BLOCK - 1}) / {BLOCK} * {BLOCK})"
        for classes, lane, count, size, blocks in self._rows(
            f"SELECT classes, lane, count(*), sum(bytes), {whole} FROM item GROUP BY classes, lane"
        ):
            yield _names(classes), lane, count, size, blocks

    def count_sent(self) -> int:
        return int(self._rows("SELECT count(*) FROM item WHERE state = 2").fetchone()[0])

    def oldest_born(self) -> float | None:
        """Spool time at which the item that came first was put."""
        row = self._rows("SELECT born FROM item ORDER BY turn LIMIT 1").fetchone()
        return float(row[0]) if row else None

    def _entries(self, now: float, where: str, *values: object) -> Iterator[Entry]:
        for row in self._rows(f"SELECT {_COLUMNS} FROM item {where}", *values):
            yield _entry_of(row, now, self.worth)


def read_entries(path: Path) -> list[Entry]:
    """All entries of a spool's index without writing a byte or leaving a file; [] where it cannot be read.

    Beside a running service its shared memory is opened for reading only; without one (or after a crash) the
    file is read as it is, without what the log may hold.
    """
    wal, shm = (path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))
    how = "readonly_shm=1" if wal.exists() and shm.exists() else "immutable=1"
    try:
        db = sqlite3.connect(f"file:{quote(str(path))}?mode=ro&{how}", uri=True)
        with contextlib.closing(db):
            db.text_factory = _text
            saved = _tree(db.execute("SELECT text FROM ledger").fetchone())
            now, worth = float(saved.get("time", 0.0)), Typical(saved.get("typical")).value
            return [_entry_of(row, now, worth) for row in db.execute(f"SELECT {_COLUMNS} FROM item ORDER BY turn")]
    except (sqlite3.Error, ValueError, TypeError, AttributeError):
        return []


def _entry_of(row: tuple[Any, ...], now: float, worth: Worth) -> Entry:
    frozen, (crc, state, tries, blamed, since, due) = row[:9], row[9:]
    if _crc(frozen) != crc or tuple(map(type, (tries, blamed, since, due))) != (int, int, float, float):
        raise IndexDamagedError("a row is damaged")
    cid, camera, ts_ns, lane, score, _, size, classes, born = frozen
    return Entry(
        *(cid.hex(), camera, ts_ns, lane, score, worth(lane, score), size, STATES[state], tries, blamed),
        waited_s=max(now - since, 0.0),
        age_s=max(now - born, 0.0),
        classes=_names(classes),
    )


def _check_header(path: Path) -> None:
    """Raise IndexDamagedError for a file whose first bytes SQLite would take for a read-only or a future format."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        head = file.read(20)
        if head and (
            len(head) < 20 or head[:16] != b"SQLite format 3\0" or head[18] not in (1, 2) or head[19] not in (1, 2)
        ):
            raise IndexDamagedError("its header is damaged")


def _key(cid: str) -> bytes:
    """The row's key; of anything that is no id, a key that no row has."""
    try:
        return bytes.fromhex(cid)
    except ValueError:
        return b""


def _crc(frozen: tuple[Any, ...]) -> int:
    return zlib.crc32(repr(frozen).encode())


def _names(classes: str) -> frozenset[str]:
    return frozenset(classes.split("\n")) if classes else frozenset()


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _tree(row: tuple[str] | None) -> dict[str, Any]:
    """The ledger's JSON; an unreadable one counts as none, for it holds nothing that an item needs."""
    with contextlib.suppress(ValueError):
        tree = json.loads(row[0]) if row else {}
        if isinstance(tree, dict):
            return tree
    return {}


def is_damage(error: BaseException) -> bool:
    """Whether an error says that the index's content is wrong, and not that the disk or a lock refuses.

    By its words: Python 3.10 does not pass SQLite's error codes on.
    """
    if isinstance(error, sqlite3.OperationalError):
        return not any(word in str(error) for word in _REFUSALS)
    return isinstance(error, (sqlite3.DatabaseError, ValueError))


def is_full(error: sqlite3.Error) -> bool:
    return "full" in str(error)
