"""The ways in which an unverified prediction could get into a training set (deploy/collapse-guard.md), each closed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from agent.collector import LabelStore, image_path
from agent.collector.labels import label_path
from agent.dataset.export import export
from agent.dataset.formats import FORMATS
from agent.dataset.labelling import Imported, take
from agent.dataset.records import Box, Label, Labels
from agent.dataset.tasks import Choice, task_of
from agent.dataset.versions.build import Plan, build
from agent.dataset.versions.declared import Folder
from agent.dataset.versions.record import CARD, PROVENANCE, Sample, Version, content_hash, read_version, tallies
from agent.dataset.versions.verify import verify
from agent.errors import ConfigError, VersionError
from agent.records import Item
from tests.fakes.clock import FakeClock
from tests.fakes.folders import CAR, a_folder, add_picture
from tests.fakes.stores import CLASSES, a_label, a_scene, a_store, picture

CANARY = a_scene(20, lane="canary")
ITEMS = [a_scene(number) for number in range(4)]
AUTHOR = {"who": "ann", "when": "2027-01-16T08:00:00Z"}
Change: TypeAlias = Callable[[Sample], Sample]


class Guarded:
    """A store in which a person labelled one frame and a canary draw, and the version that was built from it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = FakeClock()
        self.store = LabelStore(a_store(folder / "store", [*ITEMS, CANARY]), self.clock)
        assert self.label(a_label(ITEMS[0]), a_label(CANARY)).problems == []
        self.version = self.build("versions")

    def label(self, *labels: Label) -> Imported:
        return take(self.store, Labels(labels), CLASSES)

    def read(self, tool: str, path: Path) -> Imported:
        """Import what a tool's file says."""
        found = FORMATS[tool].read(path, lambda cid: task_of(self.store.folder, cid), **AUTHOR)
        return take(self.store, found, CLASSES)

    def export(self, tool: str) -> Path:
        folder = self.folder / f"batch-{tool}"
        export(self.store, (tool, FORMATS[tool]), folder, Choice(10), CLASSES)
        return folder

    def build(self, name: str, *bases: Path, synthetic: tuple[Path, ...] = (), **options: Any) -> Version:
        plan = Plan(
            self.folder / name,
            tuple(Folder(sheet, "eve") for sheet in bases),
            tuple(Folder(sheet, "eve", "synthetic") for sheet in synthetic),
            classes=CLASSES,
            val_share=0.0,
            **options,
        )
        return build(plan, self.store, self.clock)

    def learned(self) -> set[str]:
        """Candidates in a version that is built from the store now."""
        shutil.rmtree(self.folder / "fresh", ignore_errors=True)
        return {sample.key for sample in self.build("fresh").samples}

    def refused(self, item: Item = ITEMS[0]) -> str:
        """Why a candidate does not get into a version that is built now."""
        shutil.rmtree(self.folder / "fresh", ignore_errors=True)
        version = self.build("fresh", a_folder(self.folder / "street", train=[100]))
        assert item.cid not in {sample.key for sample in version.samples}
        return next(left.why for left in version.card.left_out if left.key == item.cid)

    def under_another_name(self, sample: Sample) -> Sample:
        """The labelled frame's sample as if it were one that nobody labelled, with that one's picture."""
        if sample.cid != ITEMS[0].cid:
            return sample
        (self.version.folder / sample.image).unlink()
        (self.version.folder / sample.image).write_bytes(ITEMS[1].image)
        return replace(sample, cid=ITEMS[1].cid, sha256=ITEMS[1].sha256)

    def sql(self, statement: str, *given: object) -> None:
        self.store._index.execute(statement, given)


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guarded]:
    held = Guarded(tmp_path)
    yield held
    held.store.close()


def problems(version: Version, store: LabelStore | None = None) -> str:
    return "; ".join(problem.what for problem in verify(read_version(version.folder), store))


def overwrite(path: Path, content: bytes) -> None:
    """As somebody would who has the right to."""
    path.chmod(0o644)
    path.write_bytes(content)


def forge(version: Version, change: Change) -> Version:
    """The version with other provenance and every hash and number of it right."""
    samples = [change(sample) for sample in version.samples]
    overwrite(version.folder / PROVENANCE, b"".join(sample.encode() for sample in samples))
    for old, new in zip(version.samples, samples, strict=True):
        if old.image != new.image:
            (version.folder / old.image).rename(version.folder / new.image)
            (version.folder / old.label).rename(version.folder / new.label)
    content = content_hash(version.folder)
    card = version.card.model_copy(update={**tallies(samples, version.names), "content": content})
    overwrite(version.folder / CARD, card.model_dump_json().encode())
    forged = version.folder.with_name(f"v0001-{content[:8]}")
    version.folder.rename(forged)
    return read_version(forged)


