"""OpenCV's VideoCapture, opened so that it says nothing of its own and never waits for long."""

from __future__ import annotations

import os

# FFmpeg inside OpenCV writes to standard error for every broken packet, with whatever is in a URL. Read at first use.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

# FFmpeg would guess the stream's frame rate, which nobody asks for: at five pictures a second that took 4.5 s, now 0.2.
os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_flags;prefer_tcp|fpsprobesize;0")

import cv2

from agent.errors import CameraError

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def open_capture(
    source: str | int, *, timeout_s: float = 0.0, device: bool = False, size: tuple[int, int] = (0, 0), shown: str = ""
) -> cv2.VideoCapture:
    """Open a file, a URL or (`device`) a V4L2 device by path or index; raises CameraError.

    `timeout_s`: for opening a URL and for each read, which OpenCV takes only in the constructor; it would wait 30 s.
    `size`: width and height asked of a device. `shown`: what errors call the source, without a password.
    """
    options: list[int] = []
    if timeout_s:
        timeout_ms = round(timeout_s * 1000)
        options = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, timeout_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, timeout_ms]
    if device and all(size):
        options = [cv2.CAP_PROP_FRAME_WIDTH, size[0], cv2.CAP_PROP_FRAME_HEIGHT, size[1]]
    backend = cv2.CAP_V4L2 if device else cv2.CAP_FFMPEG
    try:
        capture = cv2.VideoCapture(source, backend, options)
        opened = capture.isOpened()
    except cv2.error:
        opened = False
    if not opened:
        raise CameraError(f"{shown or source} cannot be opened", remedy="check that it is there and holds video")
    return capture
