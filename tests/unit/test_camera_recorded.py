"""Recordings: which of their frames are considered, and what is no recording."""

from __future__ import annotations

import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.camera import open_cameras
from agent.camera.source import Sampler
from agent.clock import SystemClock
from agent.errors import CameraError, ConfigError, TailkeeperError
from agent.records import Frame
from agent.settings import CameraSettings
from tests.fakes.sources import a_picture


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Three seconds at ten frames a second; frame i has the grey value 8 i."""
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for i in range(30):
        writer.write(a_picture(8 * i))
    writer.release()
    return path


def frames_of(source: str | Path, *, paced: bool = False, limit: int = 1000, **settings: object) -> list[Frame]:
    """All considered frames of a recording."""
    options = CameraSettings.model_validate({"name": "gate", "source": str(source), **settings})
    cameras = open_cameras([options], SystemClock(), paced=paced)
    try:
        return [frame for frame, _ in zip(cameras.frames(), range(limit), strict=False)]
    finally:
        cameras.close()


def numbers(frames: list[Frame]) -> list[int]:
    """Which frames of `video` these are."""
    return [round(float(frame.image.mean()) / 8) for frame in frames]


def test_at_fps_0_every_frame_of_a_video_is_considered(video: Path) -> None:
    frames = frames_of(video, fps=0)
    assert numbers(frames) == list(range(30))
    assert [frame.index for frame in frames] == list(range(30))
    assert [frame.t for frame in frames] == pytest.approx([i / 10 for i in range(30)])


@pytest.mark.parametrize(
    ("fps", "expected"), [(5, list(range(0, 30, 2))), (1, [0, 10, 20]), (10, list(range(30))), (400, list(range(30)))]
)
def test_fps_subsamples_a_video_by_media_time(video: Path, fps: float, expected: list[int]) -> None:
    assert numbers(frames_of(video, fps=fps)) == expected


def test_a_paced_video_gives_the_same_frames_in_real_time(video: Path) -> None:
    frames = frames_of(video, fps=5, paced=True, limit=4)
    assert numbers(frames) == numbers(frames_of(video, fps=5, limit=4))
    assert frames[-1].mono_ns - frames[0].mono_ns > 0.55e9, "0.6 s, and never faster than the recording"


def test_a_looped_video_goes_on_in_time(video: Path) -> None:
    frames = frames_of(video, fps=1, loop=True, limit=8)
    assert numbers(frames) == [0, 10, 20, 0, 10, 20, 0, 10]
    assert [frame.t for frame in frames] == pytest.approx(range(8))


def test_a_folder_is_read_by_name_and_spaced_by_fps(tmp_path: Path) -> None:
    for name in ("b.png", "a.jpg", "c.JPG"):
        cv2.imwrite(str(tmp_path / name), a_picture())
    (tmp_path / "notes.txt").write_text("no image")
    frames = frames_of(tmp_path, fps=4)
    assert [(frame.name, frame.t) for frame in frames] == [("a.jpg", 0.0), ("b.png", 0.25), ("c.JPG", 0.5)]


def test_an_unreadable_image_is_skipped_counted_and_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cv2.imwrite(str(tmp_path / "a.jpg"), a_picture())
    (tmp_path / "b.jpg").write_bytes(b"no JPEG at all")
    (tmp_path / "c.jpg").touch()
    cv2.imwrite(str(tmp_path / "d.jpg"), a_picture())
    settings = CameraSettings(name="gate", source=str(tmp_path))
    cameras = open_cameras([settings], SystemClock(), paced=False)
    assert [frame.name for frame in cameras.frames()] == ["a.jpg", "d.jpg"]
    assert cameras.health()["gate"].skipped == 2
    skipped = [record for record in caplog.records if record.message == "image skipped"]
    assert len(skipped) == 2
    cameras.close()


def test_a_single_image_is_a_recording_of_one_frame(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), a_picture())
    assert [frame.name for frame in frames_of(tmp_path / "a.png")] == ["a.png"]


def test_the_rendered_world_is_a_recording_without_an_end() -> None:
    frames = frames_of("world:street?seed=3", fps=2, limit=4)
    assert [frame.t for frame in frames] == pytest.approx([0, 0.5, 1, 1.5], abs=0.1)


def test_what_is_no_recording_is_named_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.mp4").write_text("not a video")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.jpg").write_text("not an image")
    cases: list[tuple[str, type[TailkeeperError], str]] = [
        ("nowhere.mp4", ConfigError, "no video or folder at .*nowhere.mp4; give a file"),
        ("empty", ConfigError, "empty holds no images"),
        ("text.mp4", CameraError, "text.mp4 cannot be opened"),
        ("bad", CameraError, "bad has no picture that can be decoded"),
    ]
    for name, kind, complaint in cases:
        with pytest.raises(kind, match=complaint):
            frames_of(tmp_path / name)
    with pytest.raises(ConfigError, match=r"camera gate: .*no-such-world"):
        frames_of("world:no-such-world")
    with pytest.raises(ConfigError, match="fps = 0 is for recordings"):
        frames_of("rtsp://host/stream", fps=0)


def test_a_failed_start_leaves_no_reader_behind(video: Path) -> None:
    before = threading.active_count()
    good, bad = CameraSettings(name="a", source=str(video)), CameraSettings(name="b", source="nowhere.mp4")
    with pytest.raises(ConfigError):
        open_cameras([good, bad], SystemClock())
    assert threading.active_count() == before


@given(st.floats(0.5, 60), st.lists(st.floats(0.001, 2), max_size=100))
def test_one_frame_is_considered_in_each_span_that_has_any(fps: float, gaps: list[float]) -> None:
    sampler, times = Sampler(fps), np.cumsum(gaps)
    considered = [t for t in times if sampler.considers(t)]
    assert len(considered) == len({int(np.floor(t * fps + 1e-6)) for t in times})
