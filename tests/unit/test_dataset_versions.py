"""Versions of the training set: accumulated, split so that nothing leaks, made again from their card, compared."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.collector import LabelStore
from agent.dataset.labelling import take
from agent.dataset.records import Label, Labels
from agent.dataset.versions.build import Plan, build, plan_of
from agent.dataset.versions.declared import Folder
from agent.dataset.versions.diff import diff
from agent.dataset.versions.record import CARD, Sample, Version, read_version, versions
from agent.dataset.versions.verify import verify
from agent.errors import ConfigError
from tests.fakes.clock import FakeClock
from tests.fakes.folders import CAR, a_folder, add_picture
from tests.fakes.stores import CLASSES, a_label, a_scene, a_store, picture

ITEMS = [a_scene(number) for number in range(8)]
CANARY = a_scene(20, lane="canary")


class Shop:
    """A store, a clock and a folder of versions."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self.folder = folder
        self.out = folder / "versions"
        self.store = LabelStore(a_store(folder / "store", [*ITEMS, CANARY]), self.clock)

    def label(self, *labels: Label, **options: bool) -> None:
        self.clock.advance(1)
        assert take(self.store, Labels(labels), CLASSES, **options).problems == []

    def add(self, *items: Any) -> None:
        a_store(self.folder / "store", items)

    def build(self, *bases: Path, **options: Any) -> Version:
        self.clock.advance(1)
        declared = tuple(Folder(sheet, "eve") for sheet in bases)
        version = build(
            Plan(**{"out": self.out, "bases": declared, "classes": CLASSES, **options}), self.store, self.clock
        )
        assert verify(version, self.store) == []
        return version


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    held = Shop(tmp_path)
    yield held
    held.store.close()


def sides(version: Version) -> dict[str, str]:
    return {sample.key: sample.split for sample in version.samples}


def sample_of(version: Version, key: str) -> Sample:
    return next(sample for sample in version.samples if sample.key == key)


def later(label: Label, **changes: Any) -> Label:
    return replace(label, when="2027-01-17T08:00:00Z", **changes)


def test_a_version_is_what_ultralytics_reads(shop: Shop, tmp_path: Path) -> None:
    shop.label(a_label(ITEMS[0]), a_label(ITEMS[1], ()), a_label(CANARY))
    version = shop.build(a_folder(tmp_path / "street", train=[100, 101], val=[102]))
    sheet = yaml.safe_load((version.folder / "data.yaml").read_text())
    assert sheet == {
        "train": "images/train", "val": "images/val", "test": "images/eval", "names": dict(enumerate(CLASSES)),
    }  # fmt: skip
    for sample in version.samples:
        assert (version.folder / sample.image).is_file()
        assert (version.folder / sample.label).parent.name == sample.split
    label = (version.folder / sample_of(version, ITEMS[0].cid).label).read_text()
    assert label == "1 0.25000000 0.35416667 0.25000000 0.20833333\n"
    assert (version.folder / sample_of(version, ITEMS[1].cid).label).read_text() == ""


def test_pictures_are_hard_links(shop: Shop) -> None:
    shop.label(a_label(ITEMS[0]))
    version = shop.build()
    image = version.folder / sample_of(version, ITEMS[0].cid).image
    assert image.stat().st_nlink == 2
    assert image.read_bytes() == ITEMS[0].image


