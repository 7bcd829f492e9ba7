"""From a picked frame to an item."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from agent.clock import Clock, SystemClock
from agent.errors import FrameError
from agent.privacy import Privacy
from agent.records import Candidate, Frame, Item, ModelRef, Rows, Thresholds, content_id
from agent.seal import Seal
from agent.settings import CameraSettings, ImageSettings
from tests.fakes.clock import FakeClock

CLASSES = ("person", "car")
ROWS: Rows = np.array([[10, 20, 110, 220, 0.8, 1], [30, 40, 50, 60, 0.1, 0]], np.float32)


GATE = CameraSettings(name="gate", source="0")


def a_seal(image: ImageSettings, privacy: Privacy, clock: Clock) -> Seal:
    return Seal(
        device="pole-1",
        model=ModelRef(id="m", sha256="0" * 64),
        classes=CLASSES,
        thresholds=Thresholds(serve=0.25, floor=0.02),
        image=image,
        privacy=privacy,
        clock=clock,
    )


def sealed(image: ImageSettings, camera: CameraSettings, rows: Rows = ROWS, size: tuple[int, int] = (300, 400)) -> Item:
    pixels = np.random.default_rng(7).integers(0, 256, (*size, 3), dtype=np.uint8)
    privacy = Privacy((camera,), CLASSES)
    frame = Frame("gate", pixels, 5, 1.5, 1_790_000_000_123_456_789, 42)
    return a_seal(image, privacy, SystemClock())(Candidate(privacy.mask(frame), rows, "canary", 0.5, 0.01, ("why",)))


@pytest.mark.parametrize(
    ("synced", "set_by_s", "trusted"),
    [(True, 0.0, True), (True, 0.3, True), (True, 1e9, False), (True, -1e9, False), (False, 0.0, False)],
    ids=["synchronised", "adjusted", "set forward", "set back", "not synchronised"],
)
def test_a_stamp_is_trusted_when_the_clock_was_right_while_the_frame_was_taken(
    synced: bool, set_by_s: float, trusted: bool
) -> None:
    clock = FakeClock()
    frame = Frame("gate", np.full((30, 40, 3), 90, np.uint8), 0, 0.0, clock.wall_ns(), clock.mono_ns())
    clock.advance(600.0)
    clock.jump(set_by_s)
    clock.is_synced = synced
    item = a_seal(ImageSettings(), Privacy((GATE,), CLASSES), clock)(Candidate(frame, ROWS[:0], "canary", 0.5, 0.01))
    assert item.meta.clock_synced is trusted


def decode(item: Item) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    image = cv2.imdecode(np.frombuffer(item.image, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return np.asarray(image, np.uint8)


def test_an_item_says_what_is_in_its_image_and_has_the_id_of_its_content() -> None:
    item = sealed(ImageSettings(), GATE)
    assert decode(item).shape == (300, 400, 3)
    assert (item.meta.image.w, item.meta.image.h) == (400, 300)
    assert item.cid == content_id("pole-1", 1_790_000_000_123_456_789, item.sha256)
    assert item.meta.ts == "2026-09-21T14:13:20.123Z"
    assert (item.meta.lane, item.meta.probability, item.meta.reasons) == ("canary", 0.01, ("why",))


def test_every_row_above_the_floor_is_kept_and_marked_as_served_or_not() -> None:
    detections = sealed(ImageSettings(), GATE).meta.detections
    assert [(d.name, d.served) for d in detections] == [("car", True), ("person", False)]
    assert detections[0].xyxy == (10, 20, 110, 220)


def test_a_large_frame_is_scaled_down_and_its_boxes_with_it() -> None:
    item = sealed(ImageSettings(max_side=200), GATE)
    assert decode(item).shape == (150, 200, 3)
    assert item.meta.detections[0].xyxy == (5, 10, 55, 110)


def test_what_was_masked_and_redacted_is_gone_and_said() -> None:
    mask = ((0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0))
    camera = GATE.model_copy(update={"masks": (mask,), "redact": ("car",)})
    item = sealed(ImageSettings(quality=95), camera)
    picture = decode(item).astype(int)
    assert item.meta.image.redacted == ("mask", "car")
    assert picture[:, 210:].std() < 2
    assert picture[30:210, 20:100].std() < picture[:, 130:195].std() / 3


def test_an_empty_frame_has_no_detections() -> None:
    assert sealed(ImageSettings(), GATE, np.zeros((0, 6), np.float32)).meta.detections == ()


def test_rows_that_metadata_cannot_hold_refuse_that_candidate_only() -> None:
    rows = np.array([[1, 1, 9, 9, 1.5, 0]], np.float32)
    with pytest.raises(FrameError, match=r"camera gate: conf"):
        sealed(ImageSettings(), GATE, rows)


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (3000, 2)])
def test_odd_shapes_are_sealed(size: tuple[int, int]) -> None:
    rows = np.zeros((0, 6), np.float32)
    item = sealed(ImageSettings(max_side=640), GATE, rows, size)
    assert max(decode(item).shape[:2]) <= 640


def test_a_picture_that_was_made_early_makes_the_same_item() -> None:
    camera = CameraSettings(name="gate", source="0", redact=("car",))
    seal = a_seal(ImageSettings(max_side=320), Privacy((camera,), CLASSES), FakeClock())
    pixels = np.random.default_rng(7).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    at_once = Candidate(Frame("gate", pixels, 5, 1.5, 1_790_000_000_123_456_789, 42), ROWS, "rare", 0.5, None)
    waited = replace(at_once, frame=replace(at_once.frame, image=pixels[:0]), picture=seal.picture(at_once.frame, ROWS))
    assert seal(waited) == seal(at_once)
