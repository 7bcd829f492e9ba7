"""What people said of candidates: kept for ever, told again from the files, and counted only where nobody disagrees."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.collector import Drawn, LabelStore, Revision, labels, listing, read_label
from agent.collector.index import INDEX
from agent.collector.labels import label_path
from agent.collector.store import Store
from agent.errors import ConfigError, ItemError
from agent.records import Item
from tests.fakes.clock import FakeClock
from tests.fakes.items import an_item

ITEMS = [an_item(number, classes=("person", "person", "bus")) for number in range(3)]
CAR = Drawn(name="car", xyxy=(10, 10, 50, 40))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A collector's store with three candidates."""
    store = Store(tmp_path, FakeClock())
    store.write(ITEMS)
    store.add(ITEMS, {})
    store.close()
    return tmp_path


@pytest.fixture
def store(folder: Path) -> Iterator[LabelStore]:
    with LabelStore(folder, FakeClock()) as opened:
        yield opened


def word(item: Item = ITEMS[0], **changes: Any) -> Revision:
    said = {
        "cid": item.cid, "image": item.sha256, "width": 64, "height": 48, "boxes": (CAR,), "verdict": "useful",
        "who": "ann", "when": "2027-01-16T08:00:00Z", "tool": "label-studio",
    }  # fmt: skip
    return Revision.model_validate({**said, **changes})


def state(folder: Path, item: Item = ITEMS[0]) -> str:
    return next(str(row["label"]) for row in listing(folder) if row["cid"] == item.cid)


def test_a_label_is_a_file_that_describes_itself_and_a_row(store: LabelStore) -> None:
    taken = store.add([word()])
    assert (taken.stored, taken.known, taken.states) == (1, 0, {ITEMS[0].cid: "labelled"})
    document = json.loads((store.folder / label_path(ITEMS[0].cid, 1)).read_bytes())
    assert document["image"] == ITEMS[0].sha256
    assert (document["who"], document["tool"], document["verdict"]) == ("ann", "label-studio", "useful")
    assert state(store.folder) == "labelled"
    (row,) = labels(store.folder)
    assert (row["cid"], row["device"], row["lane"], row["state"]) == (
        ITEMS[0].cid,
        "gate-north",
        "uncertain",
        "labelled",
    )
    assert json.loads(row["classes"]) == {"car": 1}


def test_each_revision_is_kept_and_the_same_word_is_not_kept_twice(store: LabelStore) -> None:
    later = word(boxes=(), verdict="nothing", when="2027-01-17T08:00:00Z")
    assert store.add([word(), word(), later]).stored == 2
    assert store.add([word(), later]).known == 2
    assert [each.verdict for each in store.revisions(ITEMS[0].cid)] == ["useful", "nothing"]
    assert state(store.folder) == "nothing"


def test_an_older_word_that_arrives_late_does_not_replace_a_newer_one(store: LabelStore) -> None:
    store.add([word(verdict="junk", when="2027-01-18T08:00:00Z"), word()])
    assert state(store.folder) == "junk"


@pytest.mark.parametrize("verdict", ["duplicate", "junk", "nothing"])
def test_verdicts_are_states(store: LabelStore, verdict: str) -> None:
    store.add([word(boxes=(), verdict=verdict)])
    assert state(store.folder) == verdict


def test_people_who_disagree_are_a_conflict_until_one_of_them_says_more(store: LabelStore) -> None:
    other = Drawn(name="bus", xyxy=CAR.xyxy)
    store.add([word(), word(who="bob", boxes=(other,))])
    assert state(store.folder) == "conflict"
    store.add([word(who="bob", when="2027-01-17T08:00:00Z")])
    assert state(store.folder) == "labelled"


def test_people_who_draw_nearly_the_same_agree(store: LabelStore) -> None:
    near = Drawn(name="car", xyxy=(12, 11, 52, 41))
    away = Drawn(name="car", xyxy=(30, 11, 62, 41))
    store.add([word(), word(who="bob", boxes=(near,))])
    assert state(store.folder) == "labelled"
    store.add([word(ITEMS[1]), word(ITEMS[1], who="bob", boxes=(away,))])
    assert state(store.folder, ITEMS[1]) == "conflict"


def test_a_conflict_can_be_settled_by_decision(store: LabelStore) -> None:
    store.add([word(), word(who="bob", verdict="junk", boxes=())])
    assert store.add([word(settles=True)]).stored == 1
    assert state(store.folder) == "labelled"
    store.add([word(who="cyd", verdict="nothing", boxes=(), when="2027-01-19T08:00:00Z")])
    assert state(store.folder) == "conflict"


