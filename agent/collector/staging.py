"""Parts of candidates that are not complete yet, in a store of their own that collectors of a group may share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.collector.index import StoreError, open_database, transaction
from agent.errors import ConfigError
from agent.wire import CandidateHeader

KEEP_S = 86_400.0
"""Parts that nobody completed for so long are dropped."""
DEVICE_BYTES = 67_108_864
"""Staged bytes per device: four of the largest images under way, twice."""
TOTAL_BYTES = 2_147_483_648
_SCHEMA = """
CREATE TABLE IF NOT EXISTS split (
    cid TEXT PRIMARY KEY,
    device TEXT NOT NULL,
    n INTEGER NOT NULL,
    size INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    meta TEXT,
    corrupt INTEGER NOT NULL DEFAULT 0,
    staged INTEGER NOT NULL DEFAULT 0,
    since REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS part (
    cid TEXT NOT NULL,
    n INTEGER NOT NULL,
    i INTEGER NOT NULL,
    off INTEGER NOT NULL,
    length INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (cid, n, i)
);
CREATE TABLE IF NOT EXISTS owner (cid TEXT PRIMARY KEY, device TEXT NOT NULL, store TEXT NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class Assembled:
    """All parts of one candidate, put together."""

    device: str
    n: int
    sha256: str
    meta: str
    """JSON."""
    image: bytes


class Staging:
    """Not thread-safe; several processes may have one open."""

    def __init__(self, path: Path, store: str = "") -> None:
        """`store` names ours among those that share this staging store; empty where there is only one.

        Raises ConfigError where it cannot be opened.
        """
        self._store = store
        try:
            self._database = open_database(path, _SCHEMA, synchronous="FULL" if store else "NORMAL")
        except StoreError as error:
            remedy = "name a file in a folder that the collector may write to"
            raise ConfigError(f"collector.staging {path}: {error}", remedy=remedy) from None

    def close(self) -> None:
        self._database.close()

    @property
    def shared(self) -> bool:
        """Whether other stores take part."""
        return bool(self._store)

    def transaction(self) -> contextlib.AbstractContextManager[None]:
        return transaction(self._database)

    def elsewhere(self, cids: Sequence[str]) -> dict[str, str]:
        """Which of these another store has, with their device."""
        if not self._store or not cids:
            return {}
        marks = ",".join("?" * len(cids))
        query = f"SELECT cid, device FROM owner WHERE store != ? AND cid IN ({marks})"
        return dict(self._database.execute(query, [self._store, *cids]))

    def begun(self, cids: Iterable[str]) -> set[str]:
        """Of which of these there are parts, or that they arrived damaged."""
        some = list(cids)
        marks = ",".join("?" * len(some))
        return {cid for (cid,) in self._database.execute(f"SELECT cid FROM split WHERE cid IN ({marks})", some)}

    def own(self, cid: str, device: str) -> bool:
        """Claim a candidate whose files are written for our store; False where another store was first."""
        if not self._store:
            return True
        self._database.execute("INSERT OR IGNORE INTO owner VALUES (?, ?, ?)", (cid, device, self._store))
        row = self._database.execute("SELECT store FROM owner WHERE cid = ?", (cid,)).fetchone()
        return bool(row[0] == self._store)

    def room(self, device: str, length: int) -> bool:
        """Whether a device may stage so many bytes more."""
        sums = "SELECT sum(staged), sum(staged) FILTER (WHERE device = ?) FROM split"
        total, own = self._database.execute(sums, (device,)).fetchone()
        return (own or 0) + length <= DEVICE_BYTES and (total or 0) + length <= TOTAL_BYTES

    def add(self, device: str, header: CandidateHeader, body: memoryview, now: float) -> bool:
        """Keep one part; one that was cut otherwise (another n, offset or length) replaces the older split.

        False, and nothing kept, where another device has parts under this id.
        """
        cid, n = header.cid, header.n
        database = self._database
        if database.execute("SELECT 1 FROM split WHERE cid = ? AND device != ?", (cid, device)).fetchone():
            return False
        database.execute(
            "INSERT INTO split (cid, device, n, size, sha256, since) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (cid) DO UPDATE SET n = excluded.n, size = excluded.size, sha256 = excluded.sha256,"
            " since = excluded.since",
            (cid, device, n, header.size, header.sha256, now),
        )
        other = "n != ? OR (i = ? AND (off != ? OR length != ?))"
        known = database.execute(
            f"SELECT 1 FROM part WHERE cid = ? AND ({other})",
            (cid, n, header.i, header.off, len(body)),
        )
        if known.fetchone():
            database.execute("DELETE FROM part WHERE cid = ?", (cid,))
        if header.meta is not None:
            database.execute("UPDATE split SET meta = ? WHERE cid = ?", (header.meta.model_dump_json(), cid))
        row = (cid, n, header.i, header.off, len(body), body)
        database.execute("INSERT OR REPLACE INTO part VALUES (?, ?, ?, ?, ?, ?)", row)
        total = "(SELECT sum(length) FROM part WHERE cid = split.cid)"
        database.execute(f"UPDATE split SET staged = {total} WHERE cid = ?", (cid,))
        return True

    def assemble(self, cid: str) -> Assembled | None:
        """The candidate, where all its parts are there; parts that do not join up are as good as corrupt."""
        split = self._database.execute(
            "SELECT device, n, size, sha256, meta, count(i) FROM split JOIN part USING (cid, n) WHERE cid = ?", (cid,)
        ).fetchone()
        device, n, size, sha256, meta, count = split
        if device is None or meta is None or count < n:
            return None
        image = bytearray()
        for off, body in self._database.execute("SELECT off, body FROM part WHERE cid = ? ORDER BY i", (cid,)):
            if off == len(image):
                image += body
        return Assembled(device, n, sha256, meta, bytes(image) if len(image) == size else b"")

    def corrupt(self, device: str, header: CandidateHeader, now: float) -> int:
        """Drop the parts of a candidate that arrived damaged; returns how often that happened."""
        self.drop(header.cid, whole=False)
        self._database.execute(
            "INSERT INTO split (cid, device, n, size, sha256, corrupt, since) VALUES (?, ?, ?, ?, ?, 1, ?)"
            " ON CONFLICT (cid) DO UPDATE SET corrupt = corrupt + 1, since = excluded.since",
            (header.cid, device, header.n, header.size, header.sha256, now),
        )
        row = self._database.execute("SELECT corrupt FROM split WHERE cid = ?", (header.cid,)).fetchone()
        return int(row[0])

    def drop(self, cid: str, *, whole: bool = True) -> None:
        """Forget the parts, and with `whole` all that is known of them."""
        self._database.execute("DELETE FROM part WHERE cid = ?", (cid,))
        after = "DELETE FROM split WHERE cid = ?" if whole else "UPDATE split SET staged = 0 WHERE cid = ?"
        self._database.execute(after, (cid,))

    def sweep(self, now: float) -> int:
        """Drop what nobody completed; returns how many candidates that were."""
        with transaction(self._database):
            stale = "SELECT cid FROM split WHERE since < ?"
            self._database.execute(f"DELETE FROM part WHERE cid IN ({stale})", (now - KEEP_S,))
            return self._database.execute("DELETE FROM split WHERE since < ?", (now - KEEP_S,)).rowcount
