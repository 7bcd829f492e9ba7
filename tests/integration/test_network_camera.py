"""A network camera over a real socket, failing in every way that it can: HTTP with motion JPEG, and RTSP."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest

from agent.camera import Cameras, Health, camera, open_cameras
from agent.clock import SystemClock
from agent.records import Frame
from agent.settings import CameraSettings
from tests.fakes import mjpeg
from tests.fakes.mjpeg import MjpegCamera, Mode, NetworkCamera, playing
from tests.fakes.rtsp import RtspCamera

PATIENCE = 400
"""Waits of 50 ms; only a failing test uses them up."""
TRANSPORT_S = 1.5
"""From a picture's sending to its sight, at most: buffers, decoding, and a machine that does other things."""
BACK_S = 5.0


@pytest.fixture(params=[MjpegCamera, RtspCamera], ids=["http", "rtsp"])
def device(request: pytest.FixtureRequest) -> Iterator[NetworkCamera]:
    with playing(request.param()) as device:
        yield device


@pytest.fixture
def cameras(device: NetworkCamera, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cameras]:
    """One network camera, watched by an agent that loses patience sooner than usual."""
    monkeypatch.setattr(camera, "FROZEN_S", 0.5)
    settings = CameraSettings(name="gate", source=device.url, fps=20, timeout_s=0.5)
    cameras = open_cameras([settings], SystemClock())
    yield cameras
    cameras.close()


def watch_until(cameras: Cameras, holds: Callable[[Health, Frame | None], bool]) -> tuple[Health, Frame | None]:
    """Take frames until the camera's health and the frame are as wished."""
    for _ in range(PATIENCE):
        frame = cameras.next(0.05)
        health = cameras.health()["gate"]
        if holds(health, frame):
            return health, frame
    raise AssertionError(f"it never came to that: {health}")


def is_live(health: Health, frame: Frame | None) -> bool:
    return health.state == "live" and frame is not None


@pytest.mark.parametrize("mode", ["stall", "close", "garbage", "freeze"])
def test_a_camera_that_fails_is_reported_and_comes_back(cameras: Cameras, device: NetworkCamera, mode: Mode) -> None:
    watch_until(cameras, is_live)
    device.mode = mode
    lost, _ = watch_until(cameras, lambda health, _: health.state == "stalled")
    assert lost.error
    device.mode = "play"
    back, _ = watch_until(cameras, is_live)
    assert back.reconnects >= 1
    assert back.error == ""


def test_a_camera_whose_power_was_cut_comes_back_on_its_address(cameras: Cameras, device: NetworkCamera) -> None:
    watch_until(cameras, is_live)
    device.stop()
    dead, _ = watch_until(cameras, lambda health, _: health.state == "stalled")
    watch_until(cameras, lambda health, _: (health.frame_age_s or 0) > (dead.frame_age_s or 0) + 0.5)
    device.mode = "refuse"
    device.start()
    watch_until(cameras, lambda _, __: device.connections > 3)
    device.mode = "play"
    watch_until(cameras, is_live)


def test_a_camera_gets_the_password_that_it_asks_for(device: NetworkCamera) -> None:
    device.login = "me:p@ss/word:1"
    source = device.url.replace("//", "//me@")
    settings = CameraSettings(name="gate", source=source, fps=20, password="p@ss/word:1")
    cameras = open_cameras([settings], SystemClock())
    watch_until(cameras, is_live)
    cameras.close()


def test_another_resolution_does_not_disturb(cameras: Cameras, device: NetworkCamera) -> None:
    """Within one connection OpenCV goes on with the first size and scales to it; a new connection has the new size."""
    watch_until(cameras, is_live)
    device.size = (240, 320)
    watch_until(cameras, is_live)
    device.stop()
    device.start()
    _, frame = watch_until(cameras, lambda _, frame: frame is not None and frame.image.shape == (240, 320, 3))
    assert frame is not None


