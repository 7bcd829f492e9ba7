"""Look into a spool from outside, also while the service runs. Nothing here writes into the spool's folder.

The files say which items there are; the index, where it can be read, adds their state and worth.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

from agent import durable
from agent.errors import ItemError, TailkeeperError
from agent.records import Item, Meta
from agent.spool import value
from agent.spool.entry import Entry, Verification
from agent.spool.files import FOLDERS, SUFFIX, ItemFiles, cid_of, is_cid
from agent.spool.index import read_entries
from agent.spool.recovery import INDEX


def listing(folder: Path) -> Iterator[Entry]:
    """Every item, by id, then what is in quarantine. An item without a row is listed as ready: recovery adopts it."""
    files = ItemFiles(folder)
    rows = {entry.cid: entry for entry in read_entries(folder / INDEX)}
    for cid in _cids(files):
        entry = rows.get(cid) or _entry_of_file(files, cid)
        if entry is not None:
            yield entry
    for name, reason in files.quarantine.reasons().items():
        yield _quarantined(files, name.removesuffix(SUFFIX), reason)


def verify(folder: Path) -> Verification:
    """Read every file, compare it with its checksums and the names with the index."""
    files = ItemFiles(folder)
    rows = {entry.cid for entry in read_entries(folder / INDEX)}
    damaged: dict[str, str] = {}
    unlisted: list[str] = []
    items = 0
    for cid in _cids(files):
        try:
            files.read(cid)
            items += 1
        except (ItemError, OSError) as error:
            if files.path(cid).exists():  # else it was delivered while we looked
                damaged[cid] = str(error)
        if cid not in rows:
            unlisted.append(cid)
        rows.discard(cid)
    missing = sorted(cid for cid in rows if not files.path(cid).exists())
    return Verification(items, damaged, tuple(unlisted), tuple(missing))


def read_item(folder: Path, cid: str) -> Item:
    """One item, verified, wherever it is; raises ItemError where it is damaged or not there."""
    files = ItemFiles(folder)
    try:
        return files.read(cid)
    except ItemError as error:
        if not (is_cid(cid) and files.path(cid, aside=True).exists()):
            raise ItemError(f"spool item {cid}: {error.what}", remedy="`tailkeeper spool ls` shows them") from None
        return files.read(cid, aside=True)
    except OSError as error:
        raise ItemError(f"spool item {cid}: {error.strerror}", remedy="look as root or as the service") from error


def export(folder: Path, out: Path) -> tuple[int, dict[str, str]]:
    """Copy every readable item to ``images/<cid>.jpg`` and ``meta/<cid>.json`` under `out` (for a stick).

    ``dataset import spool`` takes that folder. An item exported before is left alone, so an interrupted export goes on.
    Returns the number of items there now, and what could not be read, by cid. Raises TailkeeperError where `out`
    cannot be written.
    """
    files = ItemFiles(folder)
    images, metas = out / "images", out / "meta"
    exported, failed = 0, dict[str, str]()
    for cid in _cids(files):
        target = metas / f"{cid}.json"
        try:
            item = None if target.exists() else files.read(cid)
        except (ItemError, OSError) as error:
            if files.path(cid).exists():
                failed[cid] = str(error)
            continue
        try:
            if item is not None:
                durable.make_folder(images)
                durable.make_folder(metas)
                durable.write(images / f"{cid}.jpg", item.image)
                durable.write(target, _meta_text(item))
        except OSError as error:
            raise TailkeeperError(f"export to {out}: {error.strerror}", remedy="make room and export again") from error
        exported += 1
    return exported, failed


def _meta_text(item: Item) -> bytes:
    meta = item.meta.model_dump(mode="json")
    head = {"v": 1, "cid": item.cid, "sha256": item.sha256, "size": len(item.image), "ctype": "image/jpeg"}
    return json.dumps({**head, "meta": meta}, separators=(",", ":")).encode()


def _cids(files: ItemFiles) -> Iterator[str]:
    for folder in FOLDERS:
        try:
            names = files.names(folder)
        except OSError as error:
            raise TailkeeperError(
                f"spool {files.items}: {error.strerror}", remedy="look as root or as the service"
            ) from error
        yield from sorted(cid for name in names if (cid := cid_of(name, folder)))


def _entry_of_file(files: ItemFiles, cid: str) -> Entry | None:
    try:
        meta, size = files.read_meta(cid)
    except (ItemError, OSError):
        return None
    return _entry(cid, meta, size)


def _entry(cid: str, meta: Meta, size: int) -> Entry:
    return Entry(
        *(cid, meta.camera, meta.ts_ns, meta.lane, meta.score),
        value=value.Typical().value(meta.lane, meta.score),
        bytes=size,
        state="ready",
        classes=value.classes_of(meta),
    )


def _quarantined(files: ItemFiles, name: str, reason: str) -> Entry:
    """As much as is still readable of it."""
    try:
        entry = _entry(name, *files.read_meta(name, aside=True))
    except (ItemError, OSError):
        entry = Entry(name, camera="", ts_ns=0, lane=None, score=0.0, value=0.0, bytes=0, state="quarantine")
    return dataclasses.replace(entry, state="quarantine", reason=reason)
