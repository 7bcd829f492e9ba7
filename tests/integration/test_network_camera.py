"""A network camera over a real socket, failing in every way that it can."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.camera import Cameras, Health, camera, open_cameras
from agent.clock import SystemClock
from agent.records import Frame
from agent.settings import CameraSettings
from tests.fakes import mjpeg
from tests.fakes.mjpeg import MjpegCamera, Mode, a_network_camera

PATIENCE = 400
"""Waits of 50 ms; only a failing test uses them up."""


@pytest.fixture
def device() -> Iterator[MjpegCamera]:
    with a_network_camera() as device:
        yield device


@pytest.fixture
def cameras(device: MjpegCamera, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cameras]:
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
def test_a_camera_that_fails_is_reported_and_comes_back(cameras: Cameras, device: MjpegCamera, mode: Mode) -> None:
    watch_until(cameras, is_live)
    device.mode = mode
    lost, _ = watch_until(cameras, lambda health, _: health.state == "stalled")
    assert lost.error
    device.mode = "play"
    back, _ = watch_until(cameras, is_live)
    assert back.reconnects >= 1
    assert back.error == ""


def test_a_camera_whose_power_was_cut_comes_back_on_its_address(cameras: Cameras, device: MjpegCamera) -> None:
    watch_until(cameras, is_live)
    device.stop()
    dead, _ = watch_until(cameras, lambda health, _: health.state == "stalled")
    watch_until(cameras, lambda health, _: (health.frame_age_s or 0) > (dead.frame_age_s or 0) + 0.5)
    device.mode = "refuse"
    device.start()
    watch_until(cameras, lambda _, __: device.connections > 3)
    device.mode = "play"
    watch_until(cameras, is_live)


def test_a_camera_gets_the_password_that_it_asks_for(device: MjpegCamera) -> None:
    device.login = "me:p@ss/word:1"
    source = device.url.replace("//", "//me@")
    settings = CameraSettings(name="gate", source=source, fps=20, password="p@ss/word:1")
    cameras = open_cameras([settings], SystemClock())
    watch_until(cameras, is_live)
    cameras.close()


def test_another_resolution_does_not_disturb(cameras: Cameras, device: MjpegCamera) -> None:
    """Within one connection OpenCV goes on with the first size and scales to it; a new connection has the new size."""
    watch_until(cameras, is_live)
    device.size = (240, 320)
    watch_until(cameras, is_live)
    device.stop()
    device.start()
    _, frame = watch_until(cameras, lambda _, frame: frame is not None and frame.image.shape == (240, 320, 3))
    assert frame is not None


def test_reconnecting_leaks_neither_memory_nor_threads_nor_files(
    cameras: Cameras, device: MjpegCamera, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(camera, "RETRY_MIN_S", 0.005)
    monkeypatch.setattr(camera, "RETRY_MAX_S", 0.005)
    monkeypatch.setattr(mjpeg, "PICTURES_PER_S", 200)
    device.mode = "blink"
    watch_until(cameras, lambda health, _: health.reconnects >= 20)
    before = held()
    watch_until(cameras, lambda health, _: health.reconnects >= 100)
    after = held()
    assert after[0] <= before[0] + 4, "MB"
    assert after[1] <= before[1] + 2, "files, of which the server has some too"
    assert after[2] <= before[2] + 2, "threads, of which the server has some too"


def held() -> tuple[float, int, int]:
    """Resident MB, open files and threads of this process."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return (
        pages * os.sysconf("SC_PAGE_SIZE") / 1e6,
        len(list(Path("/proc/self/fd").iterdir())),
        threading.active_count(),
    )
