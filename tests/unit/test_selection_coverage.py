"""Objects of selected frames count no more: by place, and for a while wherever they move."""

from __future__ import annotations

import numpy as np
import pytest

from agent.selection.coverage import Coverage, Look, Scenery, Scenes, embedded, palette, signature, still_open
from agent.selection.scores import Floats, weigh

HERE, THERE = np.array([1.0, 0.0]), np.array([0.0, 1.0])
RED, BLUE = (palette(np.tile(np.array(colour, np.float32), (18, 24, 1))) for colour in ((20, 60, 200), (200, 60, 20)))
DOG, CAT = 0, 1


def look(
    *objects: tuple[int, float, float], t: float = 0.0, view: Floats = HERE, scene: int = 0, colours: Scenery = RED
) -> Look:
    """Objects as (class, left edge, confidence), 20 x 20 pixels in a frame of 100 x 100."""
    rows = np.array([(x, 10, x + 20, 30, confidence, cls) for cls, x, confidence in objects], np.float32)
    return Look(t, view, colours, scene, weigh(rows.reshape(-1, 6), 100, 100, serve=0.25, odds=2.2, weights=np.ones(2)))


SEEN = look((DOG, 10, 0.4))


@pytest.mark.parametrize(
    ("other", "left"),
    [
        (look((DOG, 10, 0.4), t=1000), 0.0),
        (look((DOG, 12, 0.9), t=1000), 0.0),
        (look((CAT, 10, 0.4), t=1000), 1.0),
        (look((DOG, 10, 0.1), t=1000), 1.0),
        (look((DOG, 60, 0.4), t=1000), 1.0),
        (look((DOG, 10, 0.4), t=1000, view=THERE), 1.0),
        (look((DOG, 60, 0.4), t=2), 0.25),
        (look((DOG, 60, 0.4), t=2, scene=1, colours=BLUE), 1.0),
        (look((DOG, 60, 0.4), t=900, view=THERE, scene=1), 0.0),
        (look((DOG, 60, 0.4), t=900, scene=1), 1.0),
        (look((DOG, 60, 0.4), t=2, view=THERE), 0.25),
    ],
    ids=[
        "same",
        "nearly",
        "name",
        "unserved",
        "place",
        "view",
        "moved",
        "cut",
        "come back",
        "cut away and back",
        "pan",
    ],
)
def test_what_a_selected_frame_leaves_open(other: Look, left: float) -> None:
    memory = Coverage(2)
    memory.add(SEEN)
    assert still_open(other, SEEN) == pytest.approx([left])
    assert memory.still_open(other) == pytest.approx([left])


def test_a_second_object_of_a_kind_is_news() -> None:
    assert still_open(look((DOG, 40, 0.9), (DOG, 70, 0.5), t=2), SEEN) == pytest.approx([0.25, 1.0])


def test_an_object_counts_again_after_its_time_to_live() -> None:
    memory = Coverage(2)
    memory.add(SEEN)
    assert memory.still_open(look((DOG, 10, 0.4), t=7 * 3600.0)) == pytest.approx([1.0])


def test_an_embedding_tells_places_apart_in_place_of_colours() -> None:
    street, same, other = (embedded(np.array([1.0, x, 0.0]), 3) for x in (0.0, 0.2, 0.6))
    assert (street.vector @ same.vector, street.vector @ other.vector) == pytest.approx((0.98, 0.857), abs=1e-3)
    seen = look((DOG, 10, 0.4), colours=street)
    memory = Coverage(2, 3)
    memory.add(seen)
    for colours, left in ((same, 0.0), (other, 1.0), (embedded(np.array([1.0, 0.4, 0.0]), 3), 0.593)):
        again = look((DOG, 60, 0.4), t=900, view=THERE, scene=1, colours=colours)
        assert memory.still_open(again) == pytest.approx([left], abs=1e-3)
        assert still_open(again, seen) == pytest.approx([left], abs=1e-3)


@pytest.mark.parametrize("broken", [None, np.full(3, np.nan), np.array([np.inf, 1, 1]), np.ones(4), np.zeros(3)])
def test_an_embedding_that_is_none_is_like_nothing(broken: Floats | None) -> None:
    assert embedded(broken, 3).vector.tolist() == [0, 0, 0]


def test_thousands_of_selected_frames_are_forgotten_in_turn() -> None:
    memory = Coverage(2)
    for index in range(3000):
        memory.add(look((DOG, index % 80, 0.4), (CAT, index * 7 % 80, 0.4), t=100.0 * index))
    assert memory.still_open(look((DOG, 2999 % 80, 0.4), t=300_000.0)) == pytest.approx([0.0])


def test_a_scene_ends_with_a_cut_and_not_with_a_pan() -> None:
    random = np.random.default_rng(1)
    wide = random.uniform(0, 255, (18, 60, 3)).astype(np.float32)
    smooth = np.apply_along_axis(lambda line: np.convolve(line, np.ones(7) / 7, "same"), 1, wide)
    scenes = Scenes()
    assert [scenes.of(signature(smooth[:, x : x + 24])) for x in range(10)] == [0] * 10
    assert scenes.of(signature(random.uniform(0, 255, (18, 24, 3)))) == 1
