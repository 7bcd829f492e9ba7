"""``dataset build``: the parent's samples, what people labelled since, and declared folders become the next version.

Accumulate, never replace: every sample of the parent is in the new version, unless a person's verdict took it back.
The same inputs and the same seed give the same content, and the card has them all.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import platform
import random
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from agent import __version__, durable
from agent.clock import Clock, rfc3339
from agent.collector import LabelStore
from agent.dataset.looks import Objects
from agent.dataset.names import names_in
from agent.dataset.versions import card as card_text
from agent.dataset.versions.declared import Folder, read_folder
from agent.dataset.versions.draft import Draft
from agent.dataset.versions.groups import Placed, grouped, place
from agent.dataset.versions.record import (
    CARD,
    CARD_TEXT,
    LOOKS,
    PROVENANCE,
    SHEET,
    SPLITS,
    Card,
    Left,
    Origin,
    Sample,
    Split,
    Version,
    content_hash,
    parse_label,
    read_version,
    tallies,
    versions,
)
from agent.dataset.versions.verified import Verified
from agent.dataset.versions.verify import check_files, check_store
from agent.errors import ConfigError, VersionError

BUILDING, LOCK = ".building", ".lock"
FINAL = 0o444
"""Nobody writes into a version; pictures keep the mode that they have in the store, which they may be linked with."""
_HASH = 8
"""Hex digits of the content's hash in a version's name."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a version is to be made of; the card keeps it."""

    out: Path
    """Folder of versions; the newest one there is the parent."""
    bases: tuple[Folder, ...] = ()
    synthetic: tuple[Folder, ...] = ()
    synthetic_cap: float = 0.2
    """Share of the pictures in train."""
    val_share: float = 0.1
    """Of those that no folder puts on a side."""
    seed: int = 0
    classes: tuple[str, ...] = ()
    """Of a first version without a base."""
    add_classes: tuple[str, ...] = ()
    until: str = ""
    """Labels that the store took later do not count."""


def plan_of(card_file: Path, out: Path) -> Plan:
    """What a card says that its version was made of. The parent has to be the newest version in `out`.

    Raises ConfigError where it is no card, or the parent is another one.
    """
    try:
        card = Card.model_validate_json(card_file.read_bytes())
    except (OSError, ValueError):
        raise ConfigError(f"{card_file}: no card of a version", remedy="name its card.json") from None
    before = [path.name for path in versions(out)][-1:]
    if before != ([card.parent.name] if card.parent else []):
        wanted = f"a folder with {card.parent.name} as the newest version" if card.parent else "an empty folder"
        raise ConfigError(f"{out}: not where {card.version} can be made again", remedy=f"name {wanted}")
    return Plan(
        out,
        tuple(Folder(Path(each.path), each.declared_by or "") for each in card.bases),
        tuple(Folder(Path(each.path), each.declared_by or "", "synthetic") for each in card.synthetic),
        card.synthetic_cap,
        card.val_share,
        card.seed,
        tuple(card.classes),
        card.add_classes,
        card.labels_until,
    )


@dataclass(slots=True)
class _Work:
    """A version in the making."""

    names: list[str]
    drafts: dict[str, Draft] = field(default_factory=dict)
    """By key; the parent's first."""
    withdrawn: list[Left] = field(default_factory=list)
    relabelled: list[str] = field(default_factory=list)
    left_out: list[Left] = field(default_factory=list)


