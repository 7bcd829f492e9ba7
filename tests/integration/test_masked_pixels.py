"""Masked pixels go nowhere: not to the model, the disk or the broker, nor into what the device says or is delivered."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from agent import health
from agent.camera import open_cameras
from agent.clock import SystemClock
from agent.collector import listing
from agent.collector.sheet import contact_sheet
from agent.detector import Detector
from agent.health import Health
from agent.privacy import Privacy
from agent.records import Image, Item, Rows, Vector
from agent.service import Device
from agent.service.parts import change_parts, make_parts
from agent.settings import Settings, load
from agent.spool import Spool
from agent.watch import Watch
from tests.fakes.mjpeg import MjpegCamera, playing
from tests.fakes.models import a_model, end2end
from tests.fakes.mosquitto import Mosquitto
from tests.integration.delivery import Collector, Spy, broker_settings, wait_until

SECRET = (255, 0, 255)
"""The colour of what stands behind the mask, and of nothing else."""
MASK = [[0.5, 0.5], [1.0, 0.5], [1.0, 1.0], [0.5, 1.0]]
JPEG = re.compile(rb"\xff\xd8\xff.+?\xff\xd9", re.DOTALL)
EVERYTHING = {"budget": 1.0, "window_frames": 4, "frames_per_day": 0, "bytes_per_day": 0, "labels_per_day": 0}


def shows_secret(image: Image) -> bool:
    """Whether any pixel is nearly of the secret colour, as it would still be after JPEG."""
    return bool((np.abs(image.astype(int) - SECRET).max(axis=2) < 90).any())


def pictures_in(content: bytes) -> Iterator[Image]:
    """Every JPEG in it, whatever it is."""
    for jpeg in JPEG.findall(content):
        image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        if image is not None:
            yield np.asarray(image, np.uint8)


def pictures_under(folder: Path) -> Iterator[Image]:
    for path in folder.rglob("*"):
        if path.is_file():
            yield from pictures_in(path.read_bytes())


def a_scene(size: tuple[int, int], rng: np.random.Generator) -> Image:
    """A picture with the secret in its lower right quarter."""
    height, width = size
    image = rng.integers(0, 200, (height, width, 3), dtype=np.uint8)
    image[..., 1] = 180
    image[height // 2 :, width // 2 :] = SECRET
    return image


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """Twelve pictures."""
    folder = tmp_path / "scene"
    folder.mkdir()
    rng = np.random.default_rng(1)
    for i in range(12):
        cv2.imwrite(str(folder / f"{i:02}.png"), a_scene((120, 160), rng))
    return folder


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Image]:
    """What the model gets to see."""
    images, look = list[Image](), Detector.look

    def looks(detector: Detector, image: Image) -> tuple[Rows, Vector | None]:
        images.append(image)
        return look(detector, image)

    monkeypatch.setattr(Detector, "look", looks)
    return images


def masked(scene: Path, state: Path, *, masks: Any = (MASK,), **selection: Any) -> Settings:
    return Settings.model_validate(
        {
            "device": {"id": "pole-1", "state_dir": state},
            "cameras": [{"name": "gate", "source": str(scene), "masks": masks, "redact": ["person"]}],
            "selection": EVERYTHING | selection,
            "spool": {"max_bytes": 10_000_000, "reserve_bytes": 0},
        }
    )


@dataclass
class Bench:
    """A watch loop over the recording, and what it spooled."""

    watch: Watch
    health: Health
    items: list[Item]

    def run(self, frames: int = 10**6) -> None:
        """Look at so many frames, or at all that are left."""
        end = self.health.counters["frames"] + frames
        while not self.watch.ended.is_set() and self.health.counters["frames"] < end:
            self.watch.step(1.0)


@contextmanager
def watching(settings: Settings) -> Iterator[Bench]:
    clock, items, state = SystemClock(), list[Item](), settings.device.state_dir
    detector = Detector(a_model(end2end([[2, 10, 20, 30, 0.6, 0]])), floor=0.02)
    with closing(Spool(state / "spool", settings.spool, clock)) as spool:
        spool.recover()
        with closing(open_cameras(settings.cameras, clock, paced=False)) as cameras:
            counted = Health(clock, state)
            watch = Watch(
                cameras,
                make_parts(settings, detector, clock),
                keep=lambda _, item: items.append(item) if spool.put(item) else None,
                health=counted,
                clock=clock,
                state_file=state / "selection.json",
            )
            yield Bench(watch, counted, items)


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The device's folder; temporary files would be in it too."""
    folder = tmp_path / "state"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_masked_pixels_reach_neither_the_model_nor_the_disk_nor_an_item(
    state: Path, scene: Path, seen: list[Image]
) -> None:
    with watching(masked(scene, state)) as bench:
        bench.run()
    assert len(bench.items) == len(seen) == 12
    stored = list(pictures_under(state))
    assert len(stored) >= 12
    for image in (*seen, *stored):
        assert not shows_secret(image)
    filmed = cv2.imread(str(scene / "00.png"))
    assert filmed is not None
    assert shows_secret(np.asarray(filmed, np.uint8)), "the test can see what it looks for"
    assert {item.meta.image.redacted for item in bench.items} == {("mask", "person")}


