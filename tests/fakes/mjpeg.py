"""A network camera on loopback that misbehaves on demand: HTTP with motion JPEG."""

from __future__ import annotations

import base64
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

import cv2
import numpy as np

Mode = Literal["play", "blink", "freeze", "stall", "close", "garbage", "refuse"]
"""Blink: three pictures per connection."""
PICTURES_PER_S = 25


class MjpegCamera:
    """Serves pictures with noise in them at `url`; `mode` and `size` may be changed at any time."""

    def __init__(self) -> None:
        self.mode: Mode = "play"
        self.size = (96, 128)
        """Height and width."""
        self.login = ""
        """`user:password` that is asked for."""
        self.connections = 0
        self.changed = threading.Event()
        self._rng = np.random.default_rng(0)
        self._port = 0
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/stream.mjpg"

    def start(self) -> None:
        """Listen, on the same port as before if there was one."""
        camera = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                camera.connections += 1
                with suppress(OSError):
                    camera._serve(self)

            def log_message(self, *_: object) -> None:
                """Be quiet."""

        class Server(ThreadingHTTPServer):
            allow_reuse_address = True
            daemon_threads = True

        self.changed = threading.Event()
        self._server = Server(("127.0.0.1", self._port), Answer)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        """Close the port and all connections, as when the power is cut."""
        self.changed.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def _serve(self, answer: BaseHTTPRequestHandler) -> None:
        if self.mode == "refuse":
            answer.send_error(503)
            return
        expected = f"Basic {base64.b64encode(self.login.encode()).decode()}"
        if self.login and answer.headers.get("Authorization") != expected:
            answer.send_response(401)
            answer.send_header("WWW-Authenticate", 'Basic realm="camera"')
            answer.send_header("Content-Length", "0")
            answer.end_headers()
            return
        answer.send_response(200)
        answer.send_header("Content-Type", "multipart/x-mixed-replace; boundary=picture")
        answer.end_headers()
        still, sent = self._picture(), 0
        while not self.changed.wait(1 / PICTURES_PER_S):
            sent += 1
            if self.mode == "close" or (self.mode == "blink" and sent > 3):
                with suppress(OSError):
                    answer.connection.shutdown(socket.SHUT_RDWR)
                return
            if self.mode == "stall":
                continue
            if self.mode == "garbage":
                answer.wfile.write(self._rng.bytes(5000))
                continue
            picture = still if self.mode == "freeze" else self._picture()
            head = f"--picture\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
            answer.wfile.write(head.encode() + picture + b"\r\n")

    def _picture(self) -> bytes:
        image = self._rng.integers(60, 200, (*self.size, 3), dtype=np.uint8)
        return cv2.imencode(".jpg", image)[1].tobytes()


@contextmanager
def a_network_camera() -> Iterator[MjpegCamera]:
    """A network camera that plays."""
    camera = MjpegCamera()
    camera.start()
    try:
        yield camera
    finally:
        camera.stop()
