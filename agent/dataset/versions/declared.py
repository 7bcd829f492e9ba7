"""The way of a whole folder into a version: somebody declares that it holds real pictures with people's labels.

That word is written into the card, with every file's hash. What is plainly a model's output is refused all the same:
labels with a confidence, folders that `predict` writes, our own exports with their pre-annotations, and pictures that
are candidates of the store, whose labels have to come through the store.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from agent.collector import LabelStore
from agent.dataset.export import BATCH_FILE
from agent.dataset.looks import Looks, look
from agent.dataset.names import names_of, read_yaml
from agent.dataset.tasks import rows_of
from agent.dataset.versions.draft import Draft, file_hash
from agent.dataset.versions.record import Origin, Sample, count, label_text, parse_label
from agent.errors import ConfigError, LabelError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
_PREDICTED = re.compile(r"predict(ions?|ed)?\d*|(.*_)?auto_?annotate(_labels)?|pre_?annotations?", re.IGNORECASE)
"""Names of folders that Ultralytics' `predict` and `auto_annotate`, and people, keep a model's output in."""

Box: TypeAlias = tuple[float, float, float, float]
SAME_SHARE = 1e-4
"""Of the picture: what rounding moves a side by at most."""


@dataclass(frozen=True, slots=True)
class Folder:
    """A data.yaml and who declares what it holds."""

    sheet: Path
    declared_by: str
    source: Literal["base", "synthetic"] = "base"

    def names(self) -> list[str]:
        """Raises ConfigError where there is no such data.yaml."""
        return names_of(_sheet(self.sheet), self.sheet)


@dataclass(frozen=True, slots=True)
class _Found:
    """A picture of the folder, and where its label would be."""

    picture: Path
    label: Path
    split: Literal["train", "val"]


def read_folder(
    folder: Folder, store: LabelStore, names: Sequence[str], progress: Callable[[str], None] = lambda _: None
) -> tuple[Origin, list[Draft]]:
    """Every picture of train and val with its label, for a version with the classes `names`.

    Raises ConfigError for a folder that must not be learned from, and for one that cannot be read.
    """
    sheet = _sheet(folder.sheet)
    refuse_predictions(folder.sheet.parent)
    theirs = names_of(sheet, folder.sheet)
    unknown = [name for name in theirs if name not in names]
    if unknown:
        what = f"{folder.sheet}: class {unknown[0]!r} is not one of the version's"
        raise ConfigError(what, remedy="add it with --add-class, if all samples were labelled for it")
    found = list(_pictures(sheet, folder))
    if not found:
        raise ConfigError(f"{folder.sheet}: no pictures in train or val", remedy="check path, train and val")
    for place in {path.resolve().parent for each in found for path in (each.picture, each.label)}:
        refuse_predictions(place)
    drafts = []
    with ThreadPoolExecutor(os.cpu_count() or 1, "base") as readers:
        for number, draft in enumerate(readers.map(lambda each: _draft(each, folder, theirs, names), found)):
            drafts.append(draft)
            if number % 500 == 0:
                progress(f"{folder.sheet}: {number} of {len(found)} pictures")
    _refuse_candidates(drafts, store)
    _refuse_guesses(drafts, store, names)
    digest = hashlib.sha256()
    for each in sorted(f"{draft.sample.sha256} {draft.sample.label_sha256}\n" for draft in drafts):
        digest.update(each.encode())
    content = digest.hexdigest()
    place = folder.sheet.resolve()
    return Origin(name=place.parent.name, path=str(place), content=content, declared_by=folder.declared_by), drafts


def _sheet(path: Path) -> dict[str, Any]:
    try:
        return read_yaml(path)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", remedy="name a data.yaml") from None


def refuse_predictions(folder: Path) -> None:
    """Raise ConfigError for a folder that is known to hold a model's output."""
    if (folder / BATCH_FILE).exists():
        what = f"{folder} is an export for labelling: its boxes are predictions"
        raise ConfigError(what, remedy="label it, and `tailkeeper dataset import` the result")
    part = next((part for part in folder.resolve().parts if _PREDICTED.fullmatch(part)), None)
    if part is not None:
        what = f"{folder} is in a folder called {part!r}: a model's output"
        raise ConfigError(what, remedy="have people label these pictures")


