"""The visible folder of what can never be delivered: the file, and beside it why."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path
from typing import Any

from agent import durable
from agent.spool.entry import whole_blocks

_NOTE = ".json"


class Quarantine:
    """Each file keeps its name and has ``<name>.json`` beside it; the folder's size is bounded by `trim`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.items = 0
        """Things set aside, or noted as missing."""
        self.blocks = 0
        """Bytes that everything in it takes on the disk."""

    def add(self, path: Path, reason: str, born: float) -> None:
        """Move a file here and write down why; where there is no file any more, the note alone stays.

        `born`: spool time of its capture.
        """
        durable.make_folder(self.folder)
        note = json.dumps({"v": 1, "name": path.name, "reason": reason, "born": round(born)}).encode()
        with contextlib.suppress(OSError):  # on a full disk the file still goes, and the log has the reason
            durable.write(self.folder / (path.name + _NOTE), note)
        with contextlib.suppress(FileNotFoundError):
            path.rename(self.folder / path.name)
        durable.sync_folder(self.folder)
        self.count()

    def reasons(self) -> dict[str, str]:
        """Why, by name of the file, for everything that is here."""
        return {name: str(self._note(name).get("reason", "unknown")) for name in sorted(self._names())}

    def knows(self, name: str) -> bool:
        """Whether this file, or a note about it, is here."""
        return (self.folder / name).exists() or (self.folder / (name + _NOTE)).exists()

    def sweep(self, items: Path) -> int:
        """Remove what a crash left: unfinished files (returns their number), and notes on files still under `items`."""
        unfinished = [path for path in self.folder.iterdir() if not _is_finished(path)]
        strays = [
            self.folder / (name + _NOTE)
            for name in self._names()
            if (items / name[0] / name).exists() and not (self.folder / name).exists()
        ]
        for path in unfinished + strays:
            path.unlink()
        self.count()
        return len(unfinished)

    def trim(self, limit: int) -> int:
        """Delete the oldest until all takes `limit` bytes at most; returns how many things went."""
        before = self.items
        for name in sorted(self._names(), key=self._set_aside_at) if self.blocks > limit else ():
            if self.blocks <= limit:
                break
            self._delete(name)
        return before - self.items

    def expire(self, born: float) -> int:
        """Delete what was captured before this spool time, or nobody knows when; returns how many things went."""
        old = [name for name in self._names() if float(self._note(name).get("born", -math.inf)) < born]
        for name in old:
            self._delete(name)
        return len(old)

    def _delete(self, name: str) -> None:
        for path in (self.folder / name, self.folder / (name + _NOTE)):
            path.unlink(missing_ok=True)
        self.count()

    def count(self) -> None:
        """Bring the figures up to date."""
        self.items = len(self._names())
        self.blocks = sum(whole_blocks(path.stat().st_size) for path in self.folder.iterdir())

    def _names(self) -> set[str]:
        with contextlib.suppress(FileNotFoundError):
            return {path.name.removesuffix(_NOTE) for path in self.folder.iterdir() if _is_finished(path)}
        return set()

    def _set_aside_at(self, name: str) -> int:
        paths = (self.folder / (name + _NOTE), self.folder / name)
        return next((path.stat().st_mtime_ns for path in paths if path.exists()), 0)

    def _note(self, name: str) -> dict[str, Any]:
        """What was written down; {} where that cannot be read."""
        with contextlib.suppress(OSError, ValueError):
            note = json.loads((self.folder / (name + _NOTE)).read_bytes())
            if isinstance(note, dict):
                return note
        return {}


def _is_finished(path: Path) -> bool:
    return not path.name.endswith(durable.TEMPORARY)
