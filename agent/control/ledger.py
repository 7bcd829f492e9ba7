"""Every command a device was given and what became of it: one small durable file each.

A command is on the disk before it is begun and its result before it is told, so a redelivery finds the stored state and
a restart finds what was interrupted. An id is forgotten only when it cannot come back: the requester cleared the
retained command, or its time is over; until then the ledger rather refuses new ones than forget.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from agent import durable
from agent.records import Record
from agent.wire import Command, CommandState, CommandStatus

_LAYOUT = 1
LIMIT = 256
"""Commands that are remembered."""
FINAL: tuple[CommandStatus, ...] = ("successful", "failed", "rejected", "expired")


class Entry(Record):
    """A command with its state."""

    command: Command
    state: CommandState
    expires_ns: int
    """Wall time after which it is not to be begun any more."""
    cleared: bool = False
    """The requester took the retained command away: it will not come again."""

    @property
    def final(self) -> bool:
        return self.state.status in FINAL


class Ledger:
    """The commands of one device; threads may share it."""

    def __init__(self, folder: Path, *, trace: Callable[[str], None] = lambda _: None) -> None:
        """`trace` is told each step after it is durable: ``command.<status>``."""
        self._folder = folder
        self._trace = trace
        self._lock = threading.Lock()
        durable.make_folder(folder)
        self._entries: dict[str, Entry] = {}
        for path in sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns):
            with contextlib.suppress(ValueError):
                entry = Entry.model_validate((durable.load_state(path, _LAYOUT) or {}).get("entry"))
                self._entries[entry.command.cmd_id] = entry

    def get(self, cmd_id: str) -> Entry | None:
        return self._entries.get(cmd_id)

    def unfinished(self) -> Iterable[Entry]:
        """Entries that have no final state, oldest first."""
        return [entry for entry in list(self._entries.values()) if not entry.final]

    def add(self, command: Command, expires_ns: int, now_ns: int) -> Entry | None:
        """Remember a new command as received; None where there is no room for another. Raises OSError.

        `now_ns`: wall time, or 0 where the clock cannot be trusted.
        """
        with self._lock:
            if len(self._entries) >= LIMIT and not self._forget_one(now_ns):
                return None
            state = CommandState(cmd_id=command.cmd_id, status="received")
            return self._save(Entry(command=command, state=state, expires_ns=expires_ns))

    def move(self, cmd_id: str, status: CommandStatus, **details: Any) -> Entry:
        """Put a command into another state; raises OSError, but keeps a final state in memory even then."""
        with self._lock:
            state = CommandState(cmd_id=cmd_id, status=status, **details)
            return self._save(self._entries[cmd_id].model_copy(update={"state": state}))

    def clear(self, cmd_id: str) -> None:
        """The retained command is gone from the broker."""
        with self._lock:
            entry = self._entries.get(cmd_id)
            if entry and not entry.cleared:
                self._save(entry.model_copy(update={"cleared": True}))

    def _save(self, entry: Entry) -> Entry:
        cmd_id = entry.command.cmd_id
        if entry.final:
            self._entries[cmd_id] = entry
        durable.save_state(self._folder / f"{cmd_id}.json", _LAYOUT, {"entry": entry.model_dump(mode="json")})
        self._entries[cmd_id] = entry
        self._trace(f"command.{entry.state.status}")
        return entry

    def _forget_one(self, now_ns: int) -> bool:
        """Make room: the oldest command that is done and cannot come back."""
        for cmd_id, entry in self._entries.items():
            if entry.final and (entry.cleared or entry.expires_ns < now_ns):
                (self._folder / f"{cmd_id}.json").unlink(missing_ok=True)
                del self._entries[cmd_id]
                return True
        return False
