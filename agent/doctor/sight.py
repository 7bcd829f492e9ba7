"""What the device sees with: the model, tried on a grey picture, and every camera, asked for one frame."""

from __future__ import annotations

import base64
import binascii
import os
import threading
import time
from pathlib import Path

import numpy as np

from agent.camera import Camera, is_live, open_camera
from agent.clock import Clock
from agent.detector import Detector
from agent.doctor.check import Check
from agent.errors import ConfigError, TailkeeperError
from agent.privacy import Privacy
from agent.records import Frame, Image
from agent.settings import CameraSettings, Settings, shown_source

FIRST_FRAME_S = 10.0
"""How long a camera may take for its first frame, above its own time-out."""
_NVIDIA = (Path("/dev/nvhost-gpu"), Path("/dev/nvidia0"), Path("/dev/nvgpu"))
_DARK = 8.0
_RUNS = 3


def check_model(settings: Settings) -> list[Check]:
    """Whether the model loads, runs, keeps up with the cameras and knows the classes to redact."""
    if not settings.cameras:
        return []
    found = [_trusted_key(key) for key in settings.model.trusted_keys if not _is_key(key)]
    try:
        detector = Detector.from_settings(settings.model)
        Privacy(settings.cameras, detector.classes)
        seconds = _seconds_per_frame(detector)
    except TailkeeperError as error:
        return [*found, Check("model", "fail", error.what, error.remedy)]
    return found + _model_advice(settings, detector, seconds)


def _model_advice(settings: Settings, detector: Detector, seconds: float) -> list[Check]:
    provider = detector.providers[0].removesuffix("ExecutionProvider")
    found = [Check("model", "ok", f"{detector.model_id}, {seconds * 1000:.0f} ms a frame on {provider}")]
    wanted = sum(camera.fps for camera in settings.cameras if is_live(camera.source))
    if seconds * wanted > 1:
        detail = f"{seconds * 1000:.0f} ms a frame, and the cameras ask for {wanted:g} frames a second"
        found.append(Check("model", "warn", detail, "lower cameras.fps, or export the model at a smaller size"))
    if provider == "CPU" and any(device.exists() for device in _NVIDIA):
        remedy = "install the vendor's onnxruntime (deploy/install.sh --jetson) and the jetson drop-in"
        found.append(Check("model", "warn", "there is an NVIDIA GPU, and the model runs on the CPU", remedy))
    return found


def _seconds_per_frame(detector: Detector) -> float:
    """The fastest of a few inferences on a grey picture of the model's own size."""
    width, height = detector.input_size
    image: Image = np.full((height, width, 3), 114, np.uint8)
    times = []
    for _ in range(_RUNS):
        start = time.perf_counter()
        detector.detect(image)
        times.append(time.perf_counter() - start)
    return min(times)


def _is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == 32
    except (binascii.Error, ValueError):
        return False


def _trusted_key(text: str) -> Check:
    detail = f"model.trusted_keys: {text[:16]!r} is no ed25519 public key"
    return Check("model", "fail", detail, "32 bytes in base64, as `tailkeeper model keygen` prints them")


def check_cameras(settings: Settings, clock: Clock) -> list[Check]:
    """One finding per camera, all asked at the same time."""
    opened = [(camera, _open(camera, clock)) for camera in settings.cameras]
    found = [result if isinstance(result, Check) else _look(camera, result) for camera, result in opened]
    for _, result in opened:
        if not isinstance(result, Check):
            result[0].close()
    return found


def _open(settings: CameraSettings, clock: Clock) -> tuple[Camera, threading.Condition] | Check:
    """The camera started, or why it cannot be, or need not."""
    name, source = f"camera {settings.name}", settings.source
    device = f"/dev/video{source}" if source.isdigit() else source
    if device.startswith("/dev/"):
        if not Path(device).exists():
            return Check(name, "fail", f"{device} does not exist", "plug it in; names that stay: ls /dev/v4l/by-id")
        if not os.access(device, os.R_OK | os.W_OK):
            return Check(name, "fail", f"{device} may not be opened", "add the user to the group video")
        holder = _held_by_another(device)
        if holder:
            return Check(name, "ok", f"{device} is in use by process {holder}")
    try:
        ready = threading.Condition()
        looking = settings.model_copy(update={"schedule": ""})
        return open_camera(looking, clock, paced=False, ready=ready), ready
    except TailkeeperError as error:
        return Check(name, "fail", error.what, error.remedy or "correct cameras.source")


def _look(settings: CameraSettings, opened: tuple[Camera, threading.Condition]) -> Check:
    """What the camera's first frame looks like."""
    camera, ready = opened
    name, source = f"camera {settings.name}", shown_source(settings.source)
    frames: list[Frame] = []

    def first() -> bool:
        frames.extend(frame for frame in [camera.take()] if frame is not None)
        return bool(frames) or camera.ended

    with ready:
        ready.wait_for(first, timeout=settings.timeout_s + FIRST_FRAME_S)
    if not frames:
        reason = camera.health().error or "no picture came"
        remedy = "check address, password and cable; a slow camera: raise cameras.timeout_s"
        return Check(name, "fail", f"{source}: {reason}", remedy)
    try:
        image = Privacy([settings.model_copy(update={"redact": ()})], ()).mask(frames[0]).image
    except ConfigError as error:
        return Check(name, "fail", error.what, error.remedy)
    return _judge(name, source, image)


def _judge(name: str, source: str, image: Image) -> Check:
    height, width = image.shape[:2]
    if image.mean() < _DARK:
        return Check(name, "warn", f"{source}: the picture is black", "uncover or light the camera")
    if np.ptp(image) == 0:
        return Check(
            name, "warn", f"{source}: the picture is one colour", "look at what the camera, or its mask, shows"
        )
    return Check(name, "ok", f"{source}, {width} x {height}")


def _held_by_another(device: str) -> int:
    """The process that has the device open, as far as we may see; 0 for none."""
    target = Path(device).resolve()
    for folder in Path("/proc").glob("[0-9]*/fd"):
        process = int(folder.parts[2])
        try:
            if process != os.getpid() and any(link.readlink() == target for link in folder.iterdir()):
                return process
        except OSError:  # another user's process, or one that ended
            continue
    return 0
