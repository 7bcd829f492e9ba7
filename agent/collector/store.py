"""The collector's store: images and metadata as files, an index in SQLite.

    store/
      images/aa/<cid>.jpg
      meta/aa/<cid>.json        {v, cid, sha256, size, ctype, received, meta}
      labels/aa/<cid>.<n>.json  what people said of a candidate, every revision (`labels`)
      exports/<n>.json          which candidates went to a labelling tool
      index.sqlite              one row per candidate and per label, rebuilt from the files where it is lost
      staging.sqlite            parts of candidates that are not complete (elsewhere where collectors share it)

Files are durable before their row is committed, and the row is committed before the receipt is sent. A candidate has
one copy: its id is the primary key here, and where several stores share a staging store, there too.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from agent import durable
from agent.clock import Clock, rfc3339
from agent.collector.index import INDEX, SCHEMA, UNLABELLED, StoreError, describe, look, open_database, transaction
from agent.errors import ConfigError, ItemError
from agent.records import Item, Meta

log = logging.getLogger(__name__)

_COLUMNS = "cid, device, camera, ts, lane, score, probability, model, sha256, bytes, received, label"


def image_path(cid: str) -> str:
    """Relative to the store. Ids are hex digits, checked on arrival, so nobody's path gets in."""
    return f"images/{cid[:2]}/{cid}.jpg"


def meta_path(cid: str) -> str:
    return f"meta/{cid[:2]}/{cid}.json"