def test_a_mask_from_afar_holds_for_frames_that_were_taken_before_it(state: Path, scene: Path) -> None:
    """Frames that compete in later windows, and those that a rule wants as context, were masked as it was then."""
    rule = {"name": "now-and-then", "every_s": 7.0, "before": 3}
    before = masked(scene, state, masks=[], budget=0.01, rules=[rule])
    before = before.model_copy(update={"cameras": (before.cameras[0].model_copy(update={"fps": 1.0}),)})
    after = before.model_copy(update={"cameras": masked(scene, state).cameras})
    with watching(before) as bench:
        bench.run(6)
        old = len(bench.items)
        bench.watch._exchange(lambda parts: change_parts(parts, before, after, SystemClock()))
        bench.run()
    later = bench.items[old:]
    assert any("context now-and-then" in item.meta.reasons for item in later)
    assert {item.meta.image.redacted for item in later} == {("mask", "person")}
    assert not any(shows_secret(image) for item in later for image in pictures_in(item.image))


def test_without_a_mask_that_can_be_applied_nothing_is_looked_at_or_kept(
    state: Path, scene: Path, seen: list[Image]
) -> None:
    with watching(masked(scene, state)) as bench:
        parts = bench.watch.parts
        bench.watch.parts = replace(parts, privacy=Privacy((), parts.detector.classes))
        while not bench.watch.ended.is_set():
            bench.watch.step(1.0)
    assert (seen, bench.items, list(pictures_under(state))) == ([], [], [])
    assert bench.health.counters["frames_refused"] == 12


class SceneCamera(MjpegCamera):
    """A network camera that films the secret."""

    def image(self) -> Image:
        return a_scene(self.size, self._rng)


def test_masked_pixels_reach_neither_broker_nor_store_nor_contact_sheet_nor_what_the_device_says(
    tmp_path: Path, state: Path, seen: list[Image], mosquitto: Mosquitto
) -> None:
    (tmp_path / "m.onnx").write_bytes(a_model(end2end([[2, 10, 20, 30, 0.6, 0]])))
    rule = {"name": "now-and-then", "every_s": 0.5, "before": 2, "after": 2}
    store, broker = tmp_path / "store", broker_settings(mosquitto.port)
    with ExitStack() as stack:
        camera = stack.enter_context(playing(SceneCamera()))
        values: dict[str, Any] = {
            "device": {"id": "pole-1", "state_dir": str(state)},
            "broker": broker.model_dump(),
            "cameras": {"gate": {"name": "gate", "source": camera.url, "fps": 20.0, "masks": [MASK]}},
            "model": {"path": str(tmp_path / "m.onnx"), "threads": 1},
            "selection": EVERYTHING | {"budget": 0.3, "shares": {"canary": 1.0}, "rules": [rule]},
            "uplink": {"start_spread_s": 0.0},
        }
        spy = stack.enter_context(Spy(broker))
        stack.enter_context(Collector(store, broker))
        device = Device(load(Path("/dev/null"), command_line=values, environ={}), SystemClock())
        stack.enter_context(device.running())
        stack.enter_context(health.answering(state, lambda: {"stats": device.operations.stats().model_dump()}))
        for size in ((96, 128), (240, 320), (64, 256)):
            camera.stop()
            camera.size = size
            camera.start()
            wait_until(lambda size=size: seen_in(seen, size) > 20, f"{size} is seen")  # type: ignore[misc]
            assert device.operations.capture("gate", f"of {size}")
        said = json.dumps([device.operations.diag(), health.ask(state)], default=str).encode()
        device.stop_watching()
        wait_until(lambda: device.spool.stats().items == 0, "all delivered")
    rows = list(listing(store))
    assert {"canary", "rule", "manual"} <= {row["lane"] for row in rows}
    assert contact_sheet(store, rows, tmp_path / "sheet.jpg")
    sent = b"".join(message.payload for message in spy.heard()) + said
    shown = [*seen, *pictures_under(tmp_path), *pictures_in(sent)]
    assert len(shown) > 2 * len(rows) > 20
    assert not any(shows_secret(image) for image in shown)
    assert b"/9j/" not in sent, "no JPEG in base64"


def seen_in(images: list[Image], size: tuple[int, int]) -> int:
    return sum(image.shape[:2] == size for image in images)
