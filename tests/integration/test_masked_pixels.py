"""Masked pixels go nowhere: not to the model, not to the disk, not into what is delivered."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest

from agent.camera import open_cameras
from agent.clock import SystemClock
from agent.detector import Detector
from agent.health import Health
from agent.records import Image, Item, Rows
from agent.service.parts import make_parts
from agent.settings import Settings
from agent.spool import Spool
from agent.watch import Watch
from tests.fakes.models import a_model, end2end

SECRET = (255, 0, 255)
"""The colour of what stands behind the mask, and of nothing else."""
MASK = [[0.5, 0.5], [1.0, 0.5], [1.0, 1.0], [0.5, 1.0]]
JPEG = re.compile(rb"\xff\xd8\xff.+?\xff\xd9", re.DOTALL)


def shows_secret(image: Image) -> bool:
    """Whether any pixel is nearly of the secret colour, as it would still be after JPEG."""
    return bool((np.abs(image.astype(int) - SECRET).max(axis=2) < 90).any())


def pictures_under(folder: Path) -> Iterator[Image]:
    """Every JPEG in every file, whatever the file is called."""
    for path in folder.rglob("*"):
        if path.is_file():
            for jpeg in JPEG.findall(path.read_bytes()):
                image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
                if image is not None:
                    yield np.asarray(image, np.uint8)


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """Twelve pictures, each with the secret in its lower right quarter."""
    folder = tmp_path / "scene"
    folder.mkdir()
    rng = np.random.default_rng(1)
    for i in range(12):
        image = rng.integers(0, 200, (120, 160, 3), dtype=np.uint8)
        image[..., 1] = 180
        image[60:, 80:] = SECRET
        cv2.imwrite(str(folder / f"{i:02}.png"), image)
    return folder


def test_masked_pixels_reach_neither_the_model_nor_the_disk_nor_an_item(
    tmp_path: Path, scene: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, seen = tmp_path / "state", list[Image]()
    state.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(state))
    detect = Detector.detect

    def look(detector: Detector, image: Image) -> Rows:
        seen.append(image)
        return detect(detector, image)

    monkeypatch.setattr(Detector, "detect", look)
    settings = Settings.model_validate(
        {
            "device": {"id": "pole-1", "state_dir": state},
            "cameras": [{"name": "gate", "source": str(scene), "masks": [MASK], "redact": ["person"]}],
            "selection": {
                "budget": 1.0,
                "window_frames": 4,
                "frames_per_day": 0,
                "bytes_per_day": 0,
                "labels_per_day": 0,
            },
            "spool": {"max_bytes": 10_000_000, "reserve_bytes": 0},
        }
    )
    items = kept_by(settings, state)
    assert len(items) == len(seen) == 12
    stored = list(pictures_under(state))
    assert len(stored) >= 12
    for image in (*seen, *stored):
        assert not shows_secret(image)
    assert shows_secret(next(iter(pictures_as_filmed(scene)))), "the test can see what it looks for"
    assert {item.meta.image.redacted for item in items} == {("mask", "person")}


def pictures_as_filmed(scene: Path) -> Iterator[Image]:
    for path in scene.iterdir():
        image = cv2.imread(str(path))
        assert image is not None
        yield np.asarray(image, np.uint8)


def kept_by(settings: Settings, state: Path) -> list[Item]:
    """What the watch loop spools of the recording."""
    clock, items = SystemClock(), list[Item]()
    detector = Detector(a_model(end2end([[2, 10, 20, 30, 0.6, 0]])), floor=0.02)
    with closing(Spool(state / "spool", settings.spool, clock)) as spool:
        spool.recover()
        with closing(open_cameras(settings.cameras, clock, paced=False)) as cameras:
            watch = Watch(
                cameras,
                make_parts(settings, detector, clock),
                keep=lambda _, item: items.append(item) if spool.put(item) else None,
                health=Health(clock, state),
                clock=clock,
                state_file=state / "selection.json",
            )
            while not watch.ended.is_set():
                watch.step(1.0)
    return items
