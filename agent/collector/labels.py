"""The store's labels: what people said of candidates, and what was sent to them.

Files first, as everywhere in the store: a revision is durable before its row, and an export is remembered when its
folder is complete. Rows are told again from the files where they are lost. Works beside a running collector: one
importer at a time (a lock of its own), short transactions.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent import durable
from agent.clock import Clock, rfc3339
from agent.collector.index import INDEX, SCHEMA, StoreError, describe, look, open_database, transaction
from agent.collector.revisions import LabelState, Revision, decode_revision, standing
from agent.collector.store import Store, read_meta
from agent.errors import ConfigError, ItemError

log = logging.getLogger(__name__)

BATCH = 256
"""Labels of one commit."""
_NAME = re.compile(r"([0-9a-f]{32})\.([0-9]{4,})\.json")


def label_path(cid: str, revision: int) -> str:
    """Relative to the store."""
    return f"labels/{cid[:2]}/{cid}.{revision:04d}.json"


def read_label(folder: Path, cid: str, revision: int) -> Revision:
    """A revision, verified. Raises ItemError where it is gone, was changed, or is another one's."""
    path = folder / label_path(cid, revision)
    try:
        found = decode_revision(path.read_bytes(), str(path))
    except OSError as error:
        remedy = "restore it, or import the label again"
        raise ItemError(f"{path} cannot be read: {error.strerror}", remedy=remedy) from None
    if (found.cid, found.revision) != (cid, revision):
        raise ItemError(f"{path} is the label of {found.cid}", remedy="restore it, or import the label again")
    return found


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of labels that were given to the store."""

    stored: int
    known: int
    """Said before by the same person at the same time."""
    states: Mapping[str, LabelState]
    """Of each candidate they speak of, now."""


class LabelStore:
    """Labels and exports of one collector's store, open for writing. For one thread."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        """Open it and adopt label files without a row. Raises ConfigError where there is no store, or no right."""
        self.folder = folder
        self._clock = clock
        if not (folder / "meta").is_dir():
            raise ConfigError(f"{folder}: no collector's store", remedy="name the folder of collector.store")
        if not (folder / INDEX).exists():
            Store(folder, clock).close()  # lost: told again from the files
        try:
            for name in ("labels", "exports"):
                durable.make_folder(folder / name)
            self._lock = (folder / "labels" / "lock").open("w")
            self._index = open_database(folder / INDEX, SCHEMA)
        except (OSError, StoreError) as error:
            remedy = "run this as the user who owns the store"
            raise ConfigError(f"collector.store {folder}: {error}", remedy=remedy) from None
        with self._alone():
            self._recover()

    def __enter__(self) -> LabelStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._index.close()
        self._lock.close()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def rows(self, columns: str, where: str = "1", given: Sequence[Any] = ()) -> Iterator[dict[str, Any]]:
        """Candidates with their content, look and the label that stands, as asked for in SQL.

        Tables c (candidate), d (content), k (looks), l (the label that stands).
        """
        cursor = self._index.execute(
            f"SELECT {columns} FROM candidate c LEFT JOIN content d USING (cid) LEFT JOIN looks k USING (cid)"
            f" LEFT JOIN label l ON l.cid = c.cid AND l.stands WHERE {where}",
            tuple(given),
        )
        names = [column[0] for column in cursor.description]
        for row in cursor:
            yield dict(zip(names, row, strict=True))

    def models(self) -> set[str]:
        """Ids of the models that saw candidates, in lower case: none of them is a person."""
        return {str(row["model"]).casefold() for row in self.rows("DISTINCT model")}

    def candidates(self, cids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Those of `cids` that are stored: sha256, width, height, label."""
        self.describe_all()
        found: dict[str, dict[str, Any]] = {}
        for start in range(0, len(cids), BATCH):
            some = cids[start : start + BATCH]
            where = f"c.cid IN ({','.join('?' * len(some))})"
            found.update({row["cid"]: row for row in self.rows("c.cid, c.sha256, width, height, c.label", where, some)})
        return found

    def describe_all(self, progress: Callable[[str], None] = lambda _: None) -> None:
        """Read the metadata of candidates that an older version stored, once."""
        missing = "SELECT cid FROM candidate WHERE cid NOT IN (SELECT cid FROM content)"
        cids = [cid for (cid,) in self._index.execute(missing)]
        for start in range(0, len(cids), BATCH):
            metas = [(cid, read_meta(self.folder, cid)) for cid in cids[start : start + BATCH]]
            with transaction(self._index):
                for cid, meta in metas:
                    if meta is not None:
                        describe(self._index, cid, meta)
            progress(f"{start} of {len(cids)} candidates read")

    def add(self, revisions: Iterable[Revision]) -> Taken:
        """Keep these; what the same person said before word for word is not kept twice. Raises OSError, StoreError."""
        stored = 0
        states: dict[str, LabelState] = {}
        waiting = list(revisions)
        with self._alone():
            for start in range(0, len(waiting), BATCH):
                batch = waiting[start : start + BATCH]
                said = {cid: self.revisions(cid) for cid in dict.fromkeys(each.cid for each in batch)}
                fresh = [new for each in batch if (new := self._numbered(each, said[each.cid])) is not None]
                self._write(fresh)
                states |= self._keep(fresh, said)
                stored += len(fresh)
        return Taken(stored, len(waiting) - stored, states)

    def _numbered(self, revision: Revision, said: list[Revision]) -> Revision | None:
        """It with its number, put to what was `said`; None where it says nothing new."""
        if any(old.same_word(revision) and (old.settles or not revision.settles) for old in said):
            return None
        number = max((each.revision for each in said), default=0) + 1
        while (self.folder / label_path(revision.cid, number)).exists():  # a damaged one that was left out
            number += 1
        said.append(revision.model_copy(update={"revision": number, "taken": rfc3339(self._clock.wall_ns())}))
        return said[-1]

    def _write(self, revisions: Iterable[Revision]) -> None:
        files = [(self.folder / label_path(each.cid, each.revision), each.encode()) for each in revisions]
        for path, _ in files:
            durable.make_folder(path.parent)
        durable.write_all(files)

    def _keep(self, fresh: Sequence[Revision], said: Mapping[str, Sequence[Revision]]) -> dict[str, LabelState]:
        with transaction(self._index):
            for each in fresh:
                self._insert(each)
            return {cid: self._stand(cid, revisions) for cid, revisions in said.items()}

    def _insert(self, revision: Revision) -> None:
        self._index.execute(
            "INSERT OR REPLACE INTO label (cid, revision, sha256, verdict, who, at, tool, partial, classes, taken)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(revision.cid, revision.revision, revision.sha256, revision.verdict, revision.who, revision.when),
                *(revision.tool, revision.partial, json.dumps(revision.counts(), sort_keys=True), revision.taken),
            ),
        )

    def _stand(self, cid: str, revisions: Sequence[Revision]) -> LabelState:
        """Work out what the revisions come to, and keep it."""
        now = standing(revisions)
        state = now.state
        if state == "unlabelled" and self._index.execute("SELECT 1 FROM exported WHERE cid = ?", (cid,)).fetchone():
            state = "exported"
        self._index.execute("UPDATE label SET stands = (revision IS ?) WHERE cid = ?", (now.revision, cid))
        self._index.execute("UPDATE candidate SET label = ? WHERE cid = ?", (state, cid))
        return state

    def revisions(self, cid: str) -> list[Revision]:
        """Everything that was said of a candidate, in order; what is damaged is left out and logged."""
        found = []
        for (number,) in self._index.execute("SELECT revision FROM label WHERE cid = ? ORDER BY revision", (cid,)):
            try:
                found.append(read_label(self.folder, cid, number))
            except ItemError as error:
                log.warning("label left out", extra={"why": str(error)})
        return found

    def label_rows(self, cid: str) -> list[dict[str, Any]]:
        """What the index knows of a candidate's labels, in order: revision, sha256."""
        rows = self._index.execute("SELECT revision, sha256 FROM label WHERE cid = ? ORDER BY revision", (cid,))
        return [{"revision": revision, "sha256": sha256} for revision, sha256 in rows]

    def having(self, sha256s: Sequence[str]) -> dict[str, str]:
        """Which of these pictures are candidates: sha256 to cid."""
        found: dict[str, str] = {}
        for start in range(0, len(sha256s), BATCH):
            some = tuple(sha256s[start : start + BATCH])
            query = f"SELECT sha256, cid FROM candidate WHERE sha256 IN ({','.join('?' * len(some))})"
            found.update(self._index.execute(query, some))
        return found

    def remember_export(self, fmt: str, folder: Path, classes: Sequence[str], cids: Sequence[str]) -> int:
        """Note that these went to a labelling tool; to be called when the export's folder is complete."""
        with self._alone():
            number = max((int(path.stem) for path in (self.folder / "exports").glob("*.json")), default=0) + 1
            when = rfc3339(self._clock.wall_ns())
            record = {"v": 1, "format": fmt, "folder": str(folder), "when": when, "classes": classes, "cids": cids}
            durable.write(self.folder / "exports" / f"{number:06d}.json", json.dumps(record).encode())
            with transaction(self._index):
                self._mark_exported(number, cids)
        return number

    def _mark_exported(self, number: int, cids: Iterable[str]) -> None:
        pairs = [(cid, number) for cid in cids]
        self._index.executemany("INSERT OR REPLACE INTO exported VALUES (?, ?)", pairs)
        update = "UPDATE candidate SET label = 'exported' WHERE label = 'unlabelled' AND cid = ?"
        self._index.executemany(update, ((cid,) for cid, _ in pairs))

    def exports(self) -> list[dict[str, Any]]:
        """Past exports, oldest first: export, format, folder, when, classes, cids."""
        found = []
        for path in sorted((self.folder / "exports").glob("*.json")):
            with contextlib.suppress(OSError, ValueError):
                found.append({"export": int(path.stem), **json.loads(path.read_bytes())})
        return found

    def keep_looks(self, looks: Iterable[tuple[str, bytes, str | None]]) -> None:
        """Keep how candidates look: cid, look, and the candidate that it is a twin of."""
        with transaction(self._index):
            self._index.executemany("INSERT OR REPLACE INTO looks VALUES (?, ?, ?)", looks)

    def _recover(self) -> None:
        """Rows of label files and exports that have none, and the state of candidates whose row was made anew."""
        known = set(self._index.execute("SELECT cid, revision FROM label"))
        lost: dict[str, list[Path]] = {}
        for path in self._files():
            found = _NAME.fullmatch(path.name)
            if found and (found[1], int(found[2])) not in known:
                lost.setdefault(found[1], []).append(path)
        with transaction(self._index):
            for path in (path for paths in lost.values() for path in paths):
                self._adopt(path)
            stale = "SELECT DISTINCT l.cid FROM label l JOIN candidate c USING (cid) WHERE c.label IN (?, ?)"
            again = {cid for (cid,) in self._index.execute(stale, ("unlabelled", "exported"))}
            (last,) = self._index.execute("SELECT max(export) FROM exported").fetchone()
            for export in self.exports():
                if export["export"] > (last or 0):
                    self._mark_exported(export["export"], export["cids"])
            for cid in again | set(lost):
                self._stand(cid, self.revisions(cid))

    def _adopt(self, path: Path) -> None:
        try:
            revision = decode_revision(path.read_bytes(), str(path))
            if label_path(revision.cid, revision.revision) != str(path.relative_to(self.folder)):
                raise ItemError(f"{path} is the label of {revision.cid}")
        except (OSError, ItemError) as error:
            log.warning("label left out", extra={"why": str(error)})
        else:
            self._insert(revision)

    def _files(self) -> Iterator[Path]:
        for folder in sorted((self.folder / "labels").iterdir()):
            if folder.is_dir():
                with os.scandir(folder) as entries:
                    for entry in entries:
                        if entry.name.endswith(durable.TEMPORARY):
                            Path(entry.path).unlink(missing_ok=True)
                        else:
                            yield Path(entry.path)


def labels(folder: Path) -> Iterator[dict[str, Any]]:
    """Every revision with its candidate, for reports; nothing is written.

    cid, revision, verdict, who, at, tool, partial, classes (JSON: boxes by name), taken, stands (whether it counts);
    of the candidate device, camera, ts, lane, probability, model, state.

    Raises ConfigError where there is no store.
    """
    with look(folder) as database:
        if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'label'").fetchone():
            return  # a store that no command has labelled yet
        cursor = database.execute(
            "SELECT l.*, c.device, c.camera, c.ts, c.lane, c.probability, c.model, c.label AS state"
            " FROM label l JOIN candidate c USING (cid) ORDER BY l.taken, l.cid, l.revision"
        )
        names = [column[0] for column in cursor.description]
        for row in cursor:
            yield dict(zip(names, row, strict=True))
