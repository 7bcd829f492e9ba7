"""Room that is kept for the index: SQLite cannot even delete on a full disk."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


class Reserve:
    """A file of really allocated blocks that is given up when the index finds the disk full.

    On a small disk it takes at most a tenth of what is free. While it is given up nothing new is accepted, so what it
    freed is left to the index; `hold` takes it back as soon as there is room.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._size = size
        self.held = size == 0

    @property
    def bytes(self) -> int:
        """Bytes that it takes on the disk now."""
        try:
            return self._path.stat().st_size
        except OSError:
            return 0

    def hold(self) -> None:
        """Allocate it where it is not; raises OSError when there is no room."""
        if self.held:
            return
        free = os.statvfs(self._path.parent)
        size = min(self._size, max(free.f_bavail * free.f_frsize // 10, min(self._size, 4096)))
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            if os.fstat(descriptor).st_blocks * 512 < size:
                os.posix_fallocate(descriptor, 0, size)
        except OSError:
            self.release()
            raise
        finally:
            os.close(descriptor)
        self.held = True

    def release(self) -> None:
        """Give the room up."""
        with contextlib.suppress(OSError):
            self._path.unlink()
        self.held = self._size == 0
