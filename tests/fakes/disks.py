"""Real file systems of their own that a test may fill, pull or spoil (root only)."""

from __future__ import annotations

import fcntl
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_EXT4_SHUTDOWN = 0x8004587D
_NO_LOG_FLUSH = (2).to_bytes(4, "little")

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting file systems needs root")


class Ext4:
    """A loop-mounted ext4 that can lose its power: what was not made durable is gone at the next mount."""

    def __init__(self, folder: Path, megabytes: int = 64) -> None:
        self.image = folder / "disk.img"
        self.mounted = folder / "disk"
        self.mounted.mkdir()
        with self.image.open("wb") as image:
            image.truncate(megabytes * 1_000_000)
        _call("mkfs.ext4", "-q", "-F", "-b", "4096", "-E", "lazy_itable_init=0", self.image)

    def mount(self) -> None:
        _call("mount", "-o", "loop", self.image, self.mounted)

    def cut_power(self) -> None:
        """From now on every call on the file system fails, and nothing more reaches the disk."""
        descriptor = os.open(self.mounted, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _EXT4_SHUTDOWN, _NO_LOG_FLUSH)
        finally:
            os.close(descriptor)

    def bytes_written(self) -> int:
        """What the device has written so far, after everything that waited was."""
        os.sync()
        device = Path(_call("findmnt", "-n", "-o", "SOURCE", self.mounted).strip()).name
        return 512 * int(Path(f"/sys/block/{device}/stat").read_text("ascii").split()[6])

    def unmount(self) -> None:
        """Returns once the disk is really gone: a mount namespace made meanwhile by somebody else keeps it alive, and
        mounting the image again would then bring the dead file system back."""
        _call("umount", self.mounted)
        for _ in range(600):
            if not _call("losetup", "-j", self.image):
                return
            time.sleep(0.1)
        raise TimeoutError(f"another mount namespace still holds {self.image}")


@contextmanager
def ext4(folder: Path, megabytes: int = 64) -> Iterator[Ext4]:
    """A mounted one; skips the test where this machine has no loop devices."""
    disk = Ext4(folder, megabytes)
    try:
        disk.mount()
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no loop-mounted ext4 here: {error.stderr.strip()}")
    try:
        yield disk
    finally:
        if disk.mounted.is_mount():
            disk.unmount()


@contextmanager
def tmpfs(folder: Path, *options: str) -> Iterator[Path]:
    """A memory file system with these options, e.g. ``size=3m`` or ``nr_inodes=40``."""
    try:
        _call("mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", folder)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no tmpfs can be mounted here: {error.stderr.strip()}")
    try:
        yield folder
    finally:
        _call("umount", folder)


def remount(folder: Path, options: str) -> None:
    _call("mount", "-o", f"remount,{options}", folder)


def _call(*command: str | Path) -> str:
    return subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True).stdout
