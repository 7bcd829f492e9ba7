"""What counts as another model than one hoped for."""

from __future__ import annotations

import re

import pytest

from agent.models import Pulse, judge

BEFORE = Pulse(frames=1000, infer_s=40, served={"car": 900, "person": 100}, confidence=600)


@pytest.mark.parametrize(
    ("after", "complaint"),
    [
        (Pulse(frames=10, errors=5), "failed on 5 of 15"),
        (Pulse(frames=100, infer_s=9, served={"car": 100}, confidence=60), "takes 90 ms"),
        (Pulse(frames=100, infer_s=4), "0 times as many objects"),
        (Pulse(frames=100, infer_s=4, served={"car": 900}, confidence=500), "9 times as many"),
        (Pulse(frames=100, infer_s=4, served={"car": 100}, confidence=90), r"confidence differs by \+0.30"),
        (Pulse(frames=100, infer_s=4, served={"boat": 100}, confidence=60), "class mix differs by 1.00"),
    ],
    ids=["errors", "slow", "blind", "sees ghosts", "overconfident", "other classes"],
)
def test_a_model_that_behaves_otherwise_is_named_for_it(after: Pulse, complaint: str) -> None:
    reason = judge(BEFORE, after)
    assert reason
    assert re.search(complaint, reason)


@pytest.mark.parametrize(
    "after",
    [
        BEFORE,
        Pulse(frames=10, infer_s=4),
        Pulse(frames=100, infer_s=6, served={"car": 40, "person": 30}, confidence=35),
        Pulse(frames=100, errors=1, infer_s=4, served={"car": 100}, confidence=60),
    ],
    ids=["the same", "too few frames", "another time of day", "one broken frame"],
)
def test_what_a_change_of_scene_does_is_no_drift(after: Pulse) -> None:
    assert judge(BEFORE, after) is None


def test_without_a_baseline_only_failures_speak_against_a_model() -> None:
    assert judge(Pulse(), Pulse(frames=100, infer_s=90, served={"boat": 9000}, confidence=9000)) is None
    assert judge(Pulse(), Pulse(frames=100, errors=100))
