"""Cameras and recordings: what is considered, and what happens when a camera fails as cameras do."""

from __future__ import annotations

import logging
import stat
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import cv2
import pytest

from agent.camera import Camera, Cameras, Health, Stamper, camera, open_cameras, opening
from agent.camera.live import JpegChild, csi_command, picamera_command
from agent.camera.source import Source
from agent.clock import SystemClock
from agent.errors import CameraError, ConfigError
from agent.records import Frame
from agent.settings import CameraSettings
from tests.fakes.clock import FakeClock
from tests.fakes.sources import Scripted, a_camera, a_picture

LONG_S = 20.0
"""More than anything takes; only a failing test waits so long."""


@pytest.fixture(autouse=True)
def quick_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera, "RETRY_MIN_S", 0.001)
    monkeypatch.setattr(camera, "RETRY_MAX_S", 0.005)


def next_frame(cameras: Cameras) -> Frame:
    frame = cameras.next(LONG_S)
    assert frame is not None
    return frame


def wait_until(cameras: Cameras, holds: Callable[[Health], bool]) -> Health:
    """Take frames until the health of the first camera is as wished."""
    for _ in range(1000):
        (health, *_) = cameras.health().values()
        if holds(health):
            return health
        cameras.next(0.01)
    raise AssertionError(f"it never came to that: {health}")


# Time stamps


def test_wall_time_strictly_increases_even_when_the_clock_is_set_back() -> None:
    clock = FakeClock()
    stamper = Stamper(clock)
    stamps = [stamper.stamp()[0]]
    for jump in (0.0, -86400.0 * 365, 1.0, 86400.0 * 730):
        clock.jump(jump)
        stamps.append(stamper.stamp()[0])
    assert stamps == sorted(set(stamps))
    assert stamps[-1] == clock.wall_ns(), "forward jumps are followed at once"


def test_stamps_go_on_over_a_restart_unless_a_synchronised_clock_knows_better() -> None:
    clock = FakeClock(wall_ns=10**9)
    clock.is_synced = False
    assert [Stamper(clock, newest_ns=5 * 10**18).stamp()[0] for _ in range(2)] == [5 * 10**18 + 1] * 2
    clock.is_synced = True
    assert Stamper(clock, newest_ns=5 * 10**18).stamp()[0] == 10**9


# Live cameras


def test_a_live_camera_keeps_only_the_newest_frame_and_counts_the_rest() -> None:
    source = Scripted().give(*(a_picture(value) for value in (10, 20, 30)))
    with a_camera(lambda: source, FakeClock()) as gate:
        cameras = Cameras([gate], gate._ready)
        wait_until_dropped = threading.Event()
        while gate.health().dropped < 2:
            wait_until_dropped.wait(0.001)
        assert next_frame(cameras).image.mean() == 30
        assert cameras.next(0.0) is None


def test_a_camera_that_fails_is_opened_again_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    opened: list[Scripted] = []

    def open_source() -> Scripted:
        opened.append(Scripted())
        if len(opened) % 3 == 0:
            raise CameraError("refused")
        return opened[-1].give(a_picture(10 + len(opened)), CameraError("the stream ended"))

    with a_camera(open_source, FakeClock()) as gate:
        cameras = Cameras([gate], gate._ready)
        health = wait_until(cameras, lambda health: health.reconnects >= 10)
    assert health.reconnects >= 10
    assert all(source.closed.is_set() for i, source in enumerate(opened[:-1], 1) if i % 3)
    assert {record.message for record in caplog.records} == {"camera live", "camera lost"}


def test_foreign_errors_are_not_quoted_and_do_not_end_the_camera() -> None:
    sources = iter([Scripted().give(ValueError("rtsp://user:secret@host")), Scripted().give(a_picture())])
    with a_camera(lambda: next(sources), FakeClock()) as gate:
        next_frame(Cameras([gate], gate._ready))
        assert gate.health().error == ""
    with a_camera(lambda: Scripted().give(ValueError("secret")), FakeClock()) as gate:
        health = wait_until(Cameras([gate], gate._ready), lambda health: health.state == "stalled")
        assert health.error == "ValueError"


def test_a_read_that_hangs_for_ever_is_abandoned_and_replaced() -> None:
    clock = FakeClock()
    hung, good = Scripted(), Scripted().give(a_picture())
    sources = iter([hung, good])
    with a_camera(lambda: next(sources), clock) as gate:
        cameras = Cameras([gate], gate._ready)
        assert cameras.next(0.01) is None
        clock.advance(60)
        assert next_frame(cameras).index == 0
        hung.give(a_picture(99))  # the read returns after all
        assert hung.closed.wait(LONG_S), "the abandoned reader closes its source"
        assert cameras.next(0.01) is None, "and its frame is not taken"