@pytest.mark.parametrize("room", ["wait", "refuse"])
def test_a_camera_with_room_for_one_connection_comes_back(
    cameras: Cameras, device: NetworkCamera, room: Literal["wait", "refuse"]
) -> None:
    """Though it is asked for an answer first, over a connection of its own."""
    watch_until(cameras, is_live)
    device.stop()
    device.room = room
    watch_until(cameras, lambda health, _: health.state == "stalled")
    device.start()
    watch_until(cameras, is_live)


def test_cameras_that_accept_a_connection_and_say_nothing_do_not_delay_another(device: NetworkCamera) -> None:
    with playing(type(device)()) as mute:
        mute.mode = "mute"
        names = [f"mute{i}" for i in range(8)]
        cameras = open_cameras(
            [CameraSettings(name="gate", source=device.url, fps=20)]
            + [CameraSettings(name=name, source=mute.url, fps=20, timeout_s=1.0) for name in names],
            SystemClock(),
        )
        watch_until(cameras, is_live)
        device.stop()
        watch_until(cameras, lambda health, _: health.state == "stalled")
        watch_until(cameras, lambda _, __: mute.connections > 2 * len(names))
        device.start()
        returned = time.monotonic()
        watch_until(cameras, is_live)
        assert time.monotonic() - returned < BACK_S
        cameras.close()


@pytest.mark.parametrize("mode", ["stall", "close", "garbage", "freeze", "refuse"])
def test_a_frame_is_never_called_younger_than_it_is(
    cameras: Cameras, device: NetworkCamera, mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(camera, "FROZEN_S", 2.0)
    watch_until(cameras, is_live)
    device.mode = mode
    if mode == "refuse":
        device.stop()
        device.start()

    def is_old(health: Health, _: Frame | None) -> bool:
        said, real = health.frame_age_s, time.monotonic() - device.newest
        assert said is not None
        assert said > real - TRANSPORT_S
        return said > 3.0

    watch_until(cameras, is_old)
    assert cameras.health()["gate"].state != "live"
    device.mode = "play"
    watch_until(cameras, lambda health, frame: is_live(health, frame) and (health.frame_age_s or 0) < TRANSPORT_S)


@pytest.mark.parametrize("times", [100, pytest.param(500, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])])
def test_reconnecting_leaks_neither_memory_nor_threads_nor_files(
    cameras: Cameras, device: NetworkCamera, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    monkeypatch.setattr(camera, "RETRY_MIN_S", 0.005)
    monkeypatch.setattr(camera, "RETRY_MAX_S", 0.005)
    monkeypatch.setattr(mjpeg, "PICTURES_PER_S", 200)
    device.mode = "blink"
    reconnect_until(cameras, times // 5)
    before = held()
    reconnect_until(cameras, times)
    after = held()
    assert after[0] <= before[0] + 4, "MB"
    assert after[1] <= before[1] + 2, "files, of which the server has some too"
    assert after[2] <= before[2] + 2, "threads, of which the server has some too"


def reconnect_until(cameras: Cameras, times: int) -> None:
    """Let the camera come and go until it has come back so many times."""
    while (done := cameras.health()["gate"].reconnects) < times:
        watch_until(cameras, lambda health, _, done=done: health.reconnects > done)  # type: ignore[misc]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("away_s", [5, 60])
def test_a_camera_that_was_away_is_back_within_seconds(cameras: Cameras, device: NetworkCamera, away_s: float) -> None:
    watch_until(cameras, is_live)
    device.stop()
    watch_until(cameras, lambda health, _: health.state == "stalled")
    end = time.monotonic() + away_s
    while time.monotonic() < end:
        cameras.next(0.5)
    device.start()
    returned = time.monotonic()
    watch_until(cameras, is_live)
    assert time.monotonic() - returned < BACK_S


def held() -> tuple[float, int, int]:
    """Resident MB, open files and threads of this process."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return (
        pages * os.sysconf("SC_PAGE_SIZE") / 1e6,
        len(list(Path("/proc/self/fd").iterdir())),
        threading.active_count(),
    )