def test_what_people_said_is_learned_from(guarded: Guarded) -> None:
    assert guarded.learned() == {ITEMS[0].cid, CANARY.cid}
    assert problems(guarded.version, guarded.store) == ""


@pytest.mark.parametrize(
    ("tool", "file"),
    [("label-studio", "tasks.json"), ("coco", "instances.json"), ("cvat", "cvat.zip"), ("ultralytics", ".")],
)
def test_01_pre_annotations_imported_as_they_were_exported(guarded: Guarded, tool: str, file: str) -> None:
    done = guarded.read(tool, guarded.export(tool) / file)
    assert done.stored == 0
    assert guarded.learned() == {ITEMS[0].cid, CANARY.cid}


@pytest.mark.parametrize(
    "made",
    [
        {"completed_by": None, "lead_time": 3.0},
        {"completed_by": {"email": "ann@example.org"}, "lead_time": None},
        {"completed_by": {"email": "ann@example.org"}, "lead_time": 3.0, "was_cancelled": True},
    ],
)
def test_02_annotations_that_a_tool_made_from_predictions(guarded: Guarded, made: dict[str, Any]) -> None:
    tasks = json.loads((guarded.export("label-studio") / "tasks.json").read_text())
    for task in tasks:
        result = task["predictions"][0]["result"]
        task["annotations"] = [{"id": 1, "updated_at": AUTHOR["when"], "result": result, **made}]
    (guarded.folder / "export.json").write_text(json.dumps(tasks))
    done = guarded.read("label-studio", guarded.folder / "export.json")
    assert (done.stored, len(done.problems)) == (0, len(tasks))


def test_03_results_with_scores_as_labels(guarded: Guarded) -> None:
    batch = guarded.export("coco")
    assert guarded.read("coco", batch / "results.json").stored == 0
    document = json.loads((batch / "instances.json").read_text())
    document["annotations"] = json.loads((batch / "results.json").read_text())
    (batch / "instances.json").write_text(json.dumps(document))
    done = guarded.read("coco", batch / "instances.json")
    assert done.stored == 0
    assert "has a score: it is a prediction" in done.problems[0].what


def test_04_label_files_with_a_confidence(guarded: Guarded) -> None:
    batch = guarded.export("ultralytics")
    for path in (batch / "predictions").iterdir():
        shutil.copy(path, batch / "labels")
    done = guarded.read("ultralytics", batch)
    assert done.stored == 0
    assert "six columns" in done.problems[0].what


def test_05_label_files_from_which_the_confidence_was_cut(guarded: Guarded) -> None:
    batch = guarded.export("ultralytics")
    for path in (batch / "predictions").iterdir():
        lines = [" ".join(line.split()[:5]) for line in path.read_text().splitlines()]
        (batch / "labels" / path.name).write_text("\n".join(lines))
    assert guarded.read("ultralytics", batch).stored == 0
    row = ITEMS[1].meta.detections[0]
    done = guarded.label(replace(a_label(ITEMS[1]), boxes=(Box(row.name, row.xyxy),)))
    assert "the model's to the last digit" in done.problems[0].what


@pytest.mark.parametrize("author", [{"who": ""}, {"who": "  "}, {"who": "yolo26n"}, {"tool": "YOLO26n"}, {"tool": ""}])
def test_06_labels_by_nobody_or_by_a_model(guarded: Guarded, author: dict[str, Any]) -> None:
    assert guarded.label(a_label(ITEMS[1], **author)).stored == 0
    taken = guarded.store.revisions(ITEMS[0].cid)[0]
    guarded.store.add([taken.model_copy(update={"cid": ITEMS[1].cid, "image": ITEMS[1].sha256, **author})])
    assert guarded.refused(ITEMS[1])


def test_07_labels_of_another_picture(guarded: Guarded) -> None:
    assert guarded.label(replace(a_label(ITEMS[1]), width=640, height=480)).stored == 0
    taken = guarded.store.revisions(ITEMS[0].cid)[0]
    guarded.store.add([taken.model_copy(update={"cid": ITEMS[1].cid})])
    assert "labelled on another picture" in guarded.refused(ITEMS[1])


