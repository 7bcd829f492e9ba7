"""Frames no human should see, and those that only look like it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from agent.records import Image
from agent.selection.gates import Gates, thumbnail

RANDOM = np.random.default_rng(2)
BLOCKS = RANDOM.integers(0, 255, (30, 40, 3), np.uint8)
SCENE: Image = np.asarray(cv2.resize(BLOCKS, (640, 480), interpolation=cv2.INTER_NEAREST), np.uint8)


def judge(gates: Gates, image: Image) -> str | None:
    return gates.judge(image, thumbnail(image))


def noisy(image: Image) -> Image:
    return np.clip(image + RANDOM.normal(0, 3, image.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("image", "gate"),
    [
        (SCENE, None),
        (noisy((SCENE * 0.12).astype(np.uint8)), None),
        (np.zeros_like(SCENE), "black"),
        (np.full_like(SCENE, 253), "blown_out"),
        (cv2.GaussianBlur(SCENE, (0, 0), 12), "blurred"),
        (np.full_like(SCENE, 120), None),
    ],
    ids=["sharp", "night", "lens cap", "glare", "out of focus", "fog"],
)
def test_a_gate_stops_what_it_is_for(image: Image, gate: str | None) -> None:
    assert judge(Gates(), np.asarray(image, np.uint8)) == gate


def test_a_frozen_picture_is_stopped_until_it_moves_again() -> None:
    gates = Gates()
    assert [judge(gates, SCENE) for _ in range(12)] == [None] * 10 + ["frozen"] * 2
    assert judge(gates, noisy(SCENE)) is None
    assert (gates.passed, gates.stopped["frozen"]) == (11, 2)
