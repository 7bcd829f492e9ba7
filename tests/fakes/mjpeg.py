"""Network cameras on loopback that misbehave on demand: what they have in common, and HTTP with motion JPEG."""

from __future__ import annotations

import base64
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from typing import Literal

import cv2
import numpy as np

from agent.records import Image

Mode = Literal["play", "blink", "freeze", "stall", "close", "garbage", "refuse", "mute"]
"""Blink: three pictures per connection. Mute: connections are accepted, and never a word is said."""
PICTURES_PER_S = 25


class NetworkCamera:
    """Serves pictures with noise in them at `url`; `mode` and `size` may be changed at any time."""

    Answer: type[socketserver.StreamRequestHandler]
    """Serves one connection of `camera`."""
    address: str

    def __init__(self) -> None:
        self.mode: Mode = "play"
        self.size = (96, 128)
        """Height and width."""
        self.login = ""
        """`user:password` that is asked for."""
        self.room: Literal["", "wait", "refuse"] = ""
        """What becomes of a second connection where there is room for one; empty: there is room for all."""
        self._busy = threading.Lock()
        self.connections = 0
        self.newest = time.monotonic()
        """When the last picture was sent that differed from the one before it."""
        self.changed = threading.Event()
        self._rng = np.random.default_rng(0)
        self._still = self.picture()
        self._port = 0
        self._server: socketserver.TCPServer | None = None

    @property
    def url(self) -> str:
        return self.address.format(port=self._port)

    def start(self) -> None:
        """Listen, on the same port as before if there was one."""

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

        self.changed = threading.Event()
        self._server = Server(("127.0.0.1", self._port), type("Answer", (self.Answer,), {"camera": self}))
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        """Close the port and all connections, as when the power is cut."""
        self.changed.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    @contextmanager
    def admitting(self) -> Iterator[bool]:
        """Around one connection: whether it is served, or turned away."""
        self.connections += 1
        if self.mode == "mute":
            self.changed.wait()
        free = not self.room or self._busy.acquire(blocking=self.room == "wait")
        try:
            yield free and self.mode != "refuse"
        finally:
            if self.room and free:
                self._busy.release()

    def is_welcome(self, authorization: str | None) -> bool:
        return not self.login or authorization == f"Basic {base64.b64encode(self.login.encode()).decode()}"

    def stream(self) -> Iterator[tuple[bool, bytes]]:
        """What one connection gets until it is closed: whether it is a picture, and bytes."""
        changed, sent = self.changed, 0
        while not changed.wait(1 / PICTURES_PER_S):
            sent += 1
            if self.mode == "close" or (self.mode == "blink" and sent > 3):
                return
            if self.mode == "garbage":
                yield False, self._rng.bytes(5000)
            elif self.mode == "freeze":
                yield True, self._still
            elif self.mode != "stall":
                self._still = self.picture()
                self.newest = time.monotonic()
                yield True, self._still

    def picture(self) -> bytes:
        return cv2.imencode(".jpg", self.image())[1].tobytes()

    def image(self) -> Image:
        return self._rng.integers(60, 200, (*self.size, 3), dtype=np.uint8)


class _HttpAnswer(BaseHTTPRequestHandler):
    camera: NetworkCamera

    def do_GET(self) -> None:
        with suppress(OSError), self.camera.admitting() as admitted:
            self._serve(admitted)
            self.connection.shutdown(socket.SHUT_RDWR)

    def _serve(self, admitted: bool) -> None:
        if not admitted:
            self.send_error(503)
            return
        if not self.camera.is_welcome(self.headers.get("Authorization")):
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=picture")
        self.end_headers()
        for is_picture, content in self.camera.stream():
            head = f"--picture\r\nContent-Type: image/jpeg\r\nContent-Length: {len(content)}\r\n\r\n"
            self.wfile.write(head.encode() + content + b"\r\n" if is_picture else content)

    def log_message(self, *_: object) -> None:
        """Be quiet."""


class MjpegCamera(NetworkCamera):
    """Over HTTP, as multipart/x-mixed-replace."""

    Answer = _HttpAnswer
    address = "http://127.0.0.1:{port}/stream.mjpg"


@contextmanager
def playing(camera: NetworkCamera) -> Iterator[NetworkCamera]:
    """The camera, listening."""
    camera.start()
    try:
        yield camera
    finally:
        camera.stop()
