"""Filters take the topics that MQTT says they take."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.client import topic_matches_sub

from agent.broker.connection import matches

LEVEL = st.sampled_from(["a", "b", "", "$x"])


@given(
    st.lists(st.one_of(LEVEL, st.just("+")), min_size=1, max_size=4),
    st.booleans(),
    st.lists(LEVEL, min_size=1, max_size=5),
)
def test_a_filter_takes_what_pahos_own_function_says(wanted: list[str], rest: bool, levels: list[str]) -> None:
    topic_filter = "/".join([*wanted, *(["#"] if rest else [])])
    topic = "/".join(levels)

    assert matches(topic_filter, topic) == topic_matches_sub(topic_filter, topic)


@pytest.mark.parametrize(("topic", "taken"), [("tk/v1/gate/up/c", True), ("tk/v1/gate/up/q", False)])
def test_a_shared_filter_takes_what_its_inner_one_takes(topic: str, taken: bool) -> None:
    assert matches("$share/collectors/tk/v1/+/up/c", topic) is taken