def test_pictures_are_copied_where_the_file_system_has_no_links(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    shop.label(a_label(ITEMS[0]))
    version = shop.build()
    assert (version.folder / sample_of(version, ITEMS[0].cid).image).read_bytes() == ITEMS[0].image


def test_provenance_leads_from_the_sensor_to_the_label(shop: Shop) -> None:
    shop.label(a_label(ITEMS[0]))
    sample = sample_of(shop.build(), ITEMS[0].cid)
    meta = ITEMS[0].meta
    assert (sample.device, sample.camera, sample.ts, sample.lane) == (meta.device, meta.camera, meta.ts, meta.lane)
    assert (sample.model, sample.sha256) == ("yolo26n", ITEMS[0].sha256)
    assert (sample.who, sample.tool, sample.verdict, sample.revision) == ("ann", "label-studio", "useful", 1)
    assert sample.revision_sha256 == shop.store.revisions(ITEMS[0].cid)[0].sha256


def test_the_card_says_where_it_comes_from_in_numbers(shop: Shop, tmp_path: Path) -> None:
    shop.label(*(a_label(item) for item in ITEMS[:3]), a_label(CANARY))
    version = shop.build(a_folder(tmp_path / "street", train=[100, 101, 102]), val_share=0.0)
    card = json.loads((version.folder / CARD).read_text())
    assert card["images"] == {"train": {"base": 3, "candidate": 3}, "val": {}, "eval": {"candidate": 1}}
    assert card["classes"]["car"] == {"train": 6, "val": 0, "eval": 1}
    assert card["ratio"] == {"real": 0.5, "human_verified": 0.5, "self_labelled": 0.0, "synthetic": 0.0}
    assert [(base["name"], base["declared_by"]) for base in card["bases"]] == [("street", "eve")]
    text = (version.folder / "card.md").read_text()
    assert "| human-verified | 3 | 0 | 1 |" in text
    assert "declared by eve" in text


def test_canary_draws_are_for_evaluation_only(shop: Shop) -> None:
    shop.label(a_label(CANARY), a_label(ITEMS[0]))
    assert sides(shop.build(val_share=0.0)) == {CANARY.cid: "eval", ITEMS[0].cid: "train"}


def test_val_is_drawn_by_the_seed(shop: Shop) -> None:
    shop.label(*(a_label(item) for item in ITEMS))
    drawn = [sides(shop.build(out=shop.folder / f"v{seed}", seed=seed, val_share=0.5)) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert set(drawn[0].values()) == {"train", "val"}


def test_a_new_version_has_all_that_its_parent_has(shop: Shop, tmp_path: Path) -> None:
    base = a_folder(tmp_path / "street", train=[100, 101], val=[102])
    shop.label(a_label(ITEMS[0]), a_label(CANARY))
    first = shop.build(base, seed=1)
    shop.label(*(a_label(item) for item in ITEMS[1:5]))
    second = shop.build(seed=99, val_share=0.5)
    assert [path.name for path in versions(shop.out)] == [first.card.version, second.card.version]
    assert second.card.parent is not None
    assert second.card.parent.content == first.card.content
    assert sides(first).items() <= sides(second).items()
    found = diff(first, second)
    assert found["added"] == sorted(item.cid for item in ITEMS[1:5])
    assert (found["removed"], found["relabelled"], found["moved"]) == ([], [], [])
    assert sum(found["classes"]["car"].values()) == 4


def test_nothing_new_makes_no_new_version(shop: Shop) -> None:
    shop.label(a_label(ITEMS[0]))
    first = shop.build()
    assert shop.build().folder == first.folder
    assert len(versions(shop.out)) == 1


def test_a_persons_verdict_withdraws_a_sample_and_the_card_says_so(shop: Shop) -> None:
    shop.label(a_label(ITEMS[0]), a_label(ITEMS[1]))
    shop.build()
    shop.label(later(a_label(ITEMS[0], ()), verdict="junk"))
    second = shop.build()
    assert set(sides(second)) == {ITEMS[1].cid}
    (gone,) = second.card.withdrawn
    assert (gone.key, gone.why) == (ITEMS[0].cid, "junk, said by ann")


def test_a_new_word_on_a_sample_changes_its_label_and_not_its_side(shop: Shop) -> None:
    shop.label(a_label(ITEMS[0]), a_label(ITEMS[1]))
    first = shop.build()
    shop.label(later(a_label(ITEMS[0], (("bus", (40, 60, 120, 110)),))))
    second = shop.build()
    assert second.card.relabelled == (ITEMS[0].cid,)
    assert sides(second) == sides(first)
    assert second.card.classes["bus"] != first.card.classes["bus"]


def test_conflicts_and_unfinished_work_stay_outside(shop: Shop) -> None:
    other = a_label(ITEMS[0], (("bus", (40, 60, 120, 110)),), who="bob")
    shop.label(a_label(ITEMS[0]), other, a_label(ITEMS[1], partial=True), a_label(ITEMS[2]))
    version = shop.build()
    assert set(sides(version)) == {ITEMS[2].cid}
    assert {left.key: left.why.split(",")[0] for left in version.card.left_out} == {
        ITEMS[0].cid: "conflict",
        ITEMS[1].cid: "partial",
    }


@pytest.mark.parametrize("seed", range(4))
def test_near_duplicates_are_on_one_side(shop: Shop, seed: int) -> None:
    twins = [a_scene(40 + number, scene=3, device=f"gate-{number}", quality=60 + 5 * number) for number in range(6)]
    shop.add(*twins)
    shop.label(*(a_label(item) for item in [*ITEMS, *twins]))
    version = shop.build(seed=seed, val_share=0.5)
    assert len({sides(version)[item.cid] for item in [ITEMS[3], *twins]}) == 1
    assert len({sample_of(version, item.cid).group for item in [ITEMS[3], *twins]}) == 1


def test_what_looks_like_a_canary_draw_is_not_trained_on(shop: Shop) -> None:
    twin = a_scene(41, scene=20, quality=70)
    shop.add(twin)
    shop.label(a_label(CANARY), a_label(twin))
    assert sides(shop.build(val_share=0.0)) == {CANARY.cid: "eval", twin.cid: "val"}


def test_a_canary_draw_that_shows_what_is_trained_on_is_left_out(shop: Shop) -> None:
    twin = a_scene(41, scene=20, quality=70)
    shop.add(twin)
    shop.label(a_label(twin))
    shop.build(val_share=0.0)
    shop.label(a_label(CANARY))
    second = shop.build(val_share=0.0, add_classes=("tram",))
    assert sides(second) == {twin.cid: "train"}
    assert [left.key for left in second.card.left_out] == [CANARY.cid]


def test_a_folder_that_leaks_from_train_to_val_is_mended(shop: Shop, tmp_path: Path) -> None:
    sheet = a_folder(tmp_path / "street", train=[100], val=[101])
    add_picture(tmp_path / "street", "val", "again", picture(CAR, scene=100, quality=60), CAR)
    version = shop.build(sheet)
    assert sorted(sides(version).values()) == ["train", "train", "val"]
    assert [left.why for left in version.card.moved] == ["val to train: a near-duplicate is there"]


def test_a_candidate_follows_the_folder_that_it_looks_like(shop: Shop, tmp_path: Path) -> None:
    shop.label(a_label(ITEMS[0]), a_label(ITEMS[1]))
    sheet = a_folder(tmp_path / "street", train=[50], val=[51])
    for split, number in (("train", 0), ("val", 1)):
        add_picture(tmp_path / "street", split, f"like{number}", picture(CAR, scene=number, quality=60), CAR)
    placed = sides(shop.build(sheet))
    assert (placed[ITEMS[0].cid], placed[ITEMS[1].cid]) == ("train", "val")


def test_synthetic_pictures_are_marked_capped_and_in_train_only(shop: Shop, tmp_path: Path) -> None:
    shop.label(*(a_label(item) for item in ITEMS))
    synthetic = (Folder(a_folder(tmp_path / "made", train=range(200, 206), val=range(206, 208)), "eve", "synthetic"),)
    version = shop.build(synthetic=synthetic, synthetic_cap=0.2, val_share=0.0)
    assert version.card.images["train"] == {"candidate": 8, "synthetic": 2}
    assert version.card.ratio["synthetic"] == 0.2
    assert [left.why for left in version.card.left_out] == ["synthetic, above the cap"] * 6


@pytest.mark.parametrize("with_parent", [False, True])
def test_a_version_can_be_made_again_from_its_card(shop: Shop, tmp_path: Path, with_parent: bool) -> None:
    base = a_folder(tmp_path / "street", train=range(100, 104), val=[105])
    if with_parent:
        shop.label(a_label(ITEMS[6]))
        shop.build(base)
    shop.label(*(a_label(item) for item in ITEMS[:4]), a_label(CANARY))
    made = shop.build(base, seed=7, val_share=0.4)
    shop.label(later(a_label(ITEMS[0], ()), verdict="junk"), a_label(ITEMS[5]))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for path in versions(shop.out)[:-1]:
        os.rename(path, elsewhere / path.name)
    again = build(plan_of(made.folder / CARD, elsewhere), shop.store, shop.clock)
    assert again.card.content == made.card.content
    assert again.folder.name == made.folder.name


def test_a_card_is_not_made_again_on_another_parent(shop: Shop, tmp_path: Path) -> None:
    shop.label(a_label(ITEMS[0]))
    made = shop.build()
    with pytest.raises(ConfigError, match="name an empty folder"):
        plan_of(made.folder / CARD, shop.out)
    with pytest.raises(ConfigError, match="no card"):
        plan_of(tmp_path / "nothing.json", shop.out)


def test_a_version_of_another_store_may_be_a_base_and_keeps_its_provenance(shop: Shop, tmp_path: Path) -> None:
    shop.label(a_label(ITEMS[0]), a_label(CANARY))
    first = shop.build(a_folder(tmp_path / "street", train=[100], val=[101]))
    more = a_scene(70)
    with LabelStore(a_store(tmp_path / "other", [more]), shop.clock) as other:
        joined = build(Plan(tmp_path / "joined", (Folder(first.folder / "data.yaml", "eve"),)), other, shop.clock)
        assert sides(joined) == sides(first)
        sample = sample_of(joined, ITEMS[0].cid)
        assert replace(sample, origin=None) == sample_of(first, ITEMS[0].cid)
        assert sample.origin == first.card.version
        assert joined.card.bases[0].declared_by == "eve"
        take(other, Labels((a_label(more),)), CLASSES)
        second = build(Plan(tmp_path / "joined"), other, shop.clock)
        assert sides(second).keys() == {*sides(first), more.cid}
        assert verify(second, other) == []


def test_an_older_version_as_base_does_not_bring_an_older_label_back(shop: Shop) -> None:
    shop.label(a_label(ITEMS[0]))
    first = shop.build()
    shop.label(later(a_label(ITEMS[0], (("bus", (40, 60, 120, 110)),))))
    second = shop.build()
    assert shop.build(first.folder / "data.yaml").folder == second.folder


def test_a_build_that_was_cut_off_leaves_no_version(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.label(a_label(ITEMS[0]))
    with monkeypatch.context() as patched:
        patched.setattr(os, "sync", lambda: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(OSError, match="No space"):
            shop.build()
    assert versions(shop.out) == []
    assert len(shop.build().samples) == 1


def test_a_version_without_anything_is_refused(shop: Shop) -> None:
    with pytest.raises(ConfigError, match="import labels, or name a --base"):
        shop.build()


def test_a_class_that_the_version_lacks_leaves_the_candidate_outside(shop: Shop, tmp_path: Path) -> None:
    base = a_folder(tmp_path / "street", train=[100], names=["car", "bus"])
    shop.label(a_label(ITEMS[0], (("person", (40, 60, 120, 110)),)), a_label(ITEMS[1]))
    first = shop.build(base)
    assert ITEMS[0].cid not in sides(first)
    assert "class 'person' is not one of the version's; add it with --add-class" in first.card.left_out[0].why
    second = shop.build(add_classes=("person",))
    assert second.names == ["car", "bus", "person"]
    assert ITEMS[0].cid in sides(second)


def test_a_folder_that_is_no_version_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no version of a data set"):
        read_version(tmp_path)
