"""Reading a data.yaml and the labels behind it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from agent.collector import LabelStore
from agent.dataset.labelling import take
from agent.dataset.records import Labels
from agent.dataset.versions.build import Plan, build
from agent.errors import ConfigError
from agent.export.sheet import label_file, read_sheet
from tests.fakes.clock import FakeClock
from tests.fakes.stores import CLASSES, a_label, a_scene, a_store


def version(folder: Path, labels: dict[str, str], split: str = "train") -> Path:
    """A data set with these label files (None: no file); images are grey."""
    for part in ("images", "labels"):
        (folder / part / split).mkdir(parents=True, exist_ok=True)
    for name, text in labels.items():
        cv2.imwrite(str(folder / "images" / split / f"{name}.jpg"), np.full((8, 8, 3), 127, np.uint8))
        if text:
            (folder / "labels" / split / f"{name}.txt").write_text(text)
    sheet = {"path": str(folder), "train": f"images/{split}", "val": f"images/{split}", "names": ["cat", "dog"]}
    (folder / "data.yaml").write_text(yaml.safe_dump(sheet))
    return folder


def test_labels_are_read_where_ultralytics_reads_them(tmp_path: Path) -> None:
    version(tmp_path, {"a": "1 0.5 0.5 0.2 0.4\n\n0 0.1 0.1 0.2 0.2\n", "b": ""})
    first, second = read_sheet(tmp_path).labelled("train")
    assert first.classes.tolist() == [1, 0]
    assert first.boxes[0].tolist() == pytest.approx([0.4, 0.3, 0.6, 0.7])
    assert (second.image.name, len(second.boxes)) == ("b.jpg", 0)


def test_objects_are_counted_per_class(tmp_path: Path) -> None:
    version(tmp_path, {"a": "1 .5 .5 .1 .1\n1 .5 .5 .1 .1\n", "b": "0 .5 .5 .1 .1\n"})
    assert read_sheet(tmp_path / "data.yaml").counts() == (1, 2)


def test_a_split_may_be_a_list_of_images_or_of_folders(tmp_path: Path) -> None:
    version(tmp_path, {"a": "", "b": ""})
    (tmp_path / "some.txt").write_text("./images/train/b.jpg\n")
    sheet = yaml.safe_load((tmp_path / "data.yaml").read_text())
    sheet |= {"val": "some.txt", "test": ["images/train", "some.txt"], "names": {0: "cat", 1: "dog"}, "path": "."}
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(sheet))
    read = read_sheet(tmp_path)
    assert [path.name for path in read.images("val")] == ["b.jpg"]
    assert [path.name for path in read.images("test")] == ["a.jpg", "b.jpg", "b.jpg"]
    assert read.names == ("cat", "dog")


def test_the_last_folder_named_images_counts() -> None:
    assert label_file(Path("/x/images/y/images/a.b.png")) == Path("/x/images/y/labels/a.b.txt")


def test_the_digest_is_of_pictures_and_labels(tmp_path: Path) -> None:
    version(tmp_path, {"a": "0 .5 .5 .1 .1\n"})
    before = read_sheet(tmp_path).digest("train")
    (tmp_path / "labels" / "train" / "a.txt").write_text("1 .5 .5 .1 .1\n")
    assert read_sheet(tmp_path).digest("train") != before


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("0 .5 .5 .1", "is no label"),
        ("cat .5 .5 .1 .1", "is no label"),
        ("0 50 50 10 10", "is no label"),
        ("0 nan .5 .1 .1", "is no label"),
        ("0 .1 .1 .2 .1 .3 .3 .1 .3", "is no label"),
        ("2 .5 .5 .1 .1", "names classes 0 to 1"),
        ("-1 .5 .5 .1 .1", "names classes 0 to 1"),
    ],
)
def test_a_wrong_label_is_named_with_its_line(tmp_path: Path, line: str, complaint: str) -> None:
    version(tmp_path, {"a": f"0 .5 .5 .1 .1\n{line}\n"})
    with pytest.raises(ConfigError, match=complaint) as caught:
        read_sheet(tmp_path).counts()
    assert "a.txt:2" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[1, 2]", "is no data.yaml"),
        ("names: {0: a, 2: b}", "names"),
        ("names: []", "names"),
        ("train: images/train", "names"),
        ("a: [", "is no YAML"),
    ],
)
def test_a_wrong_sheet_is_refused_in_one_line(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(ConfigError, match=complaint) as caught:
        read_sheet(tmp_path)
    assert "\n" not in str(caught.value)


def test_missing_files_and_splits_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_sheet(tmp_path / "nothing.yaml")
    version(tmp_path, {"a": ""})
    with pytest.raises(ConfigError, match="no split 'test'; it has: train, val"):
        read_sheet(tmp_path).images("test")
    (tmp_path / "images" / "train" / "a.jpg").unlink()
    with pytest.raises(ConfigError, match="holds no images"):
        read_sheet(tmp_path).images("train")


def test_a_version_that_was_built_has_its_canaries_in_test(tmp_path: Path) -> None:
    scenes = [a_scene(number) for number in range(4)] + [a_scene(20, lane="canary")]
    with LabelStore(a_store(tmp_path / "store", scenes), FakeClock()) as store:
        take(store, Labels(tuple(a_label(scene) for scene in scenes)), CLASSES)
        built = build(Plan(tmp_path / "versions", classes=CLASSES), store, FakeClock())
    sheet = read_sheet(built.folder)
    (canary,) = sheet.labelled("test")
    assert canary.image.read_bytes() == scenes[-1].image
    assert [sheet.names[cls] for cls in canary.classes] == ["car"]
    numbers = built.card.classes["car"]
    assert sheet.counts("train")[sheet.names.index("car")] == numbers["train"] == 4 - numbers["val"]
