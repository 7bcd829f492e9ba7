"""What a network camera is asked before OpenCV opens it, and what counts as an answer."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from agent.camera.network import ask
from agent.errors import CameraError

LONG_S = 20.0
SHORT_S = 0.05


class Listener:
    """Accepts one connection, hears its first request, and gives `answer`; None keeps silent until it is closed."""

    def __init__(self, answer: bytes | None, address: str = "127.0.0.1") -> None:
        self._answer = answer
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._server = socket.create_server((address, 0), family=family)
        self.port = self._server.getsockname()[1]
        self.heard = b""
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._server.accept()
        with connection:
            self.heard = connection.recv(4096)
            if self._answer is None:
                connection.recv(1)
            else:
                connection.sendall(self._answer)

    def close(self) -> bytes:
        """What was heard."""
        self._thread.join(LONG_S)
        self._server.close()
        return self.heard


@pytest.fixture
def answering(request: pytest.FixtureRequest) -> Iterator[Listener]:
    listener = Listener(request.param)
    yield listener
    listener.close()


@pytest.mark.parametrize("answering", [b"RTSP/1.0 401 Unauthorized\r\n\r\n", b"?", b""], indirect=True)
@pytest.mark.parametrize("scheme", ["rtsp", "rtsps", "http", "https"])
def test_any_answer_is_one_even_the_end(answering: Listener, scheme: str) -> None:
    ask(f"{scheme}://127.0.0.1:{answering.port}/a", LONG_S, "it")


@pytest.mark.parametrize("answering", [None], indirect=True)
@pytest.mark.parametrize("scheme", ["rtsp", "rtsps", "http", "https"])
def test_silence_is_none(answering: Listener, scheme: str) -> None:
    with pytest.raises(CameraError, match="it gives no answer "):
        ask(f"{scheme}://127.0.0.1:{answering.port}/a", SHORT_S, "it")


@pytest.mark.parametrize(
    ("scheme", "first"), [("rtsp", "OPTIONS rtsp://127.0.0.1:{}/a?b=1 RTSP/1.0"), ("http", "GET /a?b=1 HTTP/1.1")]
)
def test_what_is_asked_names_no_login(scheme: str, first: str) -> None:
    listener = Listener(b"?")
    ask(f"{scheme}://me:secret@127.0.0.1:{listener.port}/a?b=1", LONG_S, "it")
    lines = listener.close().decode().split("\r\n")
    assert lines[0] == first.format(listener.port)
    assert lines[-2:] == ["", ""]
    assert "secret" not in "".join(lines)


def test_ipv6_addresses_are_asked() -> None:
    try:
        listener = Listener(b"?", "::1")
    except OSError:
        pytest.skip("this machine has no IPv6")
    ask(f"http://[::1]:{listener.port}", LONG_S, "it")
    assert f"GET / HTTP/1.1\r\nHost: [::1]:{listener.port}\r\n".encode() in listener.close()


@pytest.mark.parametrize("url", ["rtsp://me:pass/word@camera/a", "http://127.0.0.1:99999/a", "rtsp:///a"])
def test_an_address_that_cannot_be_right_is_said_without_its_password(url: str) -> None:
    with pytest.raises(CameraError, match="it cannot be reached") as error:
        ask(url, SHORT_S, "it")
    assert "pass" not in f"{error.value} {error.value.remedy}"


def test_a_port_where_nobody_listens_is_said_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(CameraError, match="refused"):
        ask(f"rtsp://127.0.0.1:{port}/a", LONG_S, "it")


def test_other_protocols_are_left_to_ffmpeg() -> None:
    ask("udp://127.0.0.1:1/a", SHORT_S, "it")
