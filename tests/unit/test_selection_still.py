"""A still scene spares the model its work; whatever moves, however small, does not."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from agent.records import Candidate, Frame, Image
from agent.selection import Selector
from agent.selection.still import Still
from agent.settings import SelectionSettings

FPS = 5.0
PLACES = np.random.default_rng(1)
GRAIN = np.random.default_rng(2).standard_normal((1336, 2176, 3), dtype=np.float32)
"""Larger than any view: each picture takes another corner of it, which is cheap and never repeats."""


def a_view(height: int = 480, width: int = 640) -> Image:
    """Something with edges and surfaces, without noise."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(40, 210, (height // 40, width // 40, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def seen(view: Image, noise: float = 3.0) -> Image:
    """A sensor's picture of the view."""
    top, left = PLACES.integers(0, 256, 2)
    grain = GRAIN[top : top + view.shape[0], left : left + view.shape[1]]
    picture: Image = np.clip(view + grain * np.float32(noise), 0, 255).astype(np.uint8)
    return picture


def settled(view: Image, noise: float = 3.0, frames: int = 40) -> tuple[Still, float]:
    """A gate that has learned the view's noise, and the time of the next frame."""
    still = Still()
    for index in range(frames):
        still.holds(seen(view, noise), index / FPS, 1e9)
    return still, frames / FPS


@pytest.mark.parametrize("noise", [0.0, 1.5, 3.0, 6.0])
def test_noise_is_not_movement(noise: float) -> None:
    """In grey levels: 1.5 by day, 6 at night. One block of 4800 may be wrong now and then."""
    view = a_view()
    still, t = settled(view, noise)
    held = [still.holds(seen(view, noise), t + index / FPS, 1e9) for index in range(30)]
    assert held.count(False) <= 2


@pytest.mark.parametrize("compression", [95, 80])
def test_compression_is_not_movement(compression: int) -> None:
    still, view = Still(), a_view()
    held = []
    for index in range(60):
        _, jpeg = cv2.imencode(".jpg", seen(view), [cv2.IMWRITE_JPEG_QUALITY, compression])
        held.append(still.holds(np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR), np.uint8), index / FPS, 1e9))
    assert held[30:].count(False) <= 2


def test_keyframes_are_not_movement() -> None:
    """Codecs bring all noise anew in every so many frames, and repeat it in between."""
    still, view = Still(), a_view()
    held = []
    for key in range(20):
        picture = seen(view, 4.6)
        held += [still.holds(picture, (12 * key + index) / FPS, 1e9) for index in range(12)]
    assert held[60:].count(False) <= 2


def test_a_change_of_the_whole_picture_is_not_taken_for_noise() -> None:
    still, t = settled(a_view())
    dark = (a_view() * 0.5).astype(np.uint8)
    assert not still.holds(seen(dark), t, 1e9)
    assert still.holds(seen(dark), t + 1, 1e9)
    someone = dark.copy()
    someone[240:256, 320:328] += 30
    assert not still.holds(seen(someone), t + 2, 1e9)


@pytest.mark.parametrize(("height", "width"), [(480, 640), (432, 768), (1080, 1920)])
def test_a_person_far_away_is_movement(height: int, width: int) -> None:
    """One fortieth of the picture's height, with little contrast, anywhere."""
    view = a_view(height, width)
    for left in range(10, width - 40, width // 3):
        still, t = settled(view, frames=6)
        tall, wide = height // 40, height // 80
        view_with = view.copy()
        view_with[height // 2 : height // 2 + tall, left : left + wide] += 30
        assert not still.holds(seen(view_with), t, 1e9)


def test_slow_changes_add_up() -> None:
    view = a_view()
    still, t = settled(view)
    brighter = (view.astype(np.float32) + index * 0.2 for index in range(100))
    held = [
        still.holds(seen(np.clip(each, 0, 255).astype(np.uint8)), t + i / FPS, 1e9) for i, each in enumerate(brighter)
    ]
    assert held.count(False) >= 3


def test_the_model_looks_at_least_so_often_and_when_time_goes_back() -> None:
    view, still = a_view(), Still()
    held = [still.holds(view, index / FPS, 2.0) for index in range(50)]
    assert [index for index, each in enumerate(held) if not each] == [0, 10, 20, 30, 40]
    assert not still.holds(view, 1.0, 2.0)


def test_leaves_that_wave_hide_nobody() -> None:
    """A block that always moves costs inferences; it never becomes blind."""
    view, still = a_view(), Still()
    for index in range(200):
        waving = view.copy()
        waving[100:140, 100:140] = np.clip(waving[100:140, 100:140] + 25.0 * (index % 2), 0, 255)
        still.holds(seen(waving), index / FPS, 1e9)
    walking = seen(view)
    walking[100:140, 100:140] = 0
    assert not still.holds(walking, 41.0, 1e9)


# In selection


def considered(frames: int, **policy: object) -> tuple[list[int], list[Candidate]]:
    """Which frames of a still view the model was asked for, and what was picked."""
    fields = {
        "budget": 0.1,
        "window_frames": 50,
        "frames_per_day": 0,
        "bytes_per_day": 0,
        "labels_per_day": 0,
        **policy,
    }
    settings = SelectionSettings.model_validate(fields)
    selector = Selector(settings, serve=0.25, floor=0.02, classes=("a",), counts=(1,), odds=2.2, seed=3)
    image, asked, picked = seen(a_view()), [], []
    for index in range(frames):
        image[0, 0] = index % 3  # a sensor never gives the same pixels twice
        frame = Frame("gate", image, index, index / FPS, index, index)
        if selector.moves(frame) or not selector.pass_over(frame):
            asked.append(index)
            selector.consider(frame, np.array([[5, 5, 50, 50, 0.2, 0]], np.float32))
        picked += selector.due()
        for candidate in picked[-1:]:
            selector.charge(candidate, 1)
    return asked, picked


def test_a_still_scene_spares_nine_of_ten_inferences_and_counts_every_frame() -> None:
    asked, picked = considered(200, shares={"uncertain": 1.0})
    assert asked == list(range(0, 200, 10))
    assert [candidate.frame.index for candidate in picked] == [0], "the window of 50 considered frames has ended"


@pytest.mark.parametrize(
    "policy",
    [
        {"still_s": 0},
        {"rules": [{"name": "timed", "every_s": 5}]},
        {"shares": {"uncertain": 0.5, "temporal": 0.5}},
        {"budget": 1.0},
    ],
)
def test_what_needs_every_frame_gets_every_frame(policy: dict[str, object]) -> None:
    asked, _ = considered(100, **policy)
    assert asked == list(range(100))


def test_canary_draws_are_those_of_a_selection_that_sees_every_frame() -> None:
    shares = {"canary": 1.0}
    gated, everything = (considered(1000, shares=shares, still_s=s)[1] for s in (1e6, 0))
    assert [c.frame.index for c in gated] == [c.frame.index for c in everything]
    assert [c.probability for c in gated] == [c.probability for c in everything]
    assert len(gated) > 50
