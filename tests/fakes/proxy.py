"""A link between a client and a broker that can be slow, be cut, and meet an old broker at its other end."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import Literal

Old = Literal["", "refuses", "hangs up"]


class Link:
    """A TCP proxy on loopback. `bytes_per_s` limits what goes to the broker; 0 is as fast as it can.

    `old` makes the broker behind it one that knows MQTT 3.1.1 only: it answers MQTT 5 with "unsupported protocol
    version" in its own format, or simply hangs up.
    """

    def __init__(self, port: int, *, bytes_per_s: int = 0, old: Old = "") -> None:
        self._target = ("127.0.0.1", port)
        self._bytes_per_s = bytes_per_s
        self._old = old
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self.protocols: list[int] = []
        """Protocol level of each CONNECT that came by."""
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, name="link")]

    def __enter__(self) -> Link:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join()
        for end in self._sockets:
            end.close()

    def cut(self) -> None:
        """Break every connection that there is; new ones are let through."""
        for end in list(self._sockets):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self._sockets.append(near)
                self._serve(near)

    def _serve(self, near: socket.socket) -> None:
        self.connections += 1
        near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        first = near.recv(65_536)
        if len(first) < 9:
            near.shutdown(socket.SHUT_RDWR)
            return
        level = first[first.index(b"MQTT") + 4]
        self.protocols.append(level)
        if self._old and level == 5:
            if self._old == "refuses":
                near.sendall(b"\x20\x02\x00\x01")
            near.shutdown(socket.SHUT_RDWR)
            return
        try:
            far = socket.create_connection(self._target)
            self._sockets.append(far)
            far.sendall(first)
        except OSError:
            near.shutdown(socket.SHUT_RDWR)
            return
        for source, sink, limit in ((near, far, self._bytes_per_s), (far, near, 0)):
            thread = threading.Thread(target=_pump, args=(source, sink, limit), name="link pump")
            thread.start()
            self._threads.append(thread)


def _pump(source: socket.socket, sink: socket.socket, bytes_per_s: int) -> None:
    size = max(bytes_per_s // 20, 256) if bytes_per_s else 65_536
    with contextlib.suppress(OSError):
        while piece := source.recv(size):
            sink.sendall(piece)
            if bytes_per_s:
                time.sleep(len(piece) / bytes_per_s)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
