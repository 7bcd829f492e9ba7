"""Selection as a whole: what is picked, what it costs, and that nothing breaks it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from agent.errors import FrameError
from agent.records import Candidate, Frame, Image, ImageInfo, Picture, Rows
from agent.selection import Selector
from agent.selection.window import Encode
from agent.settings import RuleSettings, SelectionSettings, Shares

CLASSES = ("person", "car", "toaster")
COUNTS = (260_000, 40_000, 200)
FREE = {"frames_per_day": 0, "bytes_per_day": 0, "labels_per_day": 0}


WIDTH, HEIGHT = 96, 72
PLACES = [
    np.kron(np.random.default_rng(seed).integers(0, 200, (6, 8, 3), np.uint8), np.ones((12, 12, 1), np.uint8))
    for seed in range(200)
]


def frame(index: int, seed: int = 0, camera: str = "gate", image: Image | None = None) -> Frame:
    """A sharp picture; equal seeds show one place, different ones another, and no two frames are bit-equal."""
    if image is None:
        image = PLACES[seed % len(PLACES)].copy()
        image[index % HEIGHT] += np.uint8(1 + index % 40)
    return Frame(camera, image, index, index / 5, index * 200_000_000, index * 200_000_000)


def rows(*table: tuple[float, ...]) -> Rows:
    return np.array(table, np.float32).reshape(-1, 6)


def selector(seed: int = 1, state: Any = None, encode: Encode | None = None, **policy: Any) -> Selector:
    return Selector(
        SelectionSettings(**{**FREE, **policy}),
        serve=0.25,
        floor=0.02,
        classes=CLASSES,
        counts=COUNTS,
        odds=2.2,
        seed=seed,
        state=state,
        encode=encode,
    )


def stored(frame: Frame, rows: Rows) -> Picture:
    """Stands for the seal's."""
    if frame.index % 5 == 0:
        raise FrameError("it cannot be encoded")
    return Picture(f"{frame.index} {len(rows)}".encode(), ImageInfo(w=WIDTH, h=HEIGHT, quality=90), 1.0)


def novel(n: int, start: int = 0) -> Iterator[tuple[Frame, Rows]]:
    """A stream where every frame shows something new and unsure."""
    for index in range(start, start + n):
        x = float(index * 7 % 100)
        yield frame(index, seed=index), rows((x * 0.6, 10, x * 0.6 + 20, 40, 0.1 + index * 13 % 29 / 100, index % 3))


def run(chosen: Selector, stream: Iterator[tuple[Frame, Rows]]) -> list[Candidate]:
    """All candidates of a stream that then ends, charged as if each had been stored."""
    taken = []
    for one, its_rows in stream:
        chosen.consider(one, its_rows)
        taken += charged(chosen, chosen.due())
    return taken + charged(chosen, chosen.close())


def charged(chosen: Selector, candidates: list[Candidate]) -> list[Candidate]:
    for candidate in candidates:
        chosen.charge(candidate, 50_000)
    return candidates


def test_the_budget_is_spent_and_never_exceeded_on_a_stream_of_news() -> None:
    taken = run(selector(budget=0.05), novel(1000))
    assert 47 <= len(taken) <= 50


def test_a_still_scene_sends_next_to_nothing() -> None:
    stream = ((frame(i), rows((10, 10, 40, 40, 0.2, 1))) for i in range(600))
    taken = run(selector(budget=0.05, shares=Shares(uncertain=0.6, rare=0.4)), stream)
    assert len(taken) <= 2


def test_budget_one_keeps_every_frame_even_a_black_one() -> None:
    black = frame(5, image=np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    taken = run(selector(budget=1.0), iter([*novel(5), (black, rows())]))
    assert [c.frame.index for c in taken] == list(range(6))
    assert {(c.lane, c.probability) for c in taken} == {("canary", 1.0)}
    assert "gate black" in taken[-1].reasons


def test_a_gated_frame_is_never_picked_unless_a_command_asks_for_it() -> None:
    chosen = selector(budget=0.9)
    dark = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    stream = [(frame(i, image=dark), rows((10, 10, 40, 40, 0.2, 2))) for i in range(50)]
    assert run(chosen, iter(stream)) == []
    chosen.manual("gate")
    chosen.consider(*stream[0])
    assert [c.lane for c in chosen.due()] == ["manual"]
    assert chosen.report()["gated"]["gate"]["black"] == 51


def test_the_same_frames_and_seed_give_the_same_picks_however_cameras_interleave() -> None:
    def named(camera: str) -> list[tuple[Frame, Rows]]:
        return [(Frame(camera, f.image, f.index, f.t, f.ts_ns, f.mono_ns), r) for f, r in novel(400)]

    a, b = named("a"), named("b")
    one = run(selector(budget=0.1), iter(a + b))
    two = run(selector(budget=0.1), (item for pair in zip(a, b, strict=True) for item in pair))

    def picks(taken: list[Candidate]) -> set[tuple[str, int, str]]:
        return {(c.frame.camera, c.frame.index, c.lane) for c in taken}

    assert picks(one) == picks(two)
    assert picks(one) != picks(run(selector(seed=2, budget=0.1), iter(a + b)))


def test_debt_survives_a_restart() -> None:
    whole = len(run(selector(budget=0.03), novel(900)))
    first = selector(budget=0.03)
    taken = len(run(first, novel(440)))
    state = json.loads(json.dumps(first.state()))
    taken += len(run(selector(budget=0.03, state=state), novel(460, start=440)))
    assert taken <= 27
    assert abs(whole - taken) <= 3


def test_a_daily_limit_paces_the_picks() -> None:
    taken = run(selector(budget=0.5, frames_per_day=500), novel(900))
    assert 15 <= len(taken) <= 20 + 2 + 1


def test_a_frame_that_waits_keeps_its_picture_and_no_pixels() -> None:
    with_pixels, without = run(selector(budget=0.05), novel(300)), run(selector(budget=0.05, encode=stored), novel(300))
    assert [one.frame.index for one in with_pixels] == [one.frame.index for one in without], "the same are picked"
    waited = [one for one in without if one.lane in ("uncertain", "rare")]
    assert {one.picture is None for one in waited} == {one.frame.index % 5 == 0 for one in waited} == {True, False}
    for one in waited:
        if one.picture:
            assert one.picture.jpeg == f"{one.frame.index} {len(one.rows)}".encode()
        assert one.frame.image.size == (0 if one.picture else WIDTH * HEIGHT * 3), "what fails is left to the seal"


def test_no_picture_outlives_what_made_it() -> None:
    rule = RuleSettings(name="now-and-then", every_s=10.0, before=10)
    shares = Shares(uncertain=1.0)
    chosen = selector(budget=0.1, shares=shares, window_frames=100, rules=(rule,), encode=stored)
    for one, its_rows in novel(99):
        chosen.consider(one, its_rows)
    picked = chosen.close()
    chosen.keep_as(stored)
    later = run(chosen, novel(100, start=99))
    assert picked
    assert any(one.lane == "rule" for one in later)
    assert [one.frame.index for one in later if one.picture and one.frame.index < 99] == []
