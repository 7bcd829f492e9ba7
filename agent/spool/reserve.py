"""Room that is kept for the index: SQLite cannot even delete on a full disk."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_LEAST = 65_536
"""Bytes that it takes even of a disk that is nearly full at the start."""


class Reserve:
    """A file of really allocated blocks that is given up when the index finds the disk full.

    On a small disk it takes a tenth of what is free at the start. While it is given up nothing new is accepted, so what
    it freed is left to the index; `hold` takes it back as soon as there is room.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._wanted = size
        self._size = 0
        self._held = False

    @property
    def bytes(self) -> int:
        """Bytes that it takes on the disk now."""
        return self._size if self._held else 0

    @property
    def missing(self) -> int:
        """Bytes that `hold` would take."""
        return 0 if self._held else self._size

    def hold(self) -> None:
        """Allocate it where it is not; raises OSError when there is no room."""
        if self._held or not self._wanted:
            return
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            taken = os.fstat(descriptor).st_blocks * 512
            self._size = self._size or min(self._wanted, max(taken, free_bytes(self._path.parent) // 10, _LEAST))
            if taken < self._size:
                os.posix_fallocate(descriptor, 0, self._size)
            elif taken > self._size:
                os.ftruncate(descriptor, self._size)
        except OSError:
            self.release()
            raise
        finally:
            os.close(descriptor)
        self._held = True

    def release(self) -> None:
        """Give the room up."""
        with contextlib.suppress(OSError):
            self._path.unlink()
        self._held = False


def free_bytes(folder: Path) -> int:
    """Bytes that the file system under this folder has left for us."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize
