"""What a version tells the fleet to look for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from agent.collector import LabelStore
from agent.dataset.labelling import take
from agent.dataset.need import verdicts, weights
from agent.dataset.records import Labels
from agent.dataset.versions.record import Card, Version
from agent.selection.scores import class_weights
from tests.fakes.clock import FakeClock
from tests.fakes.stores import CLASSES, a_label, a_scene, a_store


def a_version(folder: Path, **train: int) -> Version:
    classes = {name: {"train": count, "val": 1000, "eval": 1000} for name, count in train.items()}
    card = Card(
        version="v1-0", content="", created="", seed=0, val_share=0.1, synthetic_cap=0.2, labels_until="",
        classes=classes, images={}, ratio={},
    )  # fmt: skip
    return Version(folder, card, ())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LabelStore]:
    with LabelStore(a_store(tmp_path / "store", [a_scene(number) for number in range(3)]), FakeClock()) as store:
        yield store


def test_what_is_rare_in_training_weighs_most(tmp_path: Path) -> None:
    found = weights(a_version(tmp_path, person=9000, car=800, horse=12, crane=0))
    assert list(found) == ["person", "car", "horse", "crane"]
    assert sorted(found, key=lambda name: found[name]) == ["person", "car", "horse", "crane"]
    assert found["person"] < 0.05
    assert found["crane"] > 0.9


def test_a_device_weighs_the_same_counts_the_same(tmp_path: Path) -> None:
    counts = {"person": 500, "car": 80, "horse": 3}
    need = weights(a_version(tmp_path, **counts))
    own = class_weights(list(counts.values()), {}, list(counts))
    told = class_weights([1, 1, 1], need, list(counts))
    assert told == pytest.approx(np.asarray(own), abs=0.001)


def test_verdicts_are_counted_per_camera(store: LabelStore) -> None:
    assert verdicts(store) == {}
    scenes = [a_scene(number) for number in range(3)]
    labels = (a_label(scenes[0]), a_label(scenes[1]), a_label(scenes[2], ()))
    assert take(store, Labels(labels), CLASSES).problems == []
    assert verdicts(store) == {"gate-north/gate": {"nothing": 1, "useful": 2}}