def test_08_a_picture_that_was_replaced_in_the_store(guarded: Guarded) -> None:
    for item in ITEMS[:2]:
        (guarded.store.folder / image_path(item.cid)).unlink()
        (guarded.store.folder / image_path(item.cid)).write_bytes(ITEMS[2].image)
    assert "changed after it arrived" in guarded.label(a_label(ITEMS[1])).problems[0].what
    assert "its picture was changed after it arrived" in guarded.refused()


def test_09_unfinished_work_and_disputes(guarded: Guarded) -> None:
    guarded.label(a_label(ITEMS[1], partial=True), a_label(ITEMS[2]), a_label(ITEMS[2], (), who="bob"))
    assert "partial" in guarded.refused(ITEMS[1])
    assert "conflict" in guarded.refused(ITEMS[2])


def test_10_a_label_file_edited_in_the_store(guarded: Guarded) -> None:
    path = guarded.store.folder / label_path(ITEMS[0].cid, 1)
    document = json.loads(path.read_text())
    document["boxes"][0]["xyxy"] = [1, 2, 30, 40]
    path.write_text(json.dumps(document))
    assert "was changed after it was stored" in guarded.refused()
    with pytest.raises(VersionError, match="changed after it was stored"):
        guarded.build("versions")


def test_10_a_label_file_edited_together_with_its_hash(guarded: Guarded) -> None:
    taken = guarded.store.revisions(ITEMS[0].cid)[0]
    edited = taken.model_copy(update={"boxes": (taken.boxes[0].model_copy(update={"xyxy": (1, 2, 30, 40)}),)})
    (guarded.store.folder / label_path(ITEMS[0].cid, 1)).write_bytes(edited.encode())
    assert "is not the one that was taken" in guarded.refused()
    with pytest.raises(VersionError, match="its label is not what ann said"):
        guarded.build("versions")


def test_11_a_row_for_a_label_that_nobody_gave(guarded: Guarded) -> None:
    columns = "revision, sha256, verdict, who, at, tool, partial, classes, taken, stands"
    copy = f"INSERT INTO label (cid, {columns}) SELECT ?, {columns} FROM label WHERE cid = ?"
    guarded.sql(copy, ITEMS[1].cid, ITEMS[0].cid)
    guarded.sql("UPDATE candidate SET label = 'labelled' WHERE cid = ?", ITEMS[1].cid)
    assert "cannot be read" in guarded.refused(ITEMS[1])


def test_12_a_state_that_was_set_in_the_index(guarded: Guarded) -> None:
    guarded.label(a_label(ITEMS[2], (), verdict="junk"))
    guarded.sql("UPDATE candidate SET label = 'labelled'")
    assert "the index says labelled, its label files say unlabelled" in guarded.refused(ITEMS[1])
    assert "its label files say junk" in guarded.refused(ITEMS[2])


def test_13_a_good_label_copied_to_another_candidate(guarded: Guarded) -> None:
    target = guarded.store.folder / label_path(ITEMS[1].cid, 1)
    target.parent.mkdir(exist_ok=True)
    shutil.copy(guarded.store.folder / label_path(ITEMS[0].cid, 1), target)
    with LabelStore(guarded.store.folder, guarded.clock):  # adopts what has no row
        assert ITEMS[1].cid not in guarded.learned()


def test_14_a_canary_draw_under_another_name(guarded: Guarded) -> None:
    guarded.sql("UPDATE candidate SET lane = 'uncertain' WHERE cid = ?", CANARY.cid)
    assert "its metadata was changed" in guarded.refused(CANARY)


def test_15_a_base_with_confidences(guarded: Guarded) -> None:
    sheet = a_folder(guarded.folder / "street", train=[100, 101])
    path = guarded.folder / "street" / "labels" / "train" / "100.txt"
    path.write_text(path.read_text().replace("\n", " 0.87\n"))
    with pytest.raises(ConfigError, match="a sixth column, a confidence: these are predictions"):
        guarded.build("mixed", sheet)


@pytest.mark.parametrize(
    "place", ["runs/detect/predict", "runs/detect/predict12", "predictions", "x_auto_annotate_labels"]
)
def test_16_a_base_that_a_model_wrote(guarded: Guarded, place: str) -> None:
    with pytest.raises(ConfigError, match="a model's output"):
        guarded.build("mixed", a_folder(guarded.folder / place, train=[100]))
    sheet = a_folder(guarded.folder / "street", train=[101])
    sheet.write_text(sheet.read_text().replace("images/train", f"../{place}/images/train"))
    with pytest.raises(ConfigError, match="a model's output"):
        guarded.build("mixed", sheet)


