"""Drift: what changes is reported, night is no change."""

from __future__ import annotations

import json

import numpy as np

from agent.selection.drift import Drift
from agent.selection.scores import weigh

RANDOM = np.random.default_rng(3)


def watch(drift: Drift, frames: int, *, cls: int = 0, confidence: float = 0.8, light: float = 150.0) -> None:
    """Frames with 0 to 4 objects of one class."""
    for n in RANDOM.integers(0, 5, frames):
        boxes = RANDOM.uniform(0, 40, (n, 2))
        rows = np.hstack([boxes, boxes + 20, np.tile([confidence, cls], (n, 1))]).astype(np.float32)
        evidence = weigh(rows, 100, 100, serve=0.25, odds=2.2, weights=np.ones(3))
        drift.add(evidence, np.full((18, 24, 3), light + RANDOM.normal(), np.float32), 0.25)


def test_a_stable_world_raises_nothing() -> None:
    drift = Drift(3)
    watch(drift, 6000)
    assert drift.canary == 1.0
    assert max(abs(value) for value in drift.measures().values()) < 4


def test_nights_and_days_raise_nothing() -> None:
    drift = Drift(3)
    for _ in range(4):
        watch(drift, 1500, light=150.0, confidence=0.8)
        watch(drift, 1500, light=20.0, confidence=0.3)
        assert drift.canary == 1.0


def test_a_model_that_grows_unsure_is_seen_and_doubles_the_canary_rate_for_a_while() -> None:
    drift = Drift(3)
    watch(drift, 5000)
    watch(drift, 600, confidence=0.3)
    assert drift.measures()["eec"] > 6
    assert drift.canary == 2.0
    watch(drift, 5500, confidence=0.3)
    assert drift.canary == 1.0


def test_new_classes_are_a_drift_and_the_history_survives_a_restart() -> None:
    drift = Drift(3)
    watch(drift, 5000)
    drift = Drift.restore(3, json.loads(json.dumps(drift.state())))
    watch(drift, 200, cls=2)
    assert drift.measures()["classes"] > 6