def _pictures(sheet: dict[str, Any], folder: Folder) -> Iterator[_Found]:
    """In the order of their names; a picture in both train and val is of train."""
    root = folder.sheet.parent / str(sheet.get("path") or ".")
    seen: set[Path] = set()
    splits: tuple[Literal["train", "val"], ...] = ("train", "val")
    for split in splits:
        named = sheet.get(split) or ()
        for place in [named] if isinstance(named, str) else named:
            for picture in _listed(root / str(place), folder.sheet):
                if picture not in seen:
                    seen.add(picture)
                    yield _Found(picture, _label_of(picture), split)


def _listed(place: Path, sheet: Path) -> Iterable[Path]:
    """Pictures below a folder, or named by a text file one a line (relative to the text file)."""
    if place.is_dir():
        return sorted(path for path in place.rglob("*") if path.suffix.lower() in SUFFIXES)
    try:
        lines = place.read_text("utf-8").split("\n")
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"{sheet}: {place} is no folder", remedy="check path, train and val") from None
    return [place.parent / line.strip() for line in lines if line.strip()]


def _label_of(picture: Path) -> Path:
    """Where Ultralytics looks for the label: the last images/ replaced by labels/."""
    head, found, tail = str(picture).rpartition(f"{os.sep}images{os.sep}")
    place = Path(f"{head}{os.sep}labels{os.sep}{tail}") if found else picture
    return place.with_suffix(".txt")


def _draft(found: _Found, folder: Folder, theirs: Sequence[str], names: Sequence[str]) -> Draft:
    try:
        content = found.label.read_bytes() if found.label.exists() else b""
        sha256 = file_hash(found.picture)
        objects = parse_label(content, theirs, str(found.label))
    except OSError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}", remedy="check path, train and val") from None
    except LabelError as error:
        raise ConfigError(error.what, remedy=error.remedy) from None
    label = label_text(objects, names)
    origin = f"{folder.sheet.resolve().parent.name}: {os.path.relpath(found.picture, folder.sheet.parent)}"
    sample = Sample(
        image="",
        sha256=sha256,
        label_sha256=hashlib.sha256(label).hexdigest(),
        split="train" if folder.source == "synthetic" else found.split,
        source=folder.source,
        group="",
        counts=count(objects),
        origin=origin,
    )
    return Draft(sample, found.picture, label, look(found.picture), wish=sample.split)


def _refuse_candidates(drafts: Sequence[Draft], store: LabelStore) -> None:
    paths = {draft.sample.sha256: draft.picture for draft in drafts}
    for sha256, cid in store.having(list(paths)).items():
        what = f"{paths[sha256]} is candidate {cid}: this folder is no way round its label"
        raise ConfigError(what, remedy="take it out, label it, and `tailkeeper dataset import` the result")


def _refuse_guesses(drafts: Sequence[Draft], store: LabelStore, names: Sequence[str]) -> None:
    """Raise ConfigError for a copy of a candidate's picture, in another size or quality, with the model's boxes."""
    looks, rows = Looks(), rows_of(store.folder)
    for row in store.rows("c.cid, look", "look IS NOT NULL"):
        looks.add(row["cid"], row["look"])
    for draft in drafts:
        objects = parse_label(draft.text(), names, str(draft.picture))
        for cid in looks.like(draft.look) if objects else ():
            if all(any(_same(mine, guess) for guess in rows(cid)[1]) for mine in objects):
                what = f"{draft.picture} shows candidate {cid}, with the model's boxes to the last digit"
                raise ConfigError(what, remedy="have people label it, and `tailkeeper dataset import` the result")


def _same(one: tuple[str, Box], other: tuple[str, Box]) -> bool:
    return one[0] == other[0] and all(abs(a - b) <= SAME_SHARE for a, b in zip(one[1], other[1], strict=True))