def test_16_labels_that_lead_into_a_models_output(guarded: Guarded) -> None:
    sheet = a_folder(guarded.folder / "street", train=[101])
    (guarded.folder / "runs" / "detect").mkdir(parents=True)
    (guarded.folder / "street" / "labels" / "train").rename(guarded.folder / "runs" / "detect" / "predict3")
    (guarded.folder / "street" / "labels" / "train").symlink_to(guarded.folder / "runs" / "detect" / "predict3")
    with pytest.raises(ConfigError, match="predict3': a model's output"):
        guarded.build("mixed", sheet)


def test_17_an_export_for_labelling_as_base(guarded: Guarded) -> None:
    with pytest.raises(ConfigError, match="is an export for labelling: its boxes are predictions"):
        guarded.build("mixed", guarded.export("ultralytics") / "data.yaml")


def test_18_a_base_with_pictures_of_the_store(guarded: Guarded) -> None:
    sheet = a_folder(guarded.folder / "street", train=[100])
    add_picture(guarded.folder / "street", "train", "found", ITEMS[1].image, CAR)
    for options in ({}, {"synthetic": (sheet,)}):
        with pytest.raises(ConfigError, match=f"is candidate {ITEMS[1].cid}: this folder is no way round its label"):
            guarded.build("mixed", *([] if options else [sheet]), **options)


def test_18_a_base_with_copies_of_the_stores_pictures_and_the_models_boxes(guarded: Guarded) -> None:
    guarded.export("coco")
    sheet = a_folder(guarded.folder / "street", train=[100])
    copy = picture(CAR, scene=1, quality=60, scale=0.5)
    add_picture(guarded.folder / "street", "train", "copy", copy, CAR)
    assert guarded.build("drawn", sheet).card.images["train"]["base"] == 2
    guess = [(row.name, row.xyxy) for row in ITEMS[1].meta.detections]
    add_picture(guarded.folder / "street", "train", "copy", copy, guess)
    with pytest.raises(ConfigError, match=f"shows candidate {ITEMS[1].cid}, with the model's boxes to the last digit"):
        guarded.build("guessed", sheet)


def test_19_synthetic_pictures_beyond_their_cap_or_to_be_judged_by(guarded: Guarded) -> None:
    made = a_folder(guarded.folder / "made", train=range(200, 210), val=range(210, 212))
    version = guarded.build("mixed", a_folder(guarded.folder / "street", train=[100, 101, 102]), synthetic=(made,))
    assert version.card.images["train"] == {"base": 3, "candidate": 1, "synthetic": 1}
    real = next(sample for sample in version.samples if sample.source == "base")
    forged = forge(version, lambda sample: replace(sample, source="synthetic") if sample == real else sample)
    assert "2 synthetic of 5 samples in train, above the cap" in problems(forged)


@pytest.mark.parametrize("kind", ["label", "image"])
def test_20_a_label_or_picture_of_a_version_edited(guarded: Guarded, kind: str) -> None:
    sample = next(each for each in guarded.version.samples if each.cid == ITEMS[0].cid)
    path = guarded.version.folder / getattr(sample, kind)
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content + (b"1 0.5 0.5 0.1 0.1\n" if kind == "label" else b"\0"))
    assert "was changed after the version was built" in problems(guarded.version)
    with pytest.raises(VersionError, match="was changed after the version was built"):
        guarded.build("versions")


def test_21_files_added_to_a_version(guarded: Guarded) -> None:
    (guarded.version.folder / "images" / "train" / "more.jpg").write_bytes(ITEMS[1].image)
    (guarded.version.folder / "labels" / "train" / "more.txt").write_text("1 0.5 0.5 0.1 0.1\n")
    assert problems(guarded.version).count("no sample of this version") == 2
    guarded.label(a_label(ITEMS[2]))
    assert {sample.key for sample in guarded.build("versions").samples} == {ITEMS[0].cid, ITEMS[2].cid, CANARY.cid}


def test_22_provenance_edited(guarded: Guarded) -> None:
    path = guarded.version.folder / PROVENANCE
    overwrite(path, path.read_bytes().replace(b'"ann"', b'"bob"'))
    assert "provenance, looks or data.yaml were changed" in problems(guarded.version)
    with pytest.raises(VersionError, match="were changed"):
        guarded.build("versions")