def test_an_abandoned_reader_that_returns_does_not_speak_for_the_next_one() -> None:
    clock = FakeClock()
    first, second, good = Scripted(), Scripted(), Scripted().give(a_picture())
    sources = iter([first, second, good])
    with a_camera(lambda: next(sources), clock) as gate:
        cameras = Cameras([gate], gate._ready)
        clock.advance(60)
        assert cameras.next(0.01) is None
        first.give(None)
        gate._hung[0].join(LONG_S)
        clock.advance(60)
        assert next_frame(cameras).index == 0
        second.give(None)


def test_abandoned_readers_are_bounded() -> None:
    clock = FakeClock()
    sources: list[Scripted] = []

    def open_source() -> Source:
        sources.append(Scripted())
        return sources[-1]

    with a_camera(open_source, clock) as gate:
        cameras = Cameras([gate], gate._ready)
        for _ in range(10):
            cameras.next(0.01)
            clock.advance(60)
        assert len(sources) <= camera.HUNG_LIMIT + 1
        assert gate.health().state == "stalled"
        for source in sources:
            source.give(None)


def test_one_hung_camera_takes_nothing_from_the_others() -> None:
    clock, ready = FakeClock(), threading.Condition()
    good = Scripted()
    with (
        a_camera(Scripted, clock, name="hung", ready=ready) as hung,
        a_camera(lambda: good, clock, ready=ready) as gate,
    ):
        cameras = Cameras([hung, gate], ready)
        for value in range(20):
            good.give(a_picture(value))
            assert next_frame(cameras).image.mean() == value
            clock.advance(5)


def test_a_camera_that_repeats_its_picture_is_frozen_and_opened_again() -> None:
    clock = FakeClock()
    opened: list[Scripted] = []

    def open_source() -> Source:
        opened.append(Scripted())
        return opened[-1]

    with a_camera(open_source, clock) as gate:
        cameras = Cameras([gate], gate._ready)
        wait_until(cameras, lambda _: bool(opened))
        opened[0].give(a_picture(50))
        next_frame(cameras)
        opened[0].give(a_picture(50))
        next_frame(cameras)
        assert gate.health().state == "frozen"
        clock.advance(camera.FROZEN_S + 1)
        opened[0].give(a_picture(50))
        assert next_frame(cameras).index == 2
        health = wait_until(cameras, lambda health: health.state == "stalled" and len(opened) == 2)
        assert "same picture" in health.error
        age = health.frame_age_s
        assert age is not None
        assert age > camera.FROZEN_S, "a repeated picture is not fresh"
        opened[1].give(a_picture(51))
        next_frame(cameras)
        assert wait_until(cameras, lambda health: health.state == "live").reconnects == 1


class Undecodable(Scripted):
    """Its pictures come and nobody can read them."""

    def image(self) -> None:
        return None


def test_a_camera_whose_pictures_cannot_be_decoded_is_opened_again() -> None:
    clock, broken, good = FakeClock(), Undecodable(), Scripted().give(a_picture())
    sources = iter([broken, good])
    with a_camera(lambda: next(sources), clock) as gate:
        cameras = Cameras([gate], gate._ready)
        broken.give(a_picture())
        assert cameras.next(0.01) is None
        clock.advance(camera.FROZEN_S + 1)
        broken.give(a_picture())
        assert broken.closed.wait(LONG_S)
        assert wait_until(cameras, lambda health: health.frame_age_s is not None).error == ""


def test_a_black_picture_is_called_dark() -> None:
    source = Scripted().give(a_picture(2))
    with a_camera(lambda: source, FakeClock()) as gate:
        next_frame(Cameras([gate], gate._ready))
        assert gate.health().state == "dark"


def test_a_camera_is_off_outside_its_schedule() -> None:
    clock = FakeClock()
    opened = threading.Event()

    def open_source() -> Source:
        opened.set()
        return Scripted()

    with a_camera(open_source, clock, schedule=_another_hour(clock)) as gate:
        wait_until(Cameras([gate], gate._ready), lambda health: health.state == "off")
    assert not opened.is_set()


def _another_hour(clock: FakeClock) -> str:
    from datetime import datetime, timedelta

    later = datetime.fromtimestamp(clock.wall_ns() / 1e9) + timedelta(hours=2)
    return f"{later:%H}:00-{later:%H}:01"


# Several cameras


def test_cameras_take_turns() -> None:
    clock, ready = FakeClock(), threading.Condition()
    with ExitStack() as stack:
        running: list[Camera] = []
        for name in ("a", "b", "c"):
            source = Scripted().give(*(a_picture(v) for v in range(20, 26)), None)
            running.append(stack.enter_context(a_camera(lambda s=source: s, clock, name=name, live=False, ready=ready)))  # type: ignore[misc]
        cameras = Cameras(running, ready)
        order = [frame.camera for frame in cameras.frames()]
    assert len(order) == 18
    assert all(order.count(name) == 6 for name in "abc")


