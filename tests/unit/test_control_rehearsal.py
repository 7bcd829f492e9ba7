"""A new model is tried where it can hurt nobody, and what is wrong with it is said in one line."""

from __future__ import annotations

import base64
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from agent.bundle import Embedding, Golden
from agent.control import rehearse
from agent.control.rehearsal import compare, try_model
from agent.errors import ModelError
from tests.fakes.bundles import ROWS, a_bundle
from tests.fakes.models import a_model, end2end, with_external_data

JPEG = base64.b64encode(cv2.imencode(".jpg", np.zeros((64, 64, 3), np.uint8))[1].tobytes()).decode()
GOLDEN = Golden(jpeg=JPEG, rows=ROWS)


def rows(*found: tuple[float, ...]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.array(found, np.float32).reshape(-1, 6)


@pytest.fixture
def current(tmp_path: Path) -> Path:
    return a_bundle(tmp_path / "current")


def attempt(new: Path, current: Path) -> None:
    """What the child process does, in this one."""
    try_model({"new": str(new), "current": str(current), "floor": 0.02, "threads": 1, "providers": ["cpu"]})


def test_a_model_that_finds_what_its_golden_frames_hold_passes_in_a_process_of_its_own(
    tmp_path: Path, current: Path
) -> None:
    new = a_bundle(tmp_path / "new", counter=2, golden=[GOLDEN])
    rehearse(floor=0.02, threads=1, providers=["cpu"])(new, current)


def test_a_model_with_an_embedding_passes_and_one_that_only_claims_to_have_it_does_not(
    tmp_path: Path, current: Path
) -> None:
    said = Embedding(name="embedding", length=8)
    model = a_model(end2end(ROWS), embedding=8)
    attempt(a_bundle(tmp_path / "new", golden=[GOLDEN], model=model, embedding=said), current)
    with pytest.raises(ModelError, match="no output 'embedding'"):
        attempt(a_bundle(tmp_path / "other", golden=[GOLDEN], embedding=said), current)


@pytest.mark.parametrize(
    ("model", "complaint"),
    [
        (a_model(end2end([(8, 8, 24, 24, 0.9, 1)])), "golden frame 0: it misses class 0"),
        (a_model(end2end([(8, 8, 24, 24, float("nan"), 1)])), "not a detector's"),
        (
            a_model(end2end([(*(20 * side for side in row[:4]), *row[4:]) for row in ROWS]), size=(1280, 1280)),
            "times as long as the model before",
        ),
        (a_model(end2end(ROWS), names=("boat", "ship", "oar")), "names other classes"),
        (a_model(end2end(ROWS), names=("person",)), "names other classes"),
    ],
    ids=["golden", "nan", "slow", "classes", "fewer classes"],
)
def test_a_model_that_is_wrong_is_refused_for_it(tmp_path: Path, current: Path, model: bytes, complaint: str) -> None:
    with pytest.raises(ModelError, match=complaint):
        attempt(a_bundle(tmp_path / "new", counter=2, golden=[GOLDEN], model=model), current)


def test_a_model_with_external_data_is_refused(tmp_path: Path, current: Path) -> None:
    model = with_external_data(tmp_path).read_bytes()
    with pytest.raises(ModelError, match="weights in other files"):
        attempt(a_bundle(tmp_path / "new", counter=2, model=model), current)


@pytest.mark.parametrize(
    ("program", "complaint"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV: it crashes the runtime"),
        ("import time; time.sleep(60)", "took longer than 1 s"),
        ("import sys; sys.exit(3)", "ended with status 3"),
        ("import sys; sys.exit('out of luck')", "out of luck"),
    ],
)
def test_whatever_happens_to_the_trial_process_the_agent_only_hears_of_it(
    tmp_path: Path, program: str, complaint: str
) -> None:
    child = (sys.executable, "-c", program)
    with pytest.raises(ModelError, match=complaint):
        rehearse(floor=0.02, threads=1, providers=[], timeout_s=1, child=child)(tmp_path, tmp_path)


def test_rows_are_compared_within_the_tolerance() -> None:
    golden = Golden(jpeg="", rows=((10, 10, 20, 20, 0.5, 1),))

    assert compare(golden, rows((11, 9, 20, 21, 0.51, 1)), 0.25) is None
    assert "misses" in str(compare(golden, rows((14, 10, 20, 20, 0.5, 1)), 0.25))
    assert "misses" in str(compare(golden, rows((10, 10, 20, 20, 0.6, 1)), 0.25))
    assert "misses" in str(compare(golden, rows((10, 10, 20, 20, 0.5, 0)), 0.25))
    assert "misses" in str(compare(golden, rows(), 0.25))
    assert "invents" in str(compare(golden, rows((10, 10, 20, 20, 0.5, 1), (1, 1, 9, 9, 0.9, 1)), 0.25))


def test_rows_at_the_edge_of_being_served_may_be_there_or_not() -> None:
    golden = Golden(jpeg="", rows=((10, 10, 20, 20, 0.255, 1),))

    assert compare(golden, rows(), 0.25) is None
    assert compare(golden, rows((10, 10, 20, 20, 0.245, 1), (1, 1, 5, 5, 0.26, 0)), 0.25) is None