def test_23_a_version_forged_with_all_its_hashes_right(guarded: Guarded) -> None:
    forged = forge(guarded.version, guarded.under_another_name)
    assert problems(forged) == ""
    assert label_path(ITEMS[1].cid, 1) in problems(forged, guarded.store)
    with pytest.raises(VersionError, match="cannot be read"):
        guarded.build("versions")
    stranger = forge(forged, lambda sample: replace(sample, cid="0" * 32, sha256=sample.sha256[::-1]))
    assert "a candidate that this store does not have" in problems(stranger, guarded.store)


def test_23_a_forged_label_with_all_its_hashes_right(guarded: Guarded) -> None:
    def redrawn(sample: Sample) -> Sample:
        if sample.cid != ITEMS[0].cid:
            return sample
        overwrite(guarded.version.folder / sample.label, b"1 0.5 0.5 0.1 0.1\n")
        return replace(sample, label_sha256=hashlib.sha256(b"1 0.5 0.5 0.1 0.1\n").hexdigest())

    forged = forge(guarded.version, redrawn)
    assert problems(forged) == ""
    assert "its label is not what ann said" in problems(forged, guarded.store)


FORGED: dict[str, tuple[Change, str]] = {
    "canary in train": (
        lambda sample: (
            replace(sample, split="train", image=sample.image.replace("eval", "train"))
            if sample.lane == "canary"
            else sample
        ),
        "canary draws are never trained on",
    ),
    "a candidate as a base picture": (
        lambda sample: replace(sample, source="base", origin="street") if sample.cid == ITEMS[0].cid else sample,
        "a base sample where only candidates are",
    ),
    "a base picture from nowhere": (
        lambda sample: (
            Sample(
                **{
                    field.name: getattr(sample, field.name)
                    for field in dataclasses.fields(Sample)
                    if field.name in ("image", "sha256", "label_sha256", "split", "group", "counts")
                },
                source="base",
            )
            if sample.cid == ITEMS[0].cid
            else sample
        ),
        "nobody knows where it comes from",
    ),
    "no verdict": (lambda sample: replace(sample, verdict=None), "a candidate without a person's verdict"),
    "no label": (lambda sample: replace(sample, revision_sha256=None), "a candidate without a person's verdict"),
    "nobody": (lambda sample: replace(sample, who=""), "which is nobody"),
    "a model as labeller": (lambda sample: replace(sample, who=sample.model), "which is nobody"),
}


@pytest.mark.parametrize(("change", "why"), FORGED.values(), ids=FORGED.keys())
def test_24_forged_provenance(guarded: Guarded, change: Change, why: str) -> None:
    assert why in problems(forge(guarded.version, change))
    with pytest.raises(VersionError):
        guarded.build("versions")


def test_25_a_trainers_copy_of_the_labels(guarded: Guarded) -> None:
    (guarded.version.folder / "labels" / "train.cache").write_bytes(b"anything")
    assert "a trainer's own copy of the labels" in problems(guarded.version)


def test_26_a_changed_version_as_the_base_of_another(guarded: Guarded) -> None:
    sample = guarded.version.samples[0]
    overwrite(guarded.version.folder / sample.label, b"1 0.5 0.5 0.1 0.1\n")
    with pytest.raises(VersionError, match="was changed after the version was built"):
        guarded.build("next", guarded.version.folder / "data.yaml")


def test_26_a_forged_version_as_the_base_of_another(guarded: Guarded) -> None:
    forged = forge(guarded.version, guarded.under_another_name)
    with pytest.raises(VersionError, match="cannot be read"):
        guarded.build("next", forged.folder / "data.yaml")
    hidden = forge(forged, lambda sample: replace(sample, cid="0" * 32) if sample.cid == ITEMS[1].cid else sample)
    with pytest.raises(VersionError, match=f"candidate {ITEMS[1].cid} under another name"):
        guarded.build("next", hidden.folder / "data.yaml")


def test_26_a_base_does_not_bring_back_what_a_person_took_back(guarded: Guarded) -> None:
    guarded.label(a_label(ITEMS[0], (), verdict="junk", when="2027-01-17T08:00:00Z"))
    version = guarded.build("next", guarded.version.folder / "data.yaml")
    assert {sample.key for sample in version.samples} == {CANARY.cid}


def test_every_way_in_that_is_written_down_has_its_test() -> None:
    text = (Path(__file__).parents[2] / "deploy" / "collapse-guard.md").read_text("utf-8")
    ways = {int(number) for number in re.findall(r"^(\d+)\. ", text, re.MULTILINE)}
    tests = {int(found[1]) for name in globals() if (found := re.match(r"test_(\d\d)_", name))}
    assert ways == tests
    assert len(ways) >= 10
