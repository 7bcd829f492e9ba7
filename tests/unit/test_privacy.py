"""Masks and redaction: what must not be seen is gone, or there is no image."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from agent.errors import ConfigError, PrivacyError
from agent.privacy import FILL, MARGIN, Privacy, fill, pixelate
from agent.records import Frame, Image, Rows
from agent.settings import CameraSettings

CLASSES = ("person", "car", "cat")
SQUARE = ((0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75))
shares = st.tuples(st.floats(0, 1), st.floats(0, 1))


def noise(height: int = 60, width: int = 80) -> Image:
    """Pixels of which none has the colour of a mask."""
    return np.random.default_rng(0).integers(120, 256, (height, width, 3), dtype=np.uint8)


def a_frame(camera: str = "gate") -> Frame:
    return Frame(camera, noise(), 0, 0.0, 1, 1)


def rows(*given: tuple[float, ...]) -> Rows:
    return np.array(given, np.float32).reshape(-1, 6)


def a_policy(**settings: object) -> Privacy:
    return Privacy([CameraSettings.model_validate({"name": "gate", "source": "0", **settings})], CLASSES)


def test_masked_pixels_are_filled_and_the_others_untouched() -> None:
    frame = a_frame()
    masked = a_policy(masks=[SQUARE]).mask(frame).image
    assert (masked[15:45, 20:60] == FILL).all()
    changed = (masked != frame.image).any(axis=2)
    assert not changed[:13].any()
    assert not changed[:, :18].any()
    assert not (frame.image == FILL).all(axis=2).any(), "the frame itself is left alone"


@given(st.lists(shares, min_size=3, max_size=8), st.integers(2, 90), st.integers(2, 90))
def test_no_pixel_inside_a_mask_survives(corners: list[tuple[float, float]], height: int, width: int) -> None:
    image = np.full((height, width, 3), 200, np.uint8)
    outline = (np.array(corners) * (width, height)).astype(np.float32)
    assume(cv2.contourArea(outline) > 1)
    masked = fill(image, [corners])
    hull = np.abs(masked.astype(int) - FILL).sum(axis=2) == 0
    for y in range(height):
        for x in range(width):
            if cv2.pointPolygonTest(outline, (x + 0.5, y + 0.5), measureDist=False) > 0:
                assert hull[y, x]


def test_every_mask_of_a_camera_is_applied() -> None:
    corner = ((0.0, 0.0), (0.2, 0.0), (0.0, 0.2))
    masked = a_policy(masks=[SQUARE, corner]).mask(a_frame()).image
    assert masked[0, 0].tolist() == masked[30, 40].tolist() == list(FILL)


def test_a_frame_from_before_a_mask_was_added_is_masked_when_it_is_stored() -> None:
    image, names = a_policy(masks=[SQUARE]).redact(a_frame(), rows())
    assert names == ("mask",)
    assert (image[15:45, 20:60] == FILL).all()


def test_without_a_policy_to_apply_a_frame_stays_as_it_is() -> None:
    frame = a_frame()
    policy = a_policy()
    assert policy.mask(frame) is frame
    assert policy.redact(frame, rows((0, 0, 9, 9, 0.9, 0))) == (frame.image, ())


def test_objects_of_chosen_classes_become_a_few_cells() -> None:
    frame = a_frame()
    found = rows((20, 10, 50, 40, 0.9, 0), (60, 40, 75, 55, 0.9, 1))
    image, names = a_policy(redact=["person", "cat"]).redact(frame, found)
    assert names == ("person",)
    inside = image[10:40, 20:50].reshape(-1, 3)
    assert len(np.unique(inside, axis=0)) <= 36
    assert (image[40:, 60:] == frame.image[40:, 60:]).all(), "the car stays"
    margin = math.ceil(30 * MARGIN) + 1
    assert (image[: 10 - margin] == frame.image[: 10 - margin]).all()
    assert (image[10:40, 20 - margin + 1] != frame.image[10:40, 20 - margin + 1]).any()


def test_rows_below_the_serving_threshold_are_redacted_too() -> None:
    frame = a_frame()
    image, names = a_policy(redact=["person"]).redact(frame, rows((20, 10, 50, 40, 0.021, 0)))
    assert names == ("person",)
    assert (image != frame.image).any()


def test_metadata_says_mask_and_classes() -> None:
    policy = a_policy(redact=["car"], masks=[SQUARE])
    assert policy.redact(a_frame(), rows((1, 1, 9, 9, 0.5, 1)))[1] == ("mask", "car")
    assert policy.redact(a_frame(), rows())[1] == ("mask",)


@given(st.lists(st.tuples(*[st.floats(-50, 200, width=32)] * 4), max_size=5))
def test_boxes_anywhere_are_redacted_without_a_word(boxes: list[tuple[float, float, float, float]]) -> None:
    ordered = [(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in boxes]
    image = noise()
    assert pixelate(image, np.array(ordered, np.float32).reshape(-1, 4)).shape == image.shape


def test_an_unknown_class_to_redact_stops_the_start() -> None:
    with pytest.raises(ConfigError, match=r"camera gate is to redact 'people', .*; the model knows: person, car, cat"):
        a_policy(redact=["people"])


def test_what_cannot_be_hidden_gives_no_image() -> None:
    policy = a_policy(redact=["person"], masks=[SQUARE])
    with pytest.raises(PrivacyError, match="camera shed has no privacy policy"):
        policy.mask(a_frame("shed"))
    with pytest.raises(PrivacyError, match="camera shed"):
        policy.redact(a_frame("shed"), rows())
    with pytest.raises(PrivacyError, match="no finite box"):
        policy.redact(a_frame(), rows((math.nan, 0, 9, 9, 0.9, 0)))
    with pytest.raises(PrivacyError, match="no polygon"):
        fill(noise(), [((0.1, math.nan), (0.2, 0.2), (0.3, 0.1))])
    with pytest.raises(PrivacyError, match="shape"):
        fill(np.zeros((5, 5), np.uint8), [SQUARE])
