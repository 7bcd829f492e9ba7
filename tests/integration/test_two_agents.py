"""Two agents watch one clip with the real model and selection, and nobody labels a frame twice."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import cv2

from agent.camera import open_cameras
from agent.clock import SystemClock
from agent.collector import LabelStore
from agent.dataset.export import export
from agent.dataset.formats import FORMATS
from agent.dataset.tasks import Choice
from agent.detector import Detector
from agent.health import Health
from agent.records import Candidate, Item
from agent.service import make_parts
from agent.settings import load
from agent.watch import Watch
from agent.world import World
from agent.world.classes import NAMES
from tests.fakes.clock import FakeClock
from tests.fakes.stores import a_store

MODEL = Path(__file__).resolve().parents[2] / "agent" / "world" / "model"
STREET = "street?seed=3&start=9&rare=4"
FRAMES, STEP = 120, 7


@dataclass(frozen=True)
class Picked:
    """A candidate, and which frame of the clip it shows."""

    frame: int
    item: Item


def a_clip(folder: Path) -> Path:
    """A folder of frames of the rendered street, lossless."""
    folder.mkdir()
    world = World(STREET)
    for number in range(FRAMES):
        cv2.imwrite(str(folder / f"{number:04d}.png"), world.render(number * STEP))
    return folder


def watched(clip: Path, device: str, quality: int) -> list[Picked]:
    """What an agent picks of the clip when a fifth of all frames may be labelled."""
    command_line = {
        "device": {"id": device},
        "cameras": {"clip": {"name": "clip", "source": str(clip), "fps": 0.0}},
        "model": {"path": str(MODEL)},
        "selection": {"budget": 0.2, "seed": 5, "frames_per_day": 0, "bytes_per_day": 0, "labels_per_day": 0},
        "image": {"quality": quality},
    }
    settings = load(None, environ={}, command_line=command_line).settings
    clock, picked = SystemClock(), list[Picked]()

    def keep(candidate: Candidate, item: Item) -> None:
        picked.append(Picked(candidate.frame.index, item))

    parts = make_parts(settings, Detector.from_settings(settings.model), clock)
    with contextlib.closing(open_cameras(settings.cameras, clock, paced=False)) as cameras:
        watch = Watch(cameras, parts, keep=keep, health=Health(clock, Path()), clock=clock)
        while not watch.ended.is_set():
            watch.step(1.0)
        watch.flush()
    return picked


def test_two_agents_on_one_clip_give_one_task_per_distinct_frame(tmp_path: Path) -> None:
    clip = a_clip(tmp_path / "clip")
    watchers = [*watched(clip, "gate-north", 90), *watched(clip, "gate-south", 70)]
    picked = [each for each in watchers if each.item.meta.lane != "canary"]
    frames = {each.item.cid: each.frame for each in picked}
    twice = [frame for frame, count in Counter(frames.values()).items() if count == 2]
    assert len(twice) >= 5, "both agents have picked these"
    with LabelStore(a_store(tmp_path / "store", [each.item for each in picked]), FakeClock()) as store:
        done = export(store, ("coco", FORMATS["coco"]), tmp_path / "batch", Choice(1000), NAMES)
    tasks = json.loads((tmp_path / "batch" / "instances.json").read_text())["images"]
    shown = [frames[Path(image["file_name"]).stem] for image in tasks]
    assert sorted(shown) == sorted(set(frames.values()))
    assert done.twins == len(picked) - len(shown)
