"""Network cameras: asked for any answer before OpenCV may open them.

OpenCV opens streams one at a time in the whole process. A camera that accepts a connection and then says nothing keeps
all others from being opened for its whole time-out: beside eight such, a healthy one waited up to 15 s.
"""

from __future__ import annotations

import socket
import ssl
import time
from contextlib import suppress
from urllib.parse import SplitResult, urlsplit, urlunsplit

import cv2

from agent.camera.capture import open_capture
from agent.errors import CameraError

PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}
"""Where FFmpeg looks for a camera whose URL names no port."""


class NetworkStream:
    """Opens the stream at a URL, again and again."""

    def __init__(self, url: str, *, timeout_s: float, shown: str) -> None:
        """`timeout_s`: for an answer, for opening and for each read. `shown`: the URL without its password."""
        self._url, self._timeout_s, self._shown = url, timeout_s, shown
        self._asks = True

    def open(self) -> cv2.VideoCapture:
        """The opened stream; raises CameraError.

        A camera that answered and could not be opened is not asked the next time: one with room for a single
        connection may have turned the second away.
        """
        if self._asks:
            ask(self._url, self._timeout_s, self._shown)
        self._asks = not self._asks
        capture = open_capture(self._url, timeout_s=self._timeout_s, shown=self._shown)
        self._asks = True
        return capture


def ask(url: str, timeout_s: float, shown: str) -> None:
    """Send what FFmpeg would send first, without login, and wait for any answer, be it a refusal or the end.

    Raises CameraError where none comes in time. Other protocols than RTSP and HTTP are not asked.
    """
    parts = urlsplit(url)
    if parts.scheme not in PORTS:
        return
    end = time.monotonic() + timeout_s
    try:
        address = parts.hostname or "", parts.port or PORTS[parts.scheme]
        with socket.create_connection(address, timeout_s) as connection:
            connection.settimeout(max(0.001, end - time.monotonic()))
            with suppress(ConnectionError, ssl.SSLError):
                _hear(connection, parts)
    except TimeoutError:
        raise CameraError(
            f"{shown} gives no answer within {timeout_s:g} s", remedy="restart the camera, or raise cameras.timeout_s"
        ) from None
    except (OSError, ValueError) as error:  # a wrong port's text may hold a piece of a password
        reason = getattr(error, "strerror", None) or "check host and port"
        raise CameraError(f"{shown} cannot be reached: {reason}", remedy="check its power, cable and address") from None


def _hear(connection: socket.socket, parts: SplitResult) -> None:
    """Wait for the answer's first byte; where TLS is spoken, for the end of the handshake with whomever."""
    if parts.scheme in ("https", "rtsps"):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.wrap_socket(connection, server_hostname=parts.hostname).close()
        return
    host = parts.netloc.rpartition("@")[2]
    if parts.scheme == "rtsp":
        request = f"OPTIONS {urlunsplit(parts._replace(netloc=host))} RTSP/1.0\r\nCSeq: 1\r\n\r\n"
    else:
        path = urlunsplit(("", "", parts.path or "/", parts.query, ""))
        request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    connection.sendall(request.encode())
    connection.recv(1)
