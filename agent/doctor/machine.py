"""The machine under the service: files and who may read them, the disk, the clock."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

from agent.clock import Clock
from agent.doctor.check import Check
from agent.settings import Loaded, Settings

_RELEASED = datetime(2026, 1, 1, tzinfo=timezone.utc)
"""No clock that is right is earlier."""
_CREDENTIALS = Path("/run/credentials")
_VOLATILE = frozenset({"tmpfs", "ramfs", "overlay"})
_INODES = 10_000


def check_permissions(loaded: Loaded) -> list[Check]:
    """Whether private things are private, and what the service must read and write is open to it."""
    found = [*_private_key(loaded.settings), *_folders(loaded.settings), *_readable(loaded.settings)]
    return found or [Check("permissions", "ok", "private files are private, the state folder can be written")]


def _private_key(settings: Settings) -> Iterator[Check]:
    key = Path(settings.broker.key_file)
    if settings.broker.key_file and key.exists() and key.stat().st_mode & 0o077:
        mode = stat.filemode(key.stat().st_mode)
        yield Check("permissions", "fail", f"others may read the key {key} ({mode})", f"chmod 600 {key}")


def _folders(settings: Settings) -> Iterator[Check]:
    """State folders that exist and cannot be written; systemd makes those that do not."""
    for folder in _state_folders(settings):
        if folder.exists() and not folder.is_dir():
            yield Check("permissions", "fail", f"{folder} is not a folder", "move it away, or set another folder")
        elif folder.is_dir() and not os.access(folder, os.W_OK):
            yield Check("permissions", "fail", f"{folder} cannot be written", "run as the service's user or as root")


def _readable(settings: Settings) -> Iterator[Check]:
    """Files that only root can read, where root looks and the service runs as another user."""
    if os.geteuid() != 0:
        return
    named = [settings.broker.ca_file, settings.broker.cert_file, settings.broker.key_file]
    for path in [Path(name) for name in named if name] + [settings.model.path]:
        owned = [_CREDENTIALS, *_state_folders(settings)]
        if path.exists() and not any(path.is_relative_to(folder) for folder in owned) and not _open_to_others(path):
            remedy = "chmod o+r it and o+x its folders; a key: make it a credential with `tailkeeper provision`"
            yield Check("permissions", "warn", f"the service's own user cannot read {path}", remedy)


def _open_to_others(path: Path) -> bool:
    parents = all(parent.stat().st_mode & stat.S_IXOTH for parent in path.absolute().parents)
    return bool(path.stat().st_mode & stat.S_IROTH) and parents


def _state_folders(settings: Settings) -> list[Path]:
    folders = [settings.device.state_dir] if settings.cameras else []
    return folders + ([settings.collector.store] if settings.collector.store else [])


def check_disk(settings: Settings) -> list[Check]:
    """Whether the disk under each state folder can hold what it may have to."""
    return [check for folder in _state_folders(settings) for check in _disk(folder, settings)]


def _disk(folder: Path, settings: Settings) -> Iterator[Check]:
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    disk = os.statvfs(place)
    free, name = disk.f_bavail * disk.f_frsize, "disk"
    if disk.f_flag & os.ST_RDONLY:
        yield Check(name, "fail", f"{place} is mounted read-only", "remount it; a worn-out SD card turns read-only")
        return
    if disk.f_files and disk.f_favail < _INODES:
        yield Check(
            name, "warn", f"{place} has room for {disk.f_favail} more files", "delete files, or lower spool.max_items"
        )
    if _file_system(place) in _VOLATILE:
        yield Check(name, "warn", f"{folder} is lost when the power is", "put the state folder on a disk")
    wanted = settings.spool.max_bytes + settings.spool.reserve_bytes if folder == settings.device.state_dir else 0
    held = _bytes_in(settings.device.spool_dir) if wanted else 0
    if free + held < wanted:
        detail = f"{place} has {free / 1e6:.0f} MB free and the spool may grow by {(wanted - held) / 1e6:.0f} MB"
        full = free < settings.spool.reserve_bytes
        yield Check(name, "fail" if full else "warn", detail, "make room, or lower spool.max_bytes")
    else:
        yield Check(name, "ok", f"{free / 1e6:.0f} MB free under {place}")


def _bytes_in(folder: Path) -> int:
    total = 0
    for inside, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(inside, name)).st_size  # noqa: PTH118 - 200,000 files
            except OSError:  # delivered in the meantime
                continue
    return total


def _file_system(place: Path) -> str:
    """Type of the file system that holds `place`, by the longest mount point above it."""
    try:
        mounts = [line.split() for line in Path("/proc/self/mounts").read_text("utf-8").splitlines()]
    except OSError:
        return ""
    above = [(len(point), kind) for _, point, kind, *_ in mounts if place.absolute().is_relative_to(point)]
    return max(above, default=(0, ""))[1]


def check_clock(clock: Clock) -> list[Check]:
    """Whether the wall clock can be right, and is known to be."""
    now = datetime.fromtimestamp(clock.wall_ns() / 1e9, timezone.utc)
    remedy = "let timesyncd (timedatectl set-ntp true), chrony or ntpd keep the time and reach a time server"
    if now < _RELEASED:
        return [Check("clock", "fail", f"it says {now:%Y-%m-%d %H:%M} UTC: certificates will not be valid", remedy)]
    if not clock.synced():
        return [Check("clock", "warn", f"it says {now:%Y-%m-%d %H:%M} UTC and is not synchronised", remedy)]
    return [Check("clock", "ok", f"synchronised, {now:%Y-%m-%d %H:%M} UTC")]
