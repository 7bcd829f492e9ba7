"""Whatever the rows are, selection goes on, and no budget is broken."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from agent.records import Candidate, Frame, Rows
from agent.selection import Selector
from agent.selection.canary import uniform
from agent.selection.scores import clean_rows
from agent.selection.window import POOL_BYTES, POOL_FRAMES
from agent.settings import SelectionSettings

NOISE = np.random.default_rng(1).integers(0, 200, (200, 200, 3), np.uint8)
FREE = {"frames_per_day": 0, "bytes_per_day": 0, "labels_per_day": 0}


def frame(index: int, height: int = 36, width: int = 48) -> Frame:
    image = NOISE[index % 60 : index % 60 + height, index % 47 : index % 47 + width].copy()
    image[0, index % width] += 1
    return Frame("gate", image, index, index / 5, index, index)


def selector(classes: int = 80, budget: float = 0.1, window: int = 20) -> Selector:
    return Selector(
        SelectionSettings(budget=budget, window_frames=window, **FREE),
        serve=0.25,
        floor=0.02,
        classes=[f"class {i}" for i in range(classes)],
        counts=[10 ** (i % 5) for i in range(classes)],
        odds=2.2,
        seed=3,
    )


def run(chosen: Selector, stream: list[Rows]) -> list[Candidate]:
    taken = [candidate for index, rows in enumerate(stream) for candidate in step(chosen, index, rows)]
    return taken + chosen.close()


def step(chosen: Selector, index: int, rows: Rows) -> list[Candidate]:
    chosen.consider(frame(index), rows)
    due = chosen.due()
    for candidate in due:
        chosen.charge(candidate, 1000)
    return due


def drawn(taken: list[Candidate]) -> list[int]:
    return [candidate.frame.index for candidate in taken if candidate.lane == "canary"]


wild = st.floats(width=32, allow_nan=True, allow_infinity=True)
any_rows = st.integers(0, 12).flatmap(lambda n: arrays.arrays(np.float32, (n, 6), elements=wild))
good_rows = st.lists(
    st.tuples(
        st.floats(0, 30), st.floats(0, 20), st.floats(1, 18), st.floats(1, 16), st.floats(0.02, 1), st.integers(0, 79)
    ),
    max_size=8,
).map(lambda table: np.array([(x, y, x + w, y + h, c, k) for x, y, w, h, c, k in table], np.float32).reshape(-1, 6))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.one_of(any_rows, good_rows), min_size=20, max_size=80), st.sampled_from([0.02, 0.1, 0.5]))
def test_no_rows_break_selection_or_its_budget(stream: list[Rows], budget: float) -> None:
    chosen, taken = selector(budget=budget), list[Candidate]()
    for index, rows in enumerate(stream):
        taken += (due := step(chosen, index, rows))
        if any(candidate.lane != "canary" for candidate in due):  # all of them count, those drawn by chance as well
            assert len(taken) <= budget * (index + 1) + 1e-6
    taken += (last := chosen.close())
    assert len(taken) <= budget * len(stream) + 1e-6 or not last
    assert drawn(taken) == [i for i in range(len(stream)) if uniform("3|0", i + 1, "canary") < 0.1 * budget]
    assert len({candidate.frame.index for candidate in taken}) == len(taken)
    for candidate in taken:
        assert np.isfinite(candidate.rows).all()
        assert np.isfinite(candidate.score)


@settings(max_examples=25, deadline=None)
@given(st.lists(good_rows, min_size=20, max_size=60), st.randoms(use_true_random=False))
def test_the_order_of_rows_and_rows_given_twice_change_nothing(stream: list[Rows], random: np.random.Generator) -> None:
    shuffled = [np.array(random.sample([*rows, *rows], 2 * len(rows)), np.float32).reshape(-1, 6) for rows in stream]  # type: ignore[attr-defined]
    one, two = run(selector(), stream), run(selector(), shuffled)
    assert [(c.frame.index, c.lane) for c in one] == [(c.frame.index, c.lane) for c in two]


@pytest.mark.parametrize("classes", [1, 80])
def test_300_rows_of_one_or_80_classes_in_every_frame(classes: int) -> None:
    random = np.random.default_rng(5)
    stream = []
    for _ in range(100):
        corner, size = random.uniform(0, 30, (300, 2)), random.uniform(1, 15, (300, 2))
        rest = np.column_stack([random.uniform(0.02, 1, 300), random.integers(0, classes, 300)])
        stream.append(np.hstack([corner, corner + size, rest]).astype(np.float32))
    assert 1 <= len(run(selector(classes), stream)) <= 10


def test_frames_without_any_row_are_left_to_chance() -> None:
    taken = run(selector(), [np.zeros((0, 6), np.float32)] * 200)
    assert {candidate.lane for candidate in taken} <= {"canary"}


def test_rows_of_the_wrong_shape_are_no_rows() -> None:
    assert len(clean_rows(np.ones((3, 5), np.float32), 0.02, 80)) == 0


def test_the_pool_is_bounded_by_count_and_by_bytes() -> None:
    rows = np.array([(1, 1, 20, 20, 0.2, 3)], np.float32)
    many, large = selector(budget=0.01, window=100_000), selector(budget=0.01, window=100_000)
    for index in range(300):
        many.consider(frame(index), rows + np.float32(index % 9))
    assert len(many._camera("gate")._window.entries) == POOL_FRAMES
    picture = np.broadcast_to(np.kron(NOISE, np.ones((15, 10, 1), np.uint8)), (3000, 2000, 3))
    for index in range(12):
        large.consider(Frame("gate", picture, index, index / 5, index, index), rows)
    kept = large._camera("gate")._window.entries
    assert sum(entry.frame.image.nbytes for entry in kept) <= POOL_BYTES
