"""Loop 1, frame by frame: what it keeps, what it counts, what may be posted to it."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from agent.camera import Cameras, open_cameras
from agent.clock import SystemClock
from agent.detector import Detector, Seen
from agent.errors import ConfigError, FrameError, ModelError, RetryError, SpoolFullError
from agent.health import Health
from agent.records import Candidate, Image, Item, Rows, Vector
from agent.selection import Selector
from agent.service import make_parts
from agent.settings import CameraSettings, DeviceSettings, ModelSettings, SelectionSettings, Settings
from agent.watch import Parts, Watch
from tests.fakes.clock import FakeClock
from tests.fakes.models import a_model, end2end

FRAMES = 12


class Bench:
    """A watch over a folder of pictures, with everything real but the spool."""

    def __init__(self, folder: Path, **selection: object) -> None:
        pictures = folder / "pictures"
        pictures.mkdir()
        rng = np.random.default_rng(4)
        for i in range(FRAMES):
            cv2.imwrite(str(pictures / f"{i:02}.png"), rng.integers(50, 200, (48, 64, 3), dtype=np.uint8))
        (folder / "m.onnx").write_bytes(a_model(end2end([[5, 5, 20, 20, 0.4, 0]])))
        self.clock = SystemClock()
        self.settings = Settings(
            device=DeviceSettings(id="pole-1"),
            cameras=(CameraSettings(name="gate", source=str(pictures), fps=0),),
            model=ModelSettings(path=folder / "m.onnx"),
            selection=SelectionSettings.model_validate(
                {"budget": 1.0, "shares": {"canary": 1.0}, "frames_per_day": 0, "bytes_per_day": 0,
                 "labels_per_day": 0, "seed": 1, **selection}
            ),
        )  # fmt: skip
        self.health = Health(self.clock, folder)
        self.cameras: Cameras = open_cameras(self.settings.cameras, self.clock)
        self.kept: list[tuple[Candidate, Item]] = []
        self.state_file = folder / "selection.json"
        self.watch = Watch(
            self.cameras,
            self.parts(),
            keep=lambda candidate, item: self.kept.append((candidate, item)),
            health=self.health,
            clock=self.clock,
            state_file=self.state_file,
            newest_stamp=lambda: 42,
        )

    def parts(self) -> Parts:
        return make_parts(self.settings, Detector.from_settings(self.settings.model), self.clock)

    def run_to_the_end(self) -> None:
        while not self.watch.ended.is_set():
            self.watch.step(0.2)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.cameras.close()


def test_every_picked_frame_is_kept_and_charged(bench: Bench) -> None:
    bench.run_to_the_end()
    assert [candidate.frame.index for candidate, _ in bench.kept] == list(range(FRAMES))
    assert bench.health.counters["frames"] == bench.health.counters["candidates"] == FRAMES
    assert bench.watch.parts.selector.report()["budget"]["canary"]["spent"] == FRAMES
    assert bench.watch.newest.keys() == {"gate"}


def test_budgets_and_the_newest_stamp_are_on_the_disk_after_every_candidate(bench: Bench) -> None:
    bench.run_to_the_end()
    kept = json.loads(bench.state_file.read_text())
    assert kept["stamp_ns"] == 42
    state = {key: kept[key] for key in kept if key not in ("v", "stamp_ns")}
    assert state == json.loads(json.dumps(bench.watch.parts.selector.state()))


def test_what_the_spool_refuses_is_counted_and_not_charged(bench: Bench) -> None:
    def refuse(_candidate: Candidate, _item: Item) -> None:
        raise SpoolFullError("the disk is full")

    bench.watch._keep = refuse
    bench.run_to_the_end()
    assert bench.health.counters["candidates_refused"] == FRAMES
    assert bench.watch.parts.selector.report()["budget"]["canary"]["spent"] == 0


@pytest.mark.parametrize("error", [FrameError("no picture"), ModelError("it fails")])
def test_a_frame_that_cannot_be_used_costs_that_frame_only(bench: Bench, error: Exception) -> None:
    look = bench.watch.parts.detector.look
    calls = iter(range(FRAMES))

    def fails_twice(image: Image) -> tuple[Rows, Vector | None]:
        if next(calls) in (3, 4):
            raise error
        return look(image)

    bench.watch.parts.detector.look = fails_twice  # type: ignore[method-assign]
    bench.run_to_the_end()
    assert bench.health.counters["frames_refused"] == 2
    assert len(bench.kept) == FRAMES - 2
    assert bench.watch.model_pulse().errors == 2


def test_a_models_embedding_goes_with_its_rows_to_selection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path)
    facts = {"embedding": "embedding"}
    (tmp_path / "m.onnx").write_bytes(a_model(end2end([[5, 5, 20, 20, 0.4, 0]]), embedding=3, metadata=facts))
    bench.watch.parts = bench.parts()
    looks: list[Vector | None] = []
    monkeypatch.setattr(Selector, "consider", lambda _, frame, rows, embedding: looks.append(embedding))
    with contextlib.closing(bench.cameras):
        bench.run_to_the_end()
    assert [len(look) for look in looks if look is not None] == [3] * FRAMES


def test_a_paused_watch_looks_at_nothing(bench: Bench) -> None:
    bench.watch.paused = True
    for _ in range(5):
        bench.watch.step(5.0)
    bench.watch.paused = False
    bench.run_to_the_end()
    assert [candidate.frame.index for candidate, _ in bench.kept] == list(range(5, FRAMES))


def test_a_capture_is_a_frame_that_was_taken_after_it_was_asked_for(bench: Bench) -> None:
    answers: list[list[str]] = []
    bench.watch.step(5.0)
    asked = bench.clock.mono_ns()
    asking = threading.Thread(target=lambda: answers.append(bench.watch.capture(["gate"], "c7")))
    asking.start()
    while asking.is_alive():
        bench.watch.step(0.1)
    (cids,) = answers
    candidate, item = next((c, i) for c, i in bench.kept if i.cid in cids)
    assert (candidate.lane, candidate.reasons[0]) == ("manual", "command c7")
    assert candidate.frame.mono_ns > asked
    assert item.meta.lane == "manual"


def test_a_capture_without_a_frame_says_so(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.watch.POSTED_S", 0.3)
    bench.run_to_the_end()
    failed: list[Exception] = []

    def ask() -> None:
        try:
            bench.watch.capture(["gate"], "late")
        except RetryError as error:
            failed.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    while asking.is_alive():
        bench.watch.step(0.05)
    assert "no frame within" in str(failed[0])
    bench.watch.step(0.05)
    assert bench.watch._captures == []


def exchange(bench: Bench, make: object) -> list[Exception]:
    """Ask for other parts from another thread, as control does; what it raised there."""
    raised: list[Exception] = []

    def ask() -> None:
        try:
            bench.watch.exchange(make)  # type: ignore[arg-type]
        except ConfigError as error:
            raised.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    while asking.is_alive():
        bench.watch.step(0.05)
    return raised


def test_other_parts_come_between_two_frames_and_none_is_lost(bench: Bench) -> None:
    bench.watch.step(5.0)
    new = bench.parts()
    assert exchange(bench, lambda _: new) == []
    bench.run_to_the_end()
    assert bench.watch.parts is new
    assert bench.health.counters["frames"] == FRAMES


def test_parts_that_cannot_be_made_leave_the_old_ones(bench: Bench) -> None:
    def impossible(_: Parts) -> Parts:
        raise ConfigError("no such class")

    before = bench.watch.parts
    (error,) = exchange(bench, impossible)
    assert str(error) == "no such class"
    assert bench.watch.parts is before


def test_open_windows_are_closed_before_parts_change(tmp_path: Path) -> None:
    bench = Bench(tmp_path, budget=0.5, shares={"uncertain": 1.0}, window_frames=1000)
    try:
        for _ in range(FRAMES - 2):
            bench.watch.step(5.0)
        assert bench.kept == []
        exchange(bench, replace)
        assert {candidate.lane for candidate, _ in bench.kept} == {"uncertain"}
    finally:
        bench.cameras.close()


def test_a_still_scene_is_counted_and_alive_without_inference(tmp_path: Path) -> None:
    bench = Bench(tmp_path, budget=0.5, shares={"uncertain": 1.0}, still_s=5.0)
    picture = tmp_path / "pictures" / "00.png"
    for path in (tmp_path / "pictures").iterdir():
        path.write_bytes(picture.read_bytes())
    bench.cameras.close()
    bench.cameras = open_cameras(bench.settings.cameras, bench.clock)
    bench.watch = Watch(
        bench.cameras,
        bench.parts(),
        keep=lambda *_: None,
        health=bench.health,
        clock=bench.clock,
        newest_stamp=lambda: 1,
    )
    bench.run_to_the_end()
    bench.cameras.close()
    counters = bench.health.counters
    assert (counters["frames"], counters["frames_still"]) == (FRAMES, FRAMES - 3), (
        "at 0, 5 and 10 seconds the model looks"
    )
    assert bench.watch.model_pulse().frames == 3
    assert list(bench.watch.newest) == ["gate"]


def test_a_restrained_device_rests_in_proportion_and_wakes_for_what_is_posted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock()
    seen: Future[Seen] = Future()
    seen.set_result(Seen(np.empty((0, 6), np.float32), None, seconds=1.0))
    monkeypatch.setattr(bench.watch, "_clock", clock)
    monkeypatch.setattr(bench.watch, "_share", lambda: 0.25)
    monkeypatch.setattr(bench.watch._wanted, "wait", clock.advance)
    monkeypatch.setattr(bench.watch.parts.detector, "concurrency", 2)
    monkeypatch.setattr(bench.watch.parts.detector, "begin", lambda _: seen)
    begun = clock.mono_ns()
    bench.run_to_the_end()
    rested = (clock.mono_ns() - begun) / 1e9
    assert rested == pytest.approx((FRAMES - 1) / (0.25 * 2)), "two at once, a second each, a quarter of the time"
    bench.watch.post(lambda: None)
    assert bench.watch._wanted.is_set()


class Slow:
    """Stands for a detector's `begin`: answers when told."""

    def __init__(self) -> None:
        self.asked: list[Future[Seen]] = []

    def __call__(self, _: Image) -> Future[Seen]:
        self.asked.append(Future())
        return self.asked[-1]

    def answer(self, *numbers: int) -> None:
        for number in numbers:
            self.asked[number].set_result(Seen(np.empty((0, 6), np.float32), None, seconds=0.01))


