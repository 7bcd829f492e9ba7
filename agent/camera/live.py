"""Live cameras: USB, RTSP/HTTP, and CSI cameras through a child that writes JPEGs. Their time is monotonic time."""

from __future__ import annotations

import os
import selectors
import subprocess
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from agent.clock import Clock
from agent.errors import CameraError
from agent.records import Image

_READ_BYTES = 1 << 20
_JPEG_LIMIT = 32 * 1024 * 1024
_START, _END = b"\xff\xd8\xff", b"\xff\xd9"


class Stream:
    """A camera behind OpenCV: a V4L2 device or a network stream."""

    name = ""
    spacing = 0.0

    def __init__(self, open_stream: Callable[[], cv2.VideoCapture], clock: Clock) -> None:
        self._capture = open_stream()
        self._clock = clock
        self.skipped = 0

    def advance(self) -> float | None:
        """After a failure OpenCV's `isOpened` stays true and reads fail at once: the stream must be opened again."""
        if not self._capture.grab():
            raise CameraError("the stream ended or stalled")
        return self._clock.mono_ns() / 1e9

    def image(self) -> Image | None:
        decoded, image = self._capture.retrieve()
        self.skipped += not decoded
        return np.asarray(image, np.uint8) if decoded else None

    def close(self) -> None:
        self._capture.release()


class JpegChild:
    """A child that writes JPEGs one after the other to its standard output, and is killed when it stalls.

    Needs neither picamera2 nor an OpenCV with GStreamer in this environment.
    """

    name = ""
    spacing = 0.0

    def __init__(self, command: Sequence[str], clock: Clock, timeout_s: float) -> None:
        self._program = command[0]
        self._clock = clock
        self._timeout_s = timeout_s
        self._buffer = bytearray()
        self._jpeg = b""
        self.skipped = 0
        try:
            self._child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
            )
        except OSError as error:
            raise CameraError(
                f"{command[0]} cannot be started: {error.strerror}", remedy=f"install the package with {command[0]}"
            ) from None
        assert self._child.stdout is not None
        self._pipe = self._child.stdout
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._pipe, selectors.EVENT_READ)

    def advance(self) -> float | None:
        while not self._cut():
            if not self._selector.select(self._timeout_s):
                raise CameraError(f"{self._program} gives no pictures")
            content = os.read(self._pipe.fileno(), _READ_BYTES)
            if not content:
                raise CameraError(f"{self._program} ended with status {self._child.wait()}")
            self._buffer += content
            if len(self._buffer) > _JPEG_LIMIT:
                raise CameraError(f"{self._program} writes no JPEGs")
        return self._clock.mono_ns() / 1e9

    def _cut(self) -> bool:
        """Move the first whole JPEG out of the buffer. FF D9 cannot occur inside its compressed pixels."""
        start = self._buffer.find(_START)
        end = self._buffer.find(_END, start + len(_START)) if start >= 0 else -1
        if end < 0:
            return False
        self._jpeg = bytes(self._buffer[start : end + len(_END)])
        del self._buffer[: end + len(_END)]
        return True

    def image(self) -> Image | None:
        image = cv2.imdecode(np.frombuffer(self._jpeg, np.uint8), cv2.IMREAD_COLOR)
        self.skipped += image is None
        return None if image is None else np.asarray(image, np.uint8)

    def close(self) -> None:
        self._selector.close()
        self._child.kill()
        self._child.wait()
        self._pipe.close()


def picamera_command(index: int, size: tuple[int, int], fps: float) -> list[str]:
    """``rpicam-vid`` for a Raspberry Pi's CSI camera."""
    width, height = size if all(size) else (1280, 720)
    return [
        "rpicam-vid", "--camera", str(index), "--timeout", "0", "--nopreview", "--codec", "mjpeg", "--quality", "95",
        "--width", str(width), "--height", str(height), "--framerate", f"{fps:g}", "--flush", "--output", "-",
    ]  # fmt: skip


def csi_command(index: int, size: tuple[int, int]) -> list[str]:
    """``gst-launch-1.0`` for a Jetson's CSI camera: capture and JPEG in hardware. Not tested on a Jetson."""
    width, height = size if all(size) else (1920, 1080)
    caps = f"video/x-raw(memory:NVMM),width={width},height={height},framerate=30/1"
    return [
        "gst-launch-1.0", "-q", "nvarguscamerasrc", f"sensor-id={index}", "!", caps,
        "!", "nvvidconv", "!", "video/x-raw(memory:NVMM),format=I420",
        "!", "nvjpegenc", "quality=95", "!", "fdsink", "fd=1",
    ]  # fmt: skip
