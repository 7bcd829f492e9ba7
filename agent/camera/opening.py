"""What a camera's ``source`` means."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from agent.camera.camera import Camera, Stamper
from agent.camera.capture import open_capture
from agent.camera.live import JpegChild, Stream, csi_command, picamera_command
from agent.camera.network import NetworkStream
from agent.camera.recorded import IMAGE_SUFFIXES, Folder, Rendered, VideoFile, check_first, images_in
from agent.camera.source import Looped, Source
from agent.clock import Clock
from agent.errors import ConfigError
from agent.settings import URL, CameraSettings, shown_source

_CSI = re.compile(r"^(picamera|csi):(\d{1,2})$")
_DEVICE = re.compile(r"^(\d{1,3}|/dev/.+)$")


def open_camera(
    settings: CameraSettings,
    clock: Clock,
    *,
    paced: bool = True,
    stamper: Stamper | None = None,
    ready: threading.Condition | None = None,
    rng: random.Random | None = None,
) -> Camera:
    """Start the camera that `settings` describe.

    Recordings are checked here: ConfigError or CameraError name what is missing or unreadable. Live cameras are opened
    by their reader, again and again.
    """
    live, open_source = _sources(settings, clock)
    return Camera(
        settings,
        open_source,
        live=live,
        paced=paced,
        clock=clock,
        stamper=stamper or Stamper(clock),
        ready=ready or threading.Condition(),
        rng=rng or random.Random(),
    )


def is_live(source: str) -> bool:
    """Whether a source is a camera, which never ends, and not a recording."""
    return bool(URL.match(source) or _CSI.match(source) or _DEVICE.match(source))


def _sources(settings: CameraSettings, clock: Clock) -> tuple[bool, Callable[[], Source]]:
    """Whether the source is live, and what opens it."""
    if is_live(settings.source):
        if settings.fps == 0:
            raise ConfigError(
                f"camera {settings.name}: fps = 0 is for recordings", remedy="set the frames per second to consider"
            )
        return True, _live(settings, clock)
    recording = _recording(settings)
    if settings.loop and not settings.source.startswith("world:"):
        return False, lambda: Looped(recording)
    return False, recording


def _live(settings: CameraSettings, clock: Clock) -> Callable[[], Source]:
    source, size = settings.source, (settings.width, settings.height)
    if csi := _CSI.match(source):
        index = int(csi[2])
        command = picamera_command(index, size, settings.fps) if csi[1] == "picamera" else csi_command(index, size)
        return lambda: JpegChild(command, clock, settings.timeout_s + 5)
    if URL.match(source):
        address, shown = _with_password(source, settings.password), shown_source(source)
        network = NetworkStream(address, timeout_s=settings.timeout_s, shown=shown)
        return lambda: Stream(network.open, clock)
    device = partial(open_capture, int(source) if source.isdigit() else source, device=True, size=size, shown=source)
    return lambda: Stream(device, clock)


def _with_password(url: str, password: str) -> str:
    """The URL with the password of the user whom it names."""
    if not password:
        return url
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    name = user.partition(":")[0]
    if not name:
        raise ConfigError(
            f"{shown_source(url)} names no user for its password", remedy=f"write {parts.scheme}://user@{host}"
        )
    return urlunsplit(parts._replace(netloc=f"{name}:{quote(password, safe='')}@{host}"))


def _recording(settings: CameraSettings) -> Callable[[], Source]:
    if settings.source.startswith("world:"):
        from agent.world import World  # an eighth of the time that a start takes, and no camera needs it

        try:
            world = World(settings.source.removeprefix("world:"))
        except ValueError as error:
            raise ConfigError(f"camera {settings.name}: {error}") from None
        return lambda: Rendered(world)
    path = Path(settings.source).expanduser()
    if not path.exists():
        raise ConfigError(
            f"camera {settings.name}: no video or folder at {path}",
            remedy="give a file, a folder of images, a URL, /dev/videoN, picamera:N, csi:N or world:NAME",
        )
    if path.is_dir() or path.suffix.lower() in IMAGE_SUFFIXES:
        paths = images_in(path) if path.is_dir() else [path]
        check_first(Folder(paths, settings.fps), str(path))
        return lambda: Folder(paths, settings.fps)
    check_first(VideoFile(path), str(path))
    return lambda: VideoFile(path)