def build(plan: Plan, store: LabelStore, clock: Clock, progress: Callable[[str], None] = lambda _: None) -> Version:
    """Make the next version; where nothing changed, the parent is returned.

    Raises ConfigError for inputs that must not be learned from, VersionError for a parent that was changed, OSError.
    """
    durable.make_folder(plan.out)
    with (plan.out / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _build(plan, store, rfc3339(clock.wall_ns()), progress)


def _build(plan: Plan, store: LabelStore, now: str, progress: Callable[[str], None]) -> Version:
    parent = _parent(plan, store)
    work = _Work(_names(plan, parent, store))
    if parent is not None:
        _inherit(work, parent)
    verified = Verified(store, work.names, plan.until)
    for draft in verified.drafts():
        _join(work, draft)
        progress(f"{len(work.drafts)} samples")
    _take_back(work, verified)
    bases, synthetic = (
        tuple(_read_base(work, folder, store, progress) for folder in folders)
        for folders in (plan.bases, plan.synthetic)
    )
    if not work.drafts:
        raise ConfigError("nothing to build from: no labels and no base", remedy="import labels, or name a --base")
    groups = grouped(list(work.drafts.values()), lambda draft: _objects(draft, work.names))
    placed = place(groups, plan.seed, plan.val_share)
    _cap_synthetic(placed, plan)
    card = Card(
        version="",
        content="",
        created=now,
        seed=plan.seed,
        val_share=plan.val_share,
        synthetic_cap=plan.synthetic_cap,
        labels_until=plan.until or verified.latest or now,
        add_classes=plan.add_classes,
        parent=_origin(parent) if parent else None,
        bases=bases,
        synthetic=synthetic,
        classes={name: {} for name in work.names},
        images={},
        ratio={},
        withdrawn=tuple(work.withdrawn),
        relabelled=tuple(work.relabelled),
        left_out=(*work.left_out, *placed.left_out),
        moved=tuple(placed.moved),
        tools=_tools(),
    )
    return _write(plan.out, card, placed, parent, progress)


def _tools() -> dict[str, str]:
    return {
        "tailkeeper": __version__,
        "python": platform.python_version(),
        "opencv": cv2.__version__,
        "numpy": np.__version__,
    }


def _parent(plan: Plan, store: LabelStore) -> Version | None:
    """The newest version in the folder, proved. Raises VersionError where it was changed."""
    before = versions(plan.out)
    if not before:
        return None
    parent = read_version(before[-1])
    problems = [*check_files(parent), *check_store(parent, store)]
    if problems:
        first = problems[0]
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise VersionError(f"{first.where}: {first.what}{more}", remedy=first.remedy)
    return parent


def _names(plan: Plan, parent: Version | None, store: LabelStore) -> list[str]:
    """The version's classes: the parent's in their order, or the first base's, or those of the store; then new ones."""
    if parent is not None:
        names = parent.names
    elif plan.bases:
        names = plan.bases[0].names()
    else:
        names = list(plan.classes) or names_in(store)
    return [*names, *(name for name in plan.add_classes if name not in names)]


def _inherit(work: _Work, parent: Version) -> None:
    for sample, seen in zip(parent.samples, parent.looks(), strict=True):
        picture, label = parent.folder / sample.image, parent.folder / sample.label
        work.drafts[sample.key] = Draft(sample, picture, label, seen, inherited=True)


def _join(work: _Work, draft: Draft) -> None:
    """Add a newcomer, or renew the label of what is there."""
    old = work.drafts.setdefault(draft.key, draft)
    if old is draft:
        return
    renewed = old.sample.label_sha256 != draft.sample.label_sha256
    if old.inherited:
        was = old.sample
        draft.sample = dataclasses.replace(draft.sample, image=was.image, split=was.split, group=was.group)
        draft.inherited, draft.picture = True, old.picture
        work.drafts[draft.key] = draft
        work.relabelled += [draft.key] if renewed else []
    elif renewed:
        work.left_out.append(Left(key=draft.key, why=f"{draft.picture}: again, with another label"))


def _take_back(work: _Work, verified: Verified) -> None:
    """Leave out what people do not want to be learned from any more, and what must not be."""
    for key, why in sorted(verified.taken_back.items()):
        if work.drafts.pop(key, None) is not None:
            work.withdrawn.append(Left(key=key, why=why))
        elif why.startswith(("conflict", "partial")):
            work.left_out.append(Left(key=key, why=why))
    for left in verified.refused:
        if work.drafts.pop(left.key, None) is not None:
            raise VersionError(f"a sample of the parent cannot be trusted any more: {left.why}")
        work.left_out.append(left)


def _read_base(work: _Work, folder: Folder, store: LabelStore, progress: Callable[[str], None]) -> Origin:
    """Add a declared folder's samples, or those of a version of ours, with their provenance."""
    if (folder.sheet.parent / CARD).exists():
        base = read_version(folder.sheet.parent)
        problems = check_files(base)
        if problems:
            raise VersionError(f"{problems[0].where}: {problems[0].what}", remedy=problems[0].remedy)
        origin, drafts = _origin(base), _of_version(base, work.names)
    else:
        origin, drafts = read_folder(folder, store, work.names, progress)
    for draft in drafts:
        _join(work, draft)
    return origin


def _of_version(base: Version, names: Sequence[str]) -> list[Draft]:
    if base.names != list(names)[: len(base.names)]:
        raise ConfigError(f"{base.folder}: its classes are not the version's", remedy="build from one order of classes")
    drafts = []
    for sample, seen in zip(base.samples, base.looks(), strict=True):
        picture, label = base.folder / sample.image, base.folder / sample.label
        drafts.append(Draft(sample, picture, label, seen, wish=sample.split))
    return drafts


def _origin(version: Version) -> Origin:
    sheet = version.folder.resolve() / SHEET
    return Origin(name=version.card.version, path=str(sheet), content=version.card.content)


def _objects(draft: Draft, names: Sequence[str]) -> Objects:
    return parse_label(draft.text(), names, str(draft.picture))


def _cap_synthetic(placed: Placed, plan: Plan) -> None:
    """Leave out synthetic newcomers above the cap, drawn by the seed."""
    train = [draft for draft, split, _ in placed.drafts if split == "train"]
    real = sum(draft.sample.source != "synthetic" for draft in train)
    room = int(plan.synthetic_cap * real / (1 - plan.synthetic_cap) + 1e-9) - sum(
        draft.sample.source == "synthetic" and draft.inherited for draft in train
    )
    come = sorted(draft.key for draft in train if draft.sample.source == "synthetic" and not draft.inherited)
    random.Random(plan.seed).shuffle(come)
    over = set(come[max(0, room) :])
    placed.drafts = [each for each in placed.drafts if each[0].key not in over]
    placed.left_out += [Left(key=key, why="synthetic, above the cap") for key in sorted(over)]


def _write(out: Path, card: Card, placed: Placed, parent: Version | None, progress: Callable[[str], None]) -> Version:
    """The folder, complete or not there at all."""
    temporary = out / BUILDING
    shutil.rmtree(temporary, ignore_errors=True)
    for kind in ("images", "labels"):
        for split in SPLITS:
            (temporary / kind / split).mkdir(parents=True)
    ordered = sorted(placed.drafts, key=lambda each: (each[1], each[0].key))
    samples = []
    with (temporary / PROVENANCE).open("wb") as lines, (temporary / LOOKS).open("wb") as looks:
        for number, (draft, split, group) in enumerate(ordered):
            sample = _settle(temporary, draft, split, group)
            samples.append(sample)
            lines.write(sample.encode())
            looks.write(draft.look)
            if number % 500 == 0:
                progress(f"{number} of {len(ordered)} samples written")
    (temporary / SHEET).write_text(_sheet(list(card.classes)))
    content = content_hash(temporary)
    if parent is not None and content == parent.card.content:
        shutil.rmtree(temporary)
        return parent
    number = max((int(path.name[1:5]) for path in versions(out)), default=0) + 1
    name = f"v{number:04d}-{content[:_HASH]}"
    card = card.model_copy(update={"version": name, "content": content, **tallies(samples, list(card.classes))})
    (temporary / CARD).write_text(card.model_dump_json(indent=1) + "\n")
    (temporary / CARD_TEXT).write_text(card_text.text(card))
    for path in (CARD, CARD_TEXT, SHEET, PROVENANCE, LOOKS):
        (temporary / path).chmod(FINAL)
    os.sync()  # thousands of small files at once: one by one they would take minutes
    temporary.rename(out / name)
    os.sync()
    return read_version(out / name)


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
