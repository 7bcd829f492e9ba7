"""What an item is worth, and which ones go when room is short."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from agent.records import LANES, Lane
from agent.spool.entry import BLOCK, Entry
from agent.spool.value import Typical, examples_of, is_only_example, rank_of, victims

ENTRIES = st.lists(
    st.builds(
        Entry,
        cid=st.uuids().map(lambda uuid: uuid.hex),
        camera=st.just("gate"),
        ts_ns=st.just(0),
        lane=st.sampled_from(LANES),
        score=st.just(0.0),
        value=st.sampled_from((0.0, 0.1, 0.5, 0.9, 1.0, 2.0)),
        bytes=st.integers(1, 5 * BLOCK),
        state=st.just("ready"),
        classes=st.frozensets(st.sampled_from(("person", "car", "dog", "wheelchair")), max_size=2),
    ),
    max_size=20,
).map(lambda entries: sorted(entries, key=lambda entry: entry.value))
NEWCOMERS = st.tuples(st.booleans(), st.sampled_from((0.0, 0.3, 1.0, 2.0)))


def count(entries: list[Entry]) -> Counter[str]:
    return Counter(name for entry in entries for name in examples_of(entry.classes))


@given(st.sampled_from(LANES), st.lists(st.floats(0, 1e6), max_size=20), st.floats(0, 1e6), st.floats(0, 1e6))
def test_within_a_lane_a_higher_score_is_never_worth_less(
    lane: Lane, seen: list[float], one: float, two: float
) -> None:
    typical = Typical()
    for score in seen:
        typical.learn(lane, score)
    low, high = sorted((one, two))
    assert typical.value(lane, low) <= typical.value(lane, high)
    assert rank_of(lane, low) <= rank_of(lane, high)


def test_a_typical_score_is_worth_a_half_whatever_the_lanes_scale() -> None:
    typical = Typical()
    for _ in range(50):
        typical.learn("rare", 300.0)
        typical.learn("uncertain", 0.02)
    assert abs(typical.value("rare", 300.0) - 0.5) < 1e-9
    assert abs(typical.value("uncertain", 0.02) - 0.5) < 1e-9


def test_the_worth_of_a_canary_does_not_depend_on_the_model() -> None:
    assert Typical().value("canary", 0.0) == Typical().value("canary", 99.0)


@given(ENTRIES, st.integers(-BLOCK, 30 * BLOCK), NEWCOMERS)
def test_victims_free_enough_and_none_is_worth_more_than_the_newcomer(
    entries: list[Entry], need: int, newcomer: tuple[bool, float]
) -> None:
    chosen = victims(entries, count(entries), need, newcomer)
    if chosen is None:
        return
    assert len(chosen) >= 1
    assert sum(entry.blocks for entry in chosen) >= need
    left = list(entries)
    for entry in chosen:
        assert (is_only_example(entry.classes, count(left)), entry.value) <= newcomer
        left.remove(entry)


@given(ENTRIES, st.integers(1, 30 * BLOCK))
def test_an_only_example_goes_only_when_nothing_else_is_left(entries: list[Entry], need: int) -> None:
    left = list(entries)
    for entry in victims(entries, count(entries), need, (True, 2.0)) or []:
        if is_only_example(entry.classes, count(left)):
            assert all(is_only_example(other.classes, count(left)) for other in left)
        left.remove(entry)


@given(ENTRIES)
def test_the_most_privileged_newcomer_is_refused_only_where_there_is_nothing_to_give(entries: list[Entry]) -> None:
    assert (victims(entries, count(entries), 1, (True, 2.0)) is None) == (entries == [])
