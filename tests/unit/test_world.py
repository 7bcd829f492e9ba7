"""The rendered street: a pure function of spec and index, lively or still as the spec says, without its truth."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter
from dataclasses import fields

import numpy as np
import pytest

from agent.records import Frame
from agent.world import SpecError, World
from agent.world.classes import FREQUENCY, HEAD, NAMES, TAIL
from agent.world.spec import parse
from agent.world.traffic import PARKED, Track, Traffic
from agent.world.truth import truth

INDICES = (0, 57, 580, 3)
DIGEST = """
import hashlib, sys
from agent.world import World
world = World(sys.argv[1])
for index in sys.argv[2:]:
    print(hashlib.sha256(world.render(int(index)).tobytes()).hexdigest())
"""


def digest(world: World, index: int) -> str:
    return hashlib.sha256(world.render(index).tobytes()).hexdigest()


def arrivals(spec: str, blocks: int) -> list[Track]:
    traffic = Traffic(parse(spec))
    return [track for block in range(blocks) for track in traffic.arrivals(block)]


@pytest.mark.parametrize("spec", ["street?seed=1", "street?seed=9&day=3&start=21&pace=2"])
def test_another_process_renders_the_same_bits_in_another_order(spec: str) -> None:
    there = subprocess.run(
        [sys.executable, "-c", DIGEST, spec, *map(str, INDICES)], capture_output=True, text=True, check=True
    ).stdout.split()
    world = World(spec)
    here = {index: digest(world, index) for index in sorted(INDICES)}
    assert there == [here[index] for index in INDICES]


def test_rendering_a_frame_again_after_others_gives_the_same_bits() -> None:
    world = World("street?seed=4")
    first = world.render(40)
    for index in range(41, 60):
        world.render(index)
    assert np.array_equal(world.render(40), first)


@pytest.mark.parametrize("other", ["street?seed=2", "street?seed=1&day=1", "street?seed=1&start=21"])
def test_another_seed_day_or_hour_is_another_picture(other: str) -> None:
    assert digest(World("street?seed=1"), 30) != digest(World(other), 30)


def test_frames_are_640_x_360_bgr() -> None:
    world = World("street")
    frame = world.render(0)
    assert frame.shape == (360, 640, 3)
    assert frame.dtype == np.uint8
    assert world.size == (640, 360)
    assert World("street?fps=5").fps == 5.0


def test_a_world_has_no_frame_before_its_first() -> None:
    with pytest.raises(ValueError, match="starts at frame 0"):
        World("street").render(-1)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("yard?seed=1", "unknown scene 'yard'.*one scene, 'street'"),
        ("", "unknown scene ''"),
        ("street?sead=1", "unknown key 'sead'.*seed"),
        ("street?seed=one", "seed='one' is not right: a whole number from 0"),
        ("street?seed=", "seed='' is not right"),
        ("street?seed=1.5", "whole number"),
        ("street?fps=0", "fps='0' is not right: a number from 1 to 60"),
        ("street?pace=-1", "pace='-1'"),
        ("street?pace=nan", "pace='nan'"),
        ("street?still=2", "from 0 to 1"),
    ],
)
def test_a_wrong_spec_is_refused_with_what_would_be_right(spec: str, message: str) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        World(spec)
    assert isinstance(caught.value, ValueError)


def test_night_is_darker_than_day_and_dusk_lies_between() -> None:
    noon, dusk, night = (float(World(f"street?seed=1&start={hour}").render(0).mean()) for hour in (12, 18.3, 23))
    assert noon > dusk + 15
    assert dusk > night + 4


def test_by_default_the_first_minute_goes_from_daylight_to_dusk() -> None:
    world = World("street?seed=1")
    assert float(world.render(0).mean()) > float(world.render(590).mean()) + 25


def test_arrivals_follow_a_long_tailed_law() -> None:
    counts = Counter(track.cls for track in arrivals("street?seed=3&day_s=86400&start=9&rare=1", 3000))
    shares = np.array([counts[cls] for cls in range(len(NAMES))]) / sum(counts.values())
    expected = np.array(FREQUENCY)
    vehicles = [cls for cls in range(len(NAMES)) if cls not in (1, 3, 5, 7, 10, 13)]  # lanes have room for some only
    assert np.allclose(shares[vehicles] / shares[0], expected[vehicles] / expected[0], rtol=0.45, atol=0.0008)
    assert min(counts[cls] for cls in HEAD) > 4 * max(counts[cls] for cls in TAIL)
    assert all(counts[cls] for cls in TAIL)


def test_a_quiet_day_has_thousands_of_people_and_a_few_forklifts() -> None:
    counts = Counter(track.cls for track in arrivals("street?seed=5&day_s=86400&start=0&rare=1&pace=0.1", 8640))
    assert counts[NAMES.index("person")] > 1000
    assert 1 <= counts[NAMES.index("forklift")] <= 20


def test_rare_things_are_seen_for_two_to_ten_frames_at_five_a_second() -> None:
    spec = "street?seed=11&fps=5&rare=8&start=9&day_s=86400"
    world, seen = World(spec), Counter[int]()
    rare = [track for track in arrivals(spec, 12) if track.cls in TAIL]
    for track in rare:
        for index in range(int(track.times[0] * 5), int(track.times[-1] * 5) + 2):
            seen[track.instance] += any(thing.instance == track.instance for thing in truth(world, index))
    assert len(rare) >= 10
    assert all(2 <= seen[track.instance] <= 10 for track in rare)


def test_the_default_street_shows_something_rare_every_twenty_seconds_or_so() -> None:
    rare = [track.times[0] for track in arrivals("street?seed=1", 6) if track.cls in TAIL]
    assert len(rare) >= 3
    assert max(np.diff([0.0, *sorted(rare), 60.0])) < 35


def test_a_still_street_has_nothing_but_parked_vehicles_for_minutes() -> None:
    traffic = Traffic(parse("street?seed=6&still=1&day_s=86400"))
    placements = [placement for time in range(0, 300, 7) for placement in traffic.at(float(time))]
    assert all(placement.instance >= PARKED for placement in placements)


def test_stretches_of_stillness_come_and_go() -> None:
    traffic = Traffic(parse("street?seed=6&still=0.6&day_s=86400&start=10"))
    stretches = [sum(len(traffic.arrivals(block)) for block in range(first, first + 4)) for first in range(0, 160, 4)]
    assert 0.35 < np.mean(np.array(stretches) == 0) < 0.85


def test_nothing_is_drawn_twice_under_one_instance_id() -> None:
    ids = [track.instance for track in arrivals("street?seed=8&pace=3", 60)]
    assert len(ids) == len(set(ids))


def test_vehicles_of_one_lane_do_not_drive_through_each_other() -> None:
    tracks = [track for track in arrivals("street?seed=8&pace=4", 30) if NAMES[track.cls] in ("car", "van", "truck")]
    for lane in (True, False):
        starts = sorted(track.times[0] for track in tracks if track.left == lane)
        assert len(starts) > 20
        assert min(np.diff(starts)) >= 2.4


def test_a_frame_carries_no_truth() -> None:
    names = {field.name for field in fields(Frame)}
    assert names == {"camera", "image", "index", "t", "ts_ns", "mono_ns", "name"}
    assert type(World("street").render(0)) is np.ndarray


def test_the_camera_never_loads_the_truth() -> None:
    code = (
        "import sys, agent.camera; from agent.world import World; World('street').render(5);"
        "sys.exit('agent.world.truth' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
