"""A sample on its way into a version: its picture still lies where it came from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from agent.dataset.versions.record import Sample, Split
from agent.errors import VersionError


@dataclass(slots=True)
class Draft:
    """`sample` is complete but for its side, group and name in the new version."""

    sample: Sample
    picture: Path
    label: bytes | Path
    """The label file's content, or where it lies."""
    look: bytes
    inherited: bool = False
    """From the parent: it stays on its side."""
    wish: Split | None = None
    """Where it should go, where a folder or the lane says so; None: drawn."""

    @property
    def key(self) -> str:
        return self.sample.key

    def text(self) -> bytes:
        """The label file's content. Raises VersionError where it is not the one that the sample names."""
        if isinstance(self.label, bytes):
            return self.label
        content = self.label.read_bytes()
        if hashlib.sha256(content).hexdigest() != self.sample.label_sha256:
            raise VersionError(f"{self.label} was changed", remedy="restore it: a label is changed in the store only")
        return content


def file_hash(path: Path) -> str:
    """sha256 of a file; raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
