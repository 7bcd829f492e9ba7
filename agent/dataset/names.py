"""The names of classes, in order: from a data.yaml, a model bundle, a text file, or what is in the store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from agent.bundle import MANIFEST_FILE, parse_manifest
from agent.collector import LabelStore
from agent.errors import ConfigError

LARGEST = 256 * 1024
"""Bytes of a data.yaml: PyYAML takes a second for every 100 KB."""
_STUMBLES = (ValueError, TypeError, RecursionError, AttributeError, LookupError)
"""What PyYAML raises besides its own errors: for dates that are none, keys that cannot be, nesting without end."""


def read_names(path: Path) -> list[str]:
    """Names from a data.yaml, a bundle (folder or manifest.json), or a text file with one name a line.

    Raises ConfigError where there are none, or the same twice.
    """
    try:
        if path.is_dir() or path.name == MANIFEST_FILE:
            manifest = path / MANIFEST_FILE if path.is_dir() else path
            names = list(parse_manifest(manifest.read_bytes(), str(manifest)).classes)
        elif path.suffix in (".yaml", ".yml"):
            names = names_of(read_yaml(path), path)
        else:
            names = [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not a text file"
        raise ConfigError(f"{path}: {why}", remedy="name a data.yaml, a bundle or a list of names") from None
    return _distinct(names, path)


def read_yaml(path: Path) -> dict[str, Any]:
    """A data.yaml as it stands. Raises ConfigError for what is none, OSError."""
    return parse_yaml(path.read_bytes(), path)


def parse_yaml(text: bytes, path: Path) -> dict[str, Any]:
    """The same of its content. Raises ConfigError."""
    try:
        import yaml
    except ImportError:
        raise ConfigError(f"{path}: reading it needs PyYAML", remedy="pip install 'tailkeeper[dataset]'") from None
    if len(text) > LARGEST:
        raise ConfigError(f"{path} is larger than {LARGEST >> 10} KiB", remedy="name a data.yaml")
    try:
        document = yaml.safe_load(text.decode("utf-8-sig"))
    except (yaml.YAMLError, *_STUMBLES) as error:
        why = " ".join(str(error).split())[:100]
        raise ConfigError(f"{path} is not YAML: {why}", remedy="name a data.yaml") from None
    if not isinstance(document, dict):
        raise ConfigError(f"{path} has no keys", remedy="name a data.yaml with names, train and val")
    return document


def names_of(sheet: dict[str, Any], path: Path) -> list[str]:
    """The classes of a data.yaml: ``names`` as a list, or as a table from 0 on."""
    names = sheet.get("names")
    if isinstance(names, dict):
        names = [names.get(number, names.get(str(number))) for number in range(len(names))]
    if not isinstance(names, list) or not names or not all(isinstance(name, (str, int)) for name in names):
        raise ConfigError(f"{path}: names: not the classes in order", remedy="write names: {0: person, 1: car}")
    return _distinct([str(name) for name in names], path)


def _distinct(names: list[str], path: Path) -> list[str]:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None or not names:
        what = f"class {twice!r} twice" if names else "no classes"
        raise ConfigError(f"{path}: {what}", remedy="each class once, in order")
    return names


def names_in(store: LabelStore) -> list[str]:
    """The classes of the last export, and those that models have served since, in alphabetical order."""
    store.describe_all()
    before: list[str] = next((export["classes"] for export in reversed(store.exports())), [])
    served = {name for row in store.rows("DISTINCT served") for name in json.loads(row["served"] or "{}")}
    return [*before, *sorted(served - set(before))]
