"""Reading what people hand in: sizes are bounded before anything is read, and archives are never unpacked."""

from __future__ import annotations

import json
import lzma
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from agent.errors import ConfigError, LabelError

LARGEST = 256 * 1024 * 1024
"""Bytes of labels that are read at all, in one file or one archive: over 10,000 crowded frames."""
MOST_MEMBERS = 1_000_000
_DAMAGE = (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)
"""What the standard library raises for archives that are damaged, encrypted or packed in a way it does not know."""


def content(path: Path) -> bytes:
    """A file's bytes. Raises ConfigError where it cannot be read, LabelError where it is too large."""
    try:
        if path.stat().st_size > LARGEST:
            raise LabelError(f"larger than {LARGEST >> 20} MiB", remedy="export fewer tasks at a time")
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", remedy="name the file that the tool exported") from None


def parsed(text: bytes) -> Any:
    """JSON. Raises LabelError for anything else."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        why = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise LabelError(f"not JSON: {why}", remedy="export it from the tool again") from None


class Tree(Protocol):
    """A folder of files, or an archive of one."""

    def names(self) -> list[str]:
        """Every file's path with forward slashes, sorted."""

    def read(self, name: str) -> bytes:
        """One file's bytes. Raises LabelError where it cannot be had."""


class Part:
    """What is below one folder of a tree, named from there."""

    def __init__(self, tree: Tree, top: PurePosixPath) -> None:
        self._tree = tree
        self._top = "" if str(top) == "." else f"{top}/"

    def names(self) -> list[str]:
        return [name.removeprefix(self._top) for name in self._tree.names() if name.startswith(self._top)]

    def read(self, name: str) -> bytes:
        return self._tree.read(self._top + name)


class Folder:
    """Files below a folder; links that lead out of it are refused."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._names = sorted(
            path.relative_to(self._root).as_posix() for path in self._root.rglob("*") if path.is_file()
        )

    def names(self) -> list[str]:
        return self._names

    def read(self, name: str) -> bytes:
        path = (self._root / name).resolve()
        if not path.is_relative_to(self._root):
            raise LabelError("leads out of the folder", remedy="put the file itself there")
        return content(path)


class Archive:
    """The members of a zip file, read into memory within limits; nothing is ever written from it."""

    def __init__(self, path: Path) -> None:
        """Raises LabelError for a damaged archive, names that lead out of it, and more than the limits allow."""
        self._left = LARGEST
        try:
            self._zip = zipfile.ZipFile(path)
            members = [member for member in self._zip.infolist() if not member.is_dir()]
        except _DAMAGE as error:
            raise LabelError(f"not a zip archive: {error}", remedy="export it from the tool again") from None
        if len(members) > MOST_MEMBERS:
            raise LabelError(f"more than {MOST_MEMBERS} files", remedy="export fewer tasks at a time")
        for member in members:
            if _leads_out(member.filename):
                raise LabelError(f"{member.filename!a} leads out of the archive", remedy="do not trust this file")
        self._members = {member.filename: member for member in members}

    def names(self) -> list[str]:
        return sorted(self._members)

    def read(self, name: str) -> bytes:
        try:
            with self._zip.open(self._members[name]) as file:
                text = file.read(self._left + 1)
        except (*_DAMAGE, KeyError) as error:
            raise LabelError(f"damaged: {error}", remedy="export it from the tool again") from None
        self._left -= len(text)
        if self._left < 0:
            raise LabelError(f"unpacks to more than {LARGEST >> 20} MiB", remedy="export fewer tasks at a time")
        return text


def _leads_out(name: str) -> bool:
    path = PurePosixPath(name.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts or ":" in path.parts[0] if path.parts else True


def tree(path: Path) -> Tree:
    """The folder or zip archive at `path`. Raises ConfigError where there is neither."""
    if path.is_dir():
        return Folder(path)
    if path.is_file():
        return Archive(path)
    raise ConfigError(f"{path}: no such file or folder", remedy="name what the tool exported")
