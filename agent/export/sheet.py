"""A `data.yaml` of Ultralytics: class names, splits, and the labels of the images in them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.camera.recorded import IMAGE_SUFFIXES
from agent.errors import ConfigError

SHEET = "data.yaml"
EVALUATION = "test"
"""The split that nothing is trained on: canary frames with human labels."""


@dataclass(frozen=True, eq=False)
class Labelled:
    """An image and its human labels: classes (n,) and boxes (n, 4), x1 y1 x2 y2 as shares of the image."""

    image: Path
    classes: NDArray[np.int64]
    boxes: NDArray[np.float64]


@dataclass(frozen=True)
class Sheet:
    """What a `data.yaml` says; `splits` are folders, or text files with one image path per line."""

    file: Path
    names: tuple[str, ...]
    splits: dict[str, tuple[Path, ...]]

    def images(self, split: str) -> list[Path]:
        """Images of a split in the order of their names; raises ConfigError where there are none."""
        if split not in self.splits:
            known = ", ".join(self.splits) or "none"
            raise ConfigError(f"{self.file} has no split {split!r}", remedy=f"it has: {known}")
        found = sorted(image for entry in self.splits[split] for image in _images(entry))
        if not found:
            raise ConfigError(f"{self.file}: split {split!r} holds no images", remedy="check its path in the file")
        return found

    def labelled(self, split: str) -> Iterator[Labelled]:
        """The images of a split with their labels; raises ConfigError for a label that cannot be read."""
        for image in self.images(split):
            yield _labelled(image, len(self.names))

    def counts(self, split: str = "train") -> tuple[int, ...]:
        """Labelled objects per class."""
        total = np.zeros(len(self.names), np.int64)
        for one in self.labelled(split):
            total += np.bincount(one.classes, minlength=len(self.names))
        return tuple(total.tolist())

    def digest(self, split: str) -> str:
        """Which frames with which labels a split holds: sha256 over the hashes of both, 64 hex digits."""
        parts = [part for image in self.images(split) for part in (image, label_file(image))]
        total = hashlib.sha256()
        for part in parts:
            total.update(hashlib.sha256(part.read_bytes() if part.exists() else b"").digest())
        return total.hexdigest()


def read_sheet(path: Path) -> Sheet:
    """Read a `data.yaml` or the one in a folder; raises ConfigError with what is wrong in it."""
    file = path / SHEET if path.is_dir() else path
    try:
        import yaml
    except ImportError:
        raise ConfigError(f"{file}: reading it needs PyYAML", remedy="pip install 'tailkeeper[export]'") from None
    try:
        content = yaml.safe_load(file.read_text("utf-8"))
    except OSError as error:
        remedy = f"name a {SHEET} of Ultralytics or the folder of a data set version"
        raise ConfigError(f"{file}: {error.strerror}", remedy=remedy) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is no YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{file} is no {SHEET}", remedy="it has names and splits (train, val)")
    root = file.parent / str(content.get("path") or "")
    splits = {
        str(key): tuple(root / entry for entry in ([value] if isinstance(value, str) else value))
        for key, value in content.items()
        if key != "path" and (isinstance(value, str) or _texts(value)) and key in ("train", "val", "test")
    }
    return Sheet(file, _names(content.get("names"), file), splits)


def _names(names: Any, file: Path) -> tuple[str, ...]:
    if isinstance(names, dict) and sorted(names, key=str) == sorted(range(len(names)), key=str):
        names = [names[number] for number in range(len(names))]
    if not _texts(names):
        raise ConfigError(
            f"{file}: names: not a list of class names", remedy="a list, or numbers from 0 with a name each"
        )
    return tuple(names)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(entry, str) for entry in value)


def _images(entry: Path) -> list[Path]:
    if entry.is_dir():
        return [path for path in entry.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES]
    if not entry.is_file():
        return []
    lines = (Path(line.strip()) for line in entry.read_text("utf-8").splitlines() if line.strip())
    return [line if line.is_absolute() else entry.parent / line for line in lines]


def label_file(image: Path) -> Path:
    """Where Ultralytics looks for the labels of an image: the last folder `images` of its path becomes `labels`."""
    parts = list(image.parts)
    for at in range(len(parts) - 2, -1, -1):
        if parts[at] == "images":
            parts[at] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _labelled(image: Path, classes: int) -> Labelled:
    """No file, no objects."""
    file = label_file(image)
    lines = file.read_text("utf-8").splitlines() if file.exists() else []
    rows = [_label(line, f"{file}:{number}", classes) for number, line in enumerate(lines, 1) if line.strip()]
    table = np.array(rows, np.float64).reshape(-1, 5)
    centre, half = table[:, 1:3], table[:, 3:5] / 2
    return Labelled(image, table[:, 0].astype(np.int64), np.hstack([centre - half, centre + half]))


def _label(line: str, where: str, classes: int) -> list[float]:
    try:
        values = [float(text) for text in line.split()]
    except ValueError:
        values = []
    if len(values) != 5 or not all(0 <= value <= 1 for value in values[1:]):
        raise ConfigError(
            f"{where}: {line[:60]!r} is no label", remedy="class, centre x y, width height as shares 0..1"
        )
    if not (values[0].is_integer() and 0 <= values[0] < classes):
        raise ConfigError(f"{where}: class {values[0]:g}", remedy=f"the {SHEET} names classes 0 to {classes - 1}")
    return values
