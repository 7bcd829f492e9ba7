"""Near-duplicates stay on one side, whatever comes together."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from agent.dataset.looks import ACROSS, DOWN
from agent.dataset.versions.draft import Draft
from agent.dataset.versions.groups import Placed, grouped, place
from agent.dataset.versions.record import Sample, Source, Split


def a_draft(number: int, scene: int, source: Source, wish: Split | None, inherited: Split | None) -> Draft:
    """Sample `number` of a scene; scenes look nothing like each other."""
    sha256 = hashlib.sha256(str(number).encode()).hexdigest()
    sample = Sample(
        image="",
        sha256=sha256,
        label_sha256="",
        split=inherited or "train",
        source=source,
        group=f"scene{scene}" if inherited else "",
        counts={},
        cid=sha256[:32] if source == "candidate" else None,
    )
    look = bytes([20 * scene + number % 3]) * (ACROSS * DOWN)
    return Draft(sample, Path(), b"", look, inherited is not None, wish)


@st.composite
def drafts(draw: st.DrawFn) -> list[Draft]:
    """Newcomers of every kind, and what a parent may hold: each of its scenes on one side."""
    found = []
    held: dict[int, bool] = {}
    for number in range(draw(st.integers(1, 14))):
        scene = draw(st.integers(0, 4))
        kind = draw(st.sampled_from(["parent", "candidate", "canary", "base", "synthetic"]))
        wish: Split | None = None
        inherited: Split | None = None
        source: Source = "base" if kind == "base" else "synthetic" if kind == "synthetic" else "candidate"
        if kind == "parent":
            train = held.setdefault(scene, draw(st.booleans()))
            inherited = "train" if train else draw(st.sampled_from(["val", "eval"]))
        elif kind == "canary":
            wish = "eval"
        elif kind in ("base", "synthetic"):
            wish = "train" if kind == "synthetic" else draw(st.sampled_from(["train", "val"]))
        found.append(a_draft(number, scene, source, wish, inherited))
    return found


def placed(found: list[Draft], seed: int = 0) -> Placed:
    return place(grouped(found, lambda _: ()), seed, 0.5)


@given(drafts(), st.integers(0, 9))
def test_no_group_is_on_both_sides_and_nothing_is_lost(found: list[Draft], seed: int) -> None:
    done = placed(found, seed)
    sides: dict[str, set[bool]] = {}
    for _, split, group in done.drafts:
        sides.setdefault(group, set()).add(split == "train")
    assert all(len(side) == 1 for side in sides.values())
    keys = [draft.key for draft, _, _ in done.drafts] + [left.key for left in done.left_out]
    assert sorted(keys) == sorted(draft.key for draft in found)


@given(drafts())
def test_what_the_parent_has_stays_where_it_is(found: list[Draft]) -> None:
    splits = {draft.key: split for draft, split, _ in placed(found).drafts}
    for draft in found:
        if draft.inherited:
            assert splits[draft.key] == draft.sample.split


@given(drafts())
def test_only_canary_draws_are_in_eval_and_they_are_nowhere_else(found: list[Draft]) -> None:
    for draft, split, _ in placed(found).drafts:
        if not draft.inherited:
            assert (split == "eval") == (draft.wish == "eval")
        if draft.sample.source == "synthetic":
            assert split == "train"


@given(drafts(), st.randoms(use_true_random=False))
def test_the_order_in_which_samples_come_changes_nothing(found: list[Draft], chance: random.Random) -> None:
    shuffled = list(found)
    chance.shuffle(shuffled)
    one, other = ({(d.key, split, group) for d, split, group in placed(each).drafts} for each in (found, shuffled))
    assert one == other
