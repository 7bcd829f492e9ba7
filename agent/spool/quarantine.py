"""The visible folder of what can never be delivered: the file, and beside it why."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from agent import durable
from agent.spool.entry import whole_blocks

_NOTE = ".json"


class Quarantine:
    """``quarantine/<name>`` with ``quarantine/<name>.json``; its size is bounded by `trim`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.items = 0
        """Notes, so: things set aside."""
        self.blocks = 0
        """Bytes that everything in it takes on the disk."""

    def add(self, path: Path, reason: str) -> None:
        """Move a file here and write down why; where there is no file any more, the note alone stays."""
        durable.make_folder(self.folder)
        note = json.dumps({"v": 1, "name": path.name, "reason": reason}).encode()
        with contextlib.suppress(OSError):  # on a full disk the file still goes, and the log has the reason
            durable.write(self.folder / (path.name + _NOTE), note)
        with contextlib.suppress(FileNotFoundError):
            path.rename(self.folder / path.name)
        durable.sync_folder(self.folder)
        self.count()

    def reasons(self) -> dict[str, str]:
        """Why, by name of the file, for everything that is here."""
        with contextlib.suppress(FileNotFoundError):
            names = {path.name.removesuffix(_NOTE) for path in self.folder.iterdir() if _is_finished(path)}
            return {name: self._reason(name) for name in sorted(names)}
        return {}

    def knows(self, name: str) -> bool:
        """Whether this file, or a note about it, is here."""
        return (self.folder / name).exists() or (self.folder / (name + _NOTE)).exists()

    def forget_note(self, name: str) -> None:
        """Remove the reason of a file that did not get here after all."""
        with contextlib.suppress(FileNotFoundError):
            (self.folder / (name + _NOTE)).unlink()

    def sweep(self) -> int:
        """Remove what was never finished; returns how many files that were."""
        unfinished = [path for path in self.folder.iterdir() if not _is_finished(path)]
        for path in unfinished:
            path.unlink()
        self.count()
        return len(unfinished)

    def trim(self, limit: int) -> int:
        """Delete the oldest until all takes `limit` bytes at most; returns how many things went."""
        if self.blocks <= limit:
            return 0
        before = self.items
        for path in sorted(self.folder.iterdir(), key=lambda found: (found.stat().st_mtime_ns, found.name)):
            if self.blocks <= limit:
                break
            self.blocks -= whole_blocks(path.stat().st_size)
            path.unlink()
        self.count()
        return before - self.items

    def count(self) -> None:
        """Bring the figures up to date."""
        found = list(self.folder.iterdir())
        self.items = len({path.name.removesuffix(_NOTE) for path in found})
        self.blocks = sum(whole_blocks(path.stat().st_size) for path in found)

    def _reason(self, name: str) -> str:
        try:
            return str(json.loads((self.folder / (name + _NOTE)).read_bytes())["reason"])
        except (OSError, ValueError, KeyError, TypeError):
            return "unknown"


def _is_finished(path: Path) -> bool:
    return not path.name.endswith(durable.TEMPORARY)