class Store:
    """One folder of candidates, open for writing. For one thread; other processes may have it open too."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        """Open it, create it where there is none, and `recover`. Raises ConfigError where that cannot be done."""
        self.folder = folder
        self._clock = clock
        try:
            for name in ("images", "meta"):
                durable.make_folder(folder / name)
                for first in range(256):
                    (folder / name / f"{first:02x}").mkdir(exist_ok=True)
                durable.sync_folder(folder / name)
            self._lock = (folder / "lock").open("w")
            self._index = open_database(folder / INDEX, SCHEMA)
        except (OSError, StoreError) as error:
            raise ConfigError(f"collector.store {folder}: {error}", remedy="name a folder it may write to") from None
        self.adopted = self.recover()
        """Ids that `recover` found without a row, with their device."""

    def close(self) -> None:
        self._index.close()
        self._lock.close()

    def have(self, cids: Sequence[str]) -> dict[str, str]:
        """Which of these are stored, with their device."""
        marks = ",".join("?" * len(cids))
        query = f"SELECT cid, device FROM candidate WHERE cid IN ({marks})"
        return dict(self._index.execute(query, list(cids)))

    def write(self, items: Sequence[Item]) -> None:
        """Images and metadata as files, made durable together; they are when it returns. Raises OSError."""
        received = rfc3339(self._clock.wall_ns())
        durable.write_all([pair for item in items for pair in self._files_of(item, received)])

    def _files_of(self, item: Item, received: str) -> tuple[tuple[str, bytes], tuple[str, bytes]]:
        head = {"v": 1, "cid": item.cid, "sha256": item.sha256, "size": len(item.image), "ctype": "image/jpeg"}
        text = json.dumps({**head, "received": received})[:-1] + f', "meta": {item.meta.model_dump_json()}}}'
        meta = (f"{self.folder}/{meta_path(item.cid)}", text.encode())
        return (f"{self.folder}/{image_path(item.cid)}", item.image), meta

    def add(self, items: Sequence[Item], counts: Mapping[str, Mapping[str, int]]) -> None:
        """Rows of items whose files are written, and what each device did, in one commit."""
        now = rfc3339(self._clock.wall_ns())
        with transaction(self._index):
            for item in items:
                self._insert(item.cid, item.sha256, len(item.image), now, item.meta)
            for device, columns in counts.items():
                self._index.execute("INSERT OR IGNORE INTO device (device, last) VALUES (?, ?)", (device, now))
                sums = "".join(f", {column} = {column} + ?" for column in columns)
                values = (now, *columns.values(), device)
                self._index.execute(f"UPDATE device SET last = ?{sums} WHERE device = ?", values)

    def remove(self, cid: str) -> None:
        """Take an item away again: another store has it."""
        for table in ("candidate", "content"):
            self._index.execute(f"DELETE FROM {table} WHERE cid = ?", (cid,))
        for name in (meta_path(cid), image_path(cid)):
            durable.remove(f"{self.folder}/{name}")

    def _insert(self, cid: str, sha256: str, size: int, received: str, meta: Meta) -> None:
        self._index.execute(
            "INSERT OR IGNORE INTO candidate VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(cid, meta.device, meta.camera, meta.ts, meta.ts_ns, meta.lane, meta.score, meta.probability),
                *(meta.model.id, sha256, size, received, UNLABELLED),
            ),
        )
        describe(self._index, cid, meta)

    def recover(self) -> dict[str, str]:
        """Adopt candidates whose files are complete and whose row is lost; remove what was never finished.

        Returns what was adopted. Does nothing while another collector has the store open: it may be writing.
        """
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            fcntl.flock(self._lock, fcntl.LOCK_SH)
            return {}
        try:
            return self._recover()
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_SH)

    def _recover(self) -> dict[str, str]:
        known = {cid for (cid,) in self._index.execute("SELECT cid FROM candidate")}
        adopted: dict[str, str] = {}
        with transaction(self._index):
            for path in self._files("meta", ".json"):
                if path.stem not in known and (device := self._adopt(path)):
                    adopted[path.stem] = device
        for path in self._files("images", ".jpg"):
            if path.stem not in known and path.stem not in adopted:
                path.unlink()
        return adopted

    def _files(self, name: str, suffix: str) -> Iterator[Path]:
        """Finished files; unfinished ones are removed on the way."""
        for folder in sorted((self.folder / name).iterdir()):
            with os.scandir(folder) as entries:
                names = sorted(entry.name for entry in entries)
            for found in names:
                if found.endswith(durable.TEMPORARY):
                    (folder / found).unlink(missing_ok=True)
                elif found.endswith(suffix):
                    yield folder / found

    def _adopt(self, path: Path) -> str | None:
        try:
            record = json.loads(path.read_bytes())
            meta = Meta.model_validate(record["meta"])
            image = (self.folder / image_path(path.stem)).read_bytes()
            if hashlib.sha256(image).hexdigest() != record["sha256"] or path.stem != record["cid"]:
                raise ItemError("image and metadata disagree")
            self._insert(path.stem, record["sha256"], len(image), record["received"], meta)
        except (OSError, ValueError, KeyError, TypeError, ItemError):
            path.unlink(missing_ok=True)  # the device has no receipt and sends it again
            return None
        return meta.device


def listing(folder: Path) -> Iterator[dict[str, Any]]:
    """The rows of ``dataset ls``, in order of arrival, also while the service runs; nothing is written.

    Raises ConfigError where there is no store.
    """
    with look(folder) as database:
        for row in database.execute(f"SELECT {_COLUMNS} FROM candidate ORDER BY rowid"):
            record = dict(zip(_COLUMNS.split(", "), row, strict=True))
            yield {**record, "path": image_path(record["cid"])}


def devices(folder: Path) -> list[dict[str, Any]]:
    """What each device has sent: last, stored, duplicate, partial, rejected, bytes."""
    with look(folder) as database:
        rows = database.execute("SELECT * FROM device ORDER BY device")
        names = [column[0] for column in rows.description]
        return [dict(zip(names, row, strict=True)) for row in rows]


def read_meta(folder: Path, cid: str) -> Meta | None:
    """A stored candidate's metadata; None where it is not there or cannot be read."""
    try:
        return Meta.model_validate(json.loads((folder / meta_path(cid)).read_bytes())["meta"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