def test_unfinished_work_counts_only_when_it_is_finished(store: LabelStore) -> None:
    store.add([word(partial=True)])
    assert state(store.folder) == "partial"
    store.add([word(when="2027-01-17T08:00:00Z")])
    assert state(store.folder) == "labelled"


def test_exports_are_remembered_and_labels_outrank_them(store: LabelStore) -> None:
    store.add([word()])
    store.remember_export("coco", Path("batch"), ["person", "bus"], [item.cid for item in ITEMS[:2]])
    assert [state(store.folder, item) for item in ITEMS] == ["labelled", "exported", "unlabelled"]
    (export,) = store.exports()
    assert (export["export"], export["format"], export["classes"]) == (1, "coco", ["person", "bus"])


def test_labels_and_exports_are_told_again_from_the_files(folder: Path) -> None:
    with LabelStore(folder, FakeClock()) as before:
        before.add([word(), word(ITEMS[1], partial=True)])
        before.remember_export("cvat", Path("batch"), ["person"], [item.cid for item in ITEMS])
        rows = list(listing(folder))
    for name in (INDEX, f"{INDEX}-wal", f"{INDEX}-shm"):
        (folder / name).unlink(missing_ok=True)
    with LabelStore(folder, FakeClock()):
        again = {row["cid"]: row["label"] for row in listing(folder)}
    assert again == {row["cid"]: row["label"] for row in rows}
    assert sorted(again.values()) == ["exported", "labelled", "partial"]


def test_a_label_whose_row_was_never_written_is_adopted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(*_: object) -> None:
        raise OSError("power")

    with LabelStore(folder, FakeClock()) as before, monkeypatch.context() as patched:
        patched.setattr(before, "_keep", cut)
        with pytest.raises(OSError, match="power"):
            before.add([word()])
    assert state(folder) == "unlabelled"
    with LabelStore(folder, FakeClock()) as after:
        assert state(folder) == "labelled"
        assert after.add([word()]).known == 1


def test_a_revision_edited_by_hand_is_refused_and_its_number_is_not_used_again(store: LabelStore) -> None:
    store.add([word()])
    path = store.folder / label_path(ITEMS[0].cid, 1)
    path.write_text(path.read_text().replace('"car"', '"bus"'))
    with pytest.raises(ItemError, match="changed after it was stored"):
        read_label(store.folder, ITEMS[0].cid, 1)
    edited = path.read_bytes()
    store.add([word(when="2027-01-17T08:00:00Z")])
    assert path.read_bytes() == edited
    assert read_label(store.folder, ITEMS[0].cid, 2).boxes == (CAR,)


def test_a_label_file_under_another_candidates_name_is_refused(store: LabelStore) -> None:
    store.add([word()])
    target = store.folder / label_path(ITEMS[1].cid, 1)
    target.parent.mkdir(exist_ok=True)
    target.write_bytes((store.folder / label_path(ITEMS[0].cid, 1)).read_bytes())
    with pytest.raises(ItemError, match=f"is the label of {ITEMS[0].cid}"):
        read_label(store.folder, ITEMS[1].cid, 1)
    with LabelStore(store.folder, FakeClock()):
        assert state(store.folder, ITEMS[1]) == "unlabelled"


def test_labels_are_taken_while_the_collector_is_at_work(folder: Path) -> None:
    collector = Store(folder, FakeClock())
    try:
        with LabelStore(folder, FakeClock()) as store:
            for number, item in enumerate(ITEMS):
                more = an_item(10 + number)
                collector.write([more])
                store.add([word(item)])
                collector.add([more], {"gate-north": {"stored": 1}})
        assert sorted(row["label"] for row in listing(folder)) == ["labelled"] * 3 + ["unlabelled"] * 3
    finally:
        collector.close()


def test_a_store_of_an_older_version_is_described_from_its_files(store: LabelStore) -> None:
    store._index.execute("DELETE FROM content")
    found = store.candidates([ITEMS[2].cid, "0" * 32])
    assert found == {
        ITEMS[2].cid: {"cid": ITEMS[2].cid, "sha256": ITEMS[2].sha256, "width": 64, "height": 48, "label": "unlabelled"}
    }
    (row,) = store.rows("served", "c.cid = ?", (ITEMS[2].cid,))
    assert json.loads(row["served"]) == {"bus": 1, "person": 2}


def test_no_store_is_said_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no collector's store; name the folder"):
        LabelStore(tmp_path / "nowhere", FakeClock())
    with pytest.raises(ConfigError, match="no collector's store"):
        list(labels(tmp_path))