@pytest.fixture
def slow(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Slow:
    made = Slow()
    monkeypatch.setattr(bench.watch.parts.detector, "begin", made)
    monkeypatch.setattr(bench.watch.parts.detector, "concurrency", 3)
    for _ in range(3):
        bench.watch.step(5.0)
    return made


def test_frames_are_judged_in_their_order_whichever_the_model_is_done_with_first(bench: Bench, slow: Slow) -> None:
    assert (len(slow.asked), bench.health.counters["frames"]) == (3, 0), "while there is room nothing is waited for"
    slow.answer(2, 1, 0)
    bench.watch.flush()
    assert [candidate.frame.index for candidate, _ in bench.kept] == [0, 1, 2]


def test_what_is_posted_comes_after_the_frames_that_are_under_way(bench: Bench, slow: Slow) -> None:
    counted = bench.watch.post(lambda: bench.health.counters["frames"])
    slow.answer(0, 1, 2)
    bench.watch.step(0.0)
    assert counted.result(5) == 3


def test_an_answer_ends_the_wait_for_the_next_frame(bench: Bench, slow: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    woken: list[int] = []
    monkeypatch.setattr(bench.cameras, "wake", lambda: woken.append(bench.health.counters["frames"]))
    slow.answer(1, 0, 2)
    assert woken == [0, 0, 0]


def test_a_frame_that_fails_in_the_model_leaves_the_others_their_turn(bench: Bench, slow: Slow) -> None:
    slow.asked[1].set_exception(ModelError("it fails"))
    slow.answer(0, 2)
    bench.watch.flush()
    assert [candidate.frame.index for candidate, _ in bench.kept] == [0, 2]
    assert bench.health.counters["frames_refused"] == 1
