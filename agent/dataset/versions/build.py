"""``dataset build``: the parent's samples, what people labelled since, and declared folders become the next version.

Accumulate, never replace: every sample of the parent is in the new version, unless a person's verdict took it back.
The same inputs and the same seed give the same content, and the card has them all.
"""

from __future__ import annotations

import dataclasses
import fcntl
import platform
import random
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from agent import __version__, durable
from agent.clock import Clock, rfc3339
from agent.collector import LabelStore
from agent.dataset.looks import Objects
from agent.dataset.names import names_in
from agent.dataset.records import Problem
from agent.dataset.versions.declared import Folder, read_folder
from agent.dataset.versions.draft import Draft
from agent.dataset.versions.groups import Placed, grouped, place
from agent.dataset.versions.record import CARD, SHEET, Card, Left, Origin, Version, parse_label, read_version, versions
from agent.dataset.versions.verified import Verified
from agent.dataset.versions.verify import check_files, check_store
from agent.dataset.versions.write import write
from agent.errors import ConfigError, VersionError

LOCK = ".lock"


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
    unwanted: AbstractSet[str] = frozenset()
    """Candidates that people took back or that cannot be trusted: no base brings them in."""


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
        work.drafts = {draft.key: draft for draft in _of_version(parent, inherited=True)}
    verified = Verified(store, work.names, plan.until)
    for draft in verified.drafts():
        _join(work, draft)
        progress(f"{len(work.drafts)} samples")
    _take_back(work, verified)
    origins = {
        folder: _read_folder(work, folder, store, progress) for folder in dict.fromkeys([*plan.bases, *plan.synthetic])
    }
    if not work.drafts:
        raise ConfigError("nothing to build from: no labels and no base", remedy="import labels, or name a --base")
    groups = grouped(list(work.drafts.values()), lambda draft: _objects(draft, work.names))
    placed = place(groups, plan.seed, plan.val_share)
    _cap_synthetic(placed, plan)
    card = _card(plan, work, placed, now).model_copy(
        update={
            "labels_until": plan.until or verified.latest or now,
            "parent": _origin(parent) if parent else None,
            "bases": tuple(origins[folder] for folder in plan.bases),
            "synthetic": tuple(origins[folder] for folder in plan.synthetic),
        }
    )
    return write(plan.out, card, placed, parent, progress)


def _card(plan: Plan, work: _Work, placed: Placed, now: str) -> Card:
    """Without its origins, name, hash and numbers."""
    return Card(
        version="",
        content="",
        created=now,
        seed=plan.seed,
        val_share=plan.val_share,
        synthetic_cap=plan.synthetic_cap,
        labels_until=now,
        add_classes=plan.add_classes,
        classes={name: {} for name in work.names},
        images={},
        ratio={},
        withdrawn=tuple(work.withdrawn),
        relabelled=tuple(work.relabelled),
        left_out=(*work.left_out, *placed.left_out),
        moved=tuple(placed.moved),
        tools=_tools(),
    )


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
    _insist([*check_files(parent), *check_store(parent, store)])
    return parent


def _insist(problems: Sequence[Problem]) -> None:
    """Raise VersionError where there is any."""
    if problems:
        first, more = problems[0], f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise VersionError(f"{first.where}: {first.what}{more}", remedy=first.remedy)


def _names(plan: Plan, parent: Version | None, store: LabelStore) -> list[str]:
    """The version's classes: the parent's in their order, or the first base's, or those of the store; then new ones."""
    if parent is not None:
        names = parent.names
    elif plan.bases:
        names = plan.bases[0].names()
    else:
        names = list(plan.classes) or names_in(store)
    return [*names, *(name for name in plan.add_classes if name not in names)]


def _of_version(version: Version, *, inherited: bool) -> Iterator[Draft]:
    """Its samples; those that are not `inherited` should go to the sides that they have there."""
    for sample, seen in zip(version.samples, version.looks(), strict=True):
        picture, label = version.folder / sample.image, version.folder / sample.label
        yield Draft(sample, picture, label, seen, inherited, None if inherited else sample.split)


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
        if left.key in work.drafts:
            raise VersionError(f"a sample of the parent cannot be trusted any more: {left.why}")
        work.left_out.append(left)
    work.unwanted = verified.taken_back.keys() | {left.key for left in verified.refused}


def _read_folder(work: _Work, folder: Folder, store: LabelStore, progress: Callable[[str], None]) -> Origin:
    """Add a declared folder's samples, or those of a version of ours, with their provenance."""
    if (folder.sheet.parent / CARD).exists():
        base = read_version(folder.sheet.parent)
        _join_version(work, base, store)
        return _origin(base).model_copy(update={"declared_by": folder.declared_by})
    origin, drafts = read_folder(folder, store, work.names, progress)
    for draft in drafts:
        _join(work, draft)
    return origin


def _join_version(work: _Work, base: Version, store: LabelStore) -> None:
    """Add a version's samples but for those that are there, maybe with a newer label, and those that nobody wants.

    Raises VersionError where it was changed, or says of this store's candidates what nobody said here. Candidates of
    other stores are taken on the word of who declares the version, who stands in the card.
    """
    if base.names != work.names[: len(base.names)]:
        raise ConfigError(f"{base.folder}: its classes are not the version's", remedy="build from one order of classes")
    _insist([*check_files(base), *check_store(base, store, declared=True)])
    known = store.candidates([sample.cid for sample in base.samples if sample.cid])
    for draft in _of_version(base, inherited=False):
        if draft.sample.cid and draft.sample.cid not in known:
            origin = draft.sample.origin or base.card.version
            draft.sample = dataclasses.replace(draft.sample, origin=origin)
        if draft.key not in work.unwanted:
            work.drafts.setdefault(draft.key, draft)


def _origin(version: Version) -> Origin:
    sheet = version.folder.resolve() / SHEET
    return Origin(name=version.card.version, path=str(sheet), content=version.card.content)


def _objects(draft: Draft, names: Sequence[str]) -> Objects:
    return parse_label(draft.text(), names, str(draft.picture))


def _cap_synthetic(placed: Placed, plan: Plan) -> None:
    """Leave out synthetic samples above the cap: newcomers first, in an order drawn by the seed."""
    train = [draft for draft, split, _ in placed.drafts if split == "train"]
    made = sorted((draft for draft in train if draft.sample.source == "synthetic"), key=lambda draft: draft.key)
    random.Random(plan.seed).shuffle(made)
    made.sort(key=lambda draft: not draft.inherited)
    room = int(plan.synthetic_cap * (len(train) - len(made)) / (1 - plan.synthetic_cap) + 1e-9)
    over = {draft.key for draft in made[room:]}
    placed.drafts = [each for each in placed.drafts if each[0].key not in over]
    placed.left_out += [Left(key=key, why="synthetic, above the cap") for key in sorted(over)]
