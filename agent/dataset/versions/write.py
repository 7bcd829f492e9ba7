"""A version's folder: complete, or not there at all."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from agent import durable
from agent.dataset.versions import card as card_text
from agent.dataset.versions.draft import Draft
from agent.dataset.versions.groups import Placed
from agent.dataset.versions.record import (
    CARD,
    CARD_TEXT,
    LOOKS,
    PROVENANCE,
    SHEET,
    SPLITS,
    Card,
    Sample,
    Split,
    Version,
    content_hash,
    read_version,
    tallies,
    versions,
)

BUILDING = ".building"
FINAL = 0o444
"""Nobody writes into a version; pictures keep the mode that they have in the store, which they may be linked with."""
_HASH = 8
"""Hex digits of the content's hash in a version's name."""


def write(
    out: Path, card: Card, placed: Placed, parent: Version | None, progress: Callable[[str], None] = lambda _: None
) -> Version:
    """Put the samples into a new version under `out`; `card` lacks its name, hash and numbers.

    Where that would be the parent again, the parent is returned. Raises OSError, VersionError.
    """
    temporary = out / BUILDING
    shutil.rmtree(temporary, ignore_errors=True)
    samples = _fill(temporary, placed, list(card.classes), progress)
    content = content_hash(temporary)
    if parent is not None and content == parent.card.content:
        shutil.rmtree(temporary)
        return parent
    number = max((int(path.name[1:5]) for path in versions(out)), default=0) + 1
    name = f"v{number:04d}-{content[:_HASH]}"
    card = card.model_copy(update={"version": name, "content": content, **tallies(samples, list(card.classes))})
    (temporary / CARD).write_text(card.model_dump_json(indent=1) + "\n")
    (temporary / CARD_TEXT).write_text(card_text.text(card))
    for file in (CARD, CARD_TEXT, SHEET, PROVENANCE, LOOKS):
        (temporary / file).chmod(FINAL)
    os.sync()  # thousands of small files at once: one by one they would take minutes
    temporary.rename(out / name)
    durable.sync_folder(out)
    return read_version(out / name)


def _fill(folder: Path, placed: Placed, names: list[str], progress: Callable[[str], None]) -> list[Sample]:
    """Pictures, labels, provenance, looks and data.yaml, in the order of the samples' keys."""
    for kind in ("images", "labels"):
        for split in SPLITS:
            (folder / kind / split).mkdir(parents=True)
    samples = []
    ordered = sorted(placed.drafts, key=lambda each: (each[1], each[0].key))
    with (folder / PROVENANCE).open("wb") as lines, (folder / LOOKS).open("wb") as looks:
        for number, (draft, side, group) in enumerate(ordered):
            samples.append(_settle(folder, draft, side, group))
            lines.write(samples[-1].encode())
            looks.write(draft.look)
            if number % 500 == 0:
                progress(f"{number} of {len(ordered)} samples written")
    (folder / SHEET).write_text(_sheet(names))
    return samples


def _settle(folder: Path, draft: Draft, split: Split, group: str) -> Sample:
    """The sample in its place: picture linked, label written."""
    sample = dataclasses.replace(draft.sample, image=f"images/{split}/{_file_name(draft)}", split=split, group=group)
    (folder / sample.label).write_bytes(draft.text())
    (folder / sample.label).chmod(FINAL)
    target = folder / sample.image
    try:
        os.link(draft.picture, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(draft.picture, target)
    return sample


def _file_name(draft: Draft) -> str:
    """Candidates by id; a folder's pictures by their own name and enough of the hash that no two are the same."""
    sample = draft.sample
    if draft.sample.image:
        return Path(draft.sample.image).name
    if sample.cid is not None:
        return f"{sample.cid}.jpg"
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", draft.picture.stem)[:60]
    return f"{stem}-{sample.sha256[:_HASH]}{draft.picture.suffix.lower()}"


def _sheet(names: Iterable[str]) -> str:
    """data.yaml: without a path, so it is found where it lies; names as JSON, which is YAML as well."""
    table = "".join(f"  {number}: {json.dumps(name, ensure_ascii=False)}\n" for number, name in enumerate(names))
    return f"train: images/train\nval: images/val\ntest: images/eval\nnames:\n{table}"