def test_no_camera_waits_for_more_than_one_frame_of_each_other_one() -> None:
    """One detector, four cameras that all have frames ready: strictly in turns, also after one had none for a while."""
    clock, ready = FakeClock(), threading.Condition()
    sources = {name: Scripted() for name in "abcd"}
    for name in "abc":
        sources[name].give(*(a_picture(v) for v in range(40)))
    with ExitStack() as stack:
        running = [
            stack.enter_context(a_camera(lambda s=source: s, clock, name=name, live=False, ready=ready))  # type: ignore[misc]
            for name, source in sources.items()
        ]
        cameras = Cameras(running, ready)
        for takes, among in ((6, "abc"), (8, "abcd")):
            if "d" in among:
                sources["d"].give(*(a_picture(v) for v in range(40)))
            with ready:
                full = len(among) * camera.AHEAD
                assert ready.wait_for(lambda full=full: sum(len(each._frames) for each in running) == full, LONG_S)  # type: ignore[misc]
            taken = [cameras.next(LONG_S) for _ in range(takes)]
            order = "".join(frame.camera for frame in taken if frame)
            assert sorted(order[: len(among)]) == list(among)
            assert order == order[: len(among)] * (takes // len(among))


def test_frames_of_a_camera_never_get_out_of_order() -> None:
    source = Scripted().give(*(a_picture(v) for v in range(50)), None)
    with a_camera(lambda: source, FakeClock(), live=False) as gate:
        assert [frame.index for frame in Cameras([gate], gate._ready).frames()] == list(range(50))


def test_waiting_ends_on_wake_and_when_the_last_recording_does() -> None:
    source = Scripted()
    with a_camera(lambda: source, FakeClock(), live=False) as gate:
        cameras = Cameras([gate], gate._ready)
        for act in (cameras.wake, lambda: source.give(None)):
            threading.Timer(0.01, act).start()
            assert cameras.next(LONG_S) is None
        assert cameras.ended
        assert gate.health().state == "ended"


def test_closing_ends_the_readers() -> None:
    before = threading.active_count()
    cameras = open_cameras([CameraSettings(name="a", source="world:street")], SystemClock())
    next_frame(cameras)
    cameras.close()
    assert threading.active_count() == before


# Secrets


def test_a_password_goes_into_the_url_quoted_and_nowhere_else(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    assert opening._with_password("rtsp://me@host/a", "p@ss/word") == "rtsp://me:p%40ss%2Fword@host/a"
    assert opening._with_password("rtsp://me:old@host/a", "new") == "rtsp://me:new@host/a"
    with pytest.raises(ConfigError, match="names no user"):
        opening._with_password("rtsp://host/a", "secret")
    settings = CameraSettings(name="gate", source="rtsp://me@127.0.0.1:9/a?key=secret", password="hidden-secret")
    cameras = open_cameras([settings], SystemClock())
    health = wait_until(cameras, lambda health: health.state == "stalled")
    cameras.close()
    said = "".join(map(str, (vars(record) for record in caplog.records)))
    assert health.error
    assert "secret" not in health.error + said + "".join(capfd.readouterr())
    assert "hidden" not in health.error + said + repr(settings)


# Children that write JPEGs


def a_program(folder: Path, body: str) -> list[str]:
    """A program that writes to its standard output what `body` puts into `out`."""
    path = folder / "fake-vid"
    path.write_text(f"#!{sys.executable}\nimport sys, time\nout = sys.stdout.buffer\n{body}\nout.flush()\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return [str(path)]


def test_a_child_gives_its_jpegs_one_by_one_however_they_are_cut(tmp_path: Path) -> None:
    jpegs = [cv2.imencode(".jpg", a_picture(value))[1].tobytes() for value in (40, 80, 120)]
    (tmp_path / "stream").write_bytes(b"noise" + b"".join(jpegs))
    body = f"for byte in open({str(tmp_path / 'stream')!r}, 'rb').read():\n    out.write(bytes([byte])); out.flush()"
    child = JpegChild(a_program(tmp_path, body), SystemClock(), timeout_s=LONG_S)
    values = []
    for _ in jpegs:
        assert child.advance() is not None
        image = child.image()
        assert image is not None
        values.append(round(float(image.mean())))
    assert values == [40, 80, 120]
    with pytest.raises(CameraError, match="ended with status 0"):
        child.advance()
    child.close()


def test_a_child_that_falls_silent_is_given_up_and_killed(tmp_path: Path) -> None:
    child = JpegChild(a_program(tmp_path, "time.sleep(600)"), SystemClock(), timeout_s=0.05)
    with pytest.raises(CameraError, match="gives no pictures"):
        child.advance()
    child.close()
    assert child._child.returncode == -9


def test_a_program_that_is_not_installed_is_named() -> None:
    with pytest.raises(CameraError, match=r"no-such-vid cannot be started: .*; install the package with no-such-vid"):
        JpegChild(["no-such-vid"], SystemClock(), timeout_s=1)


def test_csi_cameras_are_programs_with_the_size_and_rate_that_is_set() -> None:
    command = picamera_command(1, (640, 480), 2.5)
    assert command[0] == "rpicam-vid"
    assert {"640", "480", "2.5", "1"} <= set(command)
    assert "sensor-id=1" in csi_command(1, (0, 0))
