"""The exact truth: boxes, classes, instances and visibility agree with the pixels."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from agent.world import World
from agent.world.classes import NAMES
from agent.world.light import light_at
from agent.world.stage import Placement, Stage
from agent.world.truth import Thing, things, truth

NOON = light_at(5, 0, 12.5)


@pytest.fixture(scope="module")
def stage() -> Stage:
    return Stage(5)


def alone(cls: int, *, x: float = 300.0, row: float = 270.0, left: bool = False, instance: int = 1) -> Placement:
    return Placement(cls, instance, 900 + cls, x, row, left, 2)


def changed(stage: Stage, placements: list[Placement], shake: tuple[int, int] = (0, 0)) -> NDArray[np.bool_]:
    """Pixels that differ from the empty street."""
    full, empty = stage.render(placements, NOON, shake, 3), stage.render([], NOON, shake, 3)
    return np.asarray((full != empty).any(axis=2))


@pytest.mark.parametrize("left", [False, True], ids=["right", "left"])
@pytest.mark.parametrize("cls", range(len(NAMES)), ids=NAMES)
def test_a_thing_changes_pixels_within_its_box_and_shadow_only(stage: Stage, cls: int, left: bool) -> None:
    placement = alone(cls, left=left)
    (thing,) = things(stage, [placement], (0, 0))
    x1, y1, x2, y2 = (int(value) for value in thing.box)
    pixels = changed(stage, [placement])
    height = y2 - y1
    inside = pixels[y1:y2, x1:x2]
    assert inside.mean() > 0.25
    assert inside[0].any()
    assert inside[:, 0].any()
    assert inside[:, -1].any()
    pixels[y1 - 2 : y2 + 2, x1 - 2 : x2 + 2] = False
    pixels[y2 - int(0.4 * height) - 8 : y2 + 10, max(0, x1 - height) : x2 + height] = False
    assert not pixels.any()


@pytest.mark.parametrize("cls", range(len(NAMES)), ids=NAMES)
def test_the_box_is_as_tight_as_the_drawing(stage: Stage, cls: int) -> None:
    placement = alone(cls)
    (thing,) = things(stage, [placement], (0, 0))
    cut = stage.cut(placement)
    rows, columns = np.nonzero(cut.image[:, :, 3] >= 100)
    left, top = cut.x - 6, cut.y - 6
    assert thing.box == (left + columns.min(), top + rows.min(), left + columns.max() + 1, top + rows.max() + 1)
    assert (thing.cls, thing.instance, thing.visibility) == (cls, 1, 1.0)


def test_the_box_follows_the_shaking_camera(stage: Stage) -> None:
    (still,), (shaken,) = (things(stage, [alone(1)], shake) for shake in ((0, 0), (3, -2)))
    assert np.allclose(np.subtract(shaken.box, still.box), (-3, 2, -3, 2))
    x1, y1, x2, y2 = (int(value) for value in shaken.box)
    assert changed(stage, [alone(1)], (3, -2))[y1:y2, x1:x2].mean() > 0.5


def test_what_stands_in_front_hides_what_is_behind(stage: Stage) -> None:
    person, bus = alone(0, row=230.0, instance=1), alone(7, row=285.0, instance=2)
    found = {thing.instance: thing for thing in things(stage, [person, bus], (0, 0))}
    assert found[1].visibility < 0.1
    assert found[2].visibility == 1.0
    assert found[1].box == things(stage, [person], (0, 0))[0].box


def test_a_thing_at_the_edge_has_its_box_clipped_and_loses_visibility(stage: Stage) -> None:
    (thing,) = things(stage, [alone(1, x=5.0)], (0, 0))
    assert thing.box[0] == 0.0
    assert 0.3 < thing.visibility < 0.7
    assert things(stage, [alone(1, x=-400.0)], (0, 0)) == []


def test_furniture_hides_but_is_no_object(stage: Stage) -> None:
    assert stage.props()
    assert things(stage, stage.props(), (0, 0)) == []


def test_truth_of_a_street_is_well_formed_and_instances_move_without_jumps() -> None:
    world, before = World("street?seed=12"), dict[int, Thing]()
    for index in range(0, 60, 2):
        found = truth(world, index)
        assert len({thing.instance for thing in found}) == len(found)
        for thing in found:
            x1, y1, x2, y2 = thing.box
            assert 0 <= x1 < x2 <= 640
            assert 0 <= y1 < y2 <= 360
            assert 0.0 <= thing.visibility <= 1.0
            earlier = before.get(thing.instance)
            if earlier is not None:
                assert earlier.cls == thing.cls
                assert abs(earlier.box[3] - thing.box[3]) < 60
        before = {thing.instance: thing for thing in found}
    assert before


def test_truth_takes_a_spec_as_well_as_a_world() -> None:
    assert truth("street?seed=12", 10) == truth(World("street?seed=12"), 10)
