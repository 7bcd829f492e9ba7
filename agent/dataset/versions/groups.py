"""Near-duplicates stay on one side: what a model learned must not be what it is judged by.

Two sides: train, and val with eval. Who was there first stays: a sample of the parent keeps its side, newcomers follow
the samples that they look like. Canary draws are never trained on; one that shows what is trained on already is no
honest measure, and is left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from agent.dataset.looks import Looks, Objects, same_objects
from agent.dataset.versions.draft import Draft
from agent.dataset.versions.record import Left, Split


@dataclass(slots=True)
class Placed:
    """The samples on their sides, and those that have none."""

    drafts: list[tuple[Draft, Split, str]] = field(default_factory=list)
    """With split and group."""
    left_out: list[Left] = field(default_factory=list)
    moved: list[Left] = field(default_factory=list)


def grouped(drafts: Sequence[Draft], objects_of: Callable[[Draft], Objects]) -> dict[str, list[Draft]]:
    """Drafts by group; a group is named after its first member: the parent's name for it, else the smallest key.

    Only newcomers are compared: what the parent has is grouped already.
    """
    boss: dict[str, str] = {}

    def find(key: str) -> str:
        while boss.setdefault(key, key) != key:
            boss[key] = boss[boss[key]]
            key = boss[key]
        return key

    looks, by_key = Looks(), {draft.key: draft for draft in drafts}
    named: dict[str, str] = {}
    for draft in drafts:
        if draft.inherited:
            boss[find(draft.key)] = find(named.setdefault(draft.sample.group, draft.key))
            looks.add(draft.key, draft.look)
    for draft in sorted((each for each in drafts if not each.inherited), key=lambda each: each.key):
        mine = objects_of(draft)
        for other in looks.like(draft.look):
            if find(other) == find(draft.key):
                continue
            theirs = objects_of(by_key[other])
            if same_objects(mine, theirs) and same_objects(theirs, mine):
                boss[find(draft.key)] = find(other)
        looks.add(draft.key, draft.look)
    groups: dict[str, list[Draft]] = {}
    for draft in drafts:
        groups.setdefault(find(draft.key), []).append(draft)
    return {_name(group): group for group in groups.values()}


def _name(group: Sequence[Draft]) -> str:
    names = [draft.sample.group for draft in group if draft.inherited]
    return min(names or (draft.key[:16] for draft in group))


def place(groups: dict[str, list[Draft]], seed: int, val_share: float) -> Placed:
    """Give every group its side. The draw depends on the seed and the group's name alone, not on what else is there."""
    placed = Placed()
    for name, group in sorted(groups.items()):
        stay = [draft for draft in group if draft.inherited]
        come = [draft for draft in group if not draft.inherited]
        placed.drafts += [(draft, draft.sample.split, draft.sample.group) for draft in stay]
        sides = {draft.sample.split == "train" for draft in stay}
        if len(sides) == 2:
            why = "looks like samples of both train and val or eval"
            placed.left_out += [Left(key=draft.key, why=why) for draft in come]
            continue
        train = sides.pop() if sides else _trains(name, come, seed, val_share)
        for draft in come:
            _put(placed, draft, name, train)
    return placed


def _trains(name: str, come: Sequence[Draft], seed: int, val_share: float) -> bool:
    """The side of a group of newcomers: what a folder has in train, then canary draws, then its val, then the draw."""
    wishes = {draft.wish for draft in come if draft.sample.source != "synthetic"}
    if not wishes or "train" in wishes:
        return True
    if wishes != {None}:
        return False
    draw = int.from_bytes(hashlib.sha256(f"{seed}|{name}".encode()).digest()[:8], "big") / 2**64
    return draw >= val_share


def _put(placed: Placed, draft: Draft, group: str, train: bool) -> None:
    """`draft` on its group's side, or left out where it may not be there."""
    split: Split = "train" if train else "eval" if draft.wish == "eval" else "val"
    if draft.wish == "eval" and train:
        placed.left_out.append(Left(key=draft.key, why="a canary draw that shows what is in train already"))
    elif draft.sample.source == "synthetic" and not train:
        placed.left_out.append(Left(key=draft.key, why="synthetic, and like a picture that models are judged by"))
    else:
        placed.drafts.append((draft, split, group))
        if draft.wish not in (None, split):
            placed.moved.append(Left(key=draft.key, why=f"{draft.wish} to {split}: a near-duplicate is there"))
