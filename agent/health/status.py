"""What the running service says of itself to somebody on the same machine, through a socket in its state folder.

A socket and no file: nothing is written every few seconds, and a service that does not run cannot look alive.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from agent.errors import ServiceError

log = logging.getLogger(__name__)

SOCKET = "status.sock"
_TIMEOUT_S = 10.0


@contextlib.contextmanager
def answering(folder: Path, status: Callable[[], dict[str, Any]]) -> Iterator[None]:
    """Answer everybody who may open the socket in `folder` with what `status` returns, while inside."""
    path = folder / SOCKET
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        with _short(path) as name:
            listener.bind(name)
        listener.listen()
    except OSError as error:
        log.warning("no status socket", extra={"error": str(error)})
    thread = threading.Thread(target=_serve, args=(listener, status), name="status", daemon=True)
    thread.start()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)  # wakes the thread
        thread.join()
        listener.close()
        path.unlink(missing_ok=True)


def ask(folder: Path) -> dict[str, Any]:
    """What the service with this state folder says now; raises ServiceError where none answers."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel, _short(folder / SOCKET) as name:
            channel.settimeout(_TIMEOUT_S)
            channel.connect(name)
            with channel.makefile("rb") as stream:
                answer: dict[str, Any] = json.load(stream)
                return answer
    except PermissionError:
        raise ServiceError(f"{folder} may not be looked into", remedy="ask as root") from None
    except (OSError, ValueError):
        raise ServiceError("the service does not run", remedy="systemctl status tailkeeper says why") from None


def _serve(listener: socket.socket, status: Callable[[], dict[str, Any]]) -> None:
    while True:
        try:
            channel, _ = listener.accept()
        except OSError:
            return
        with channel, contextlib.suppress(OSError):
            channel.settimeout(_TIMEOUT_S)
            channel.sendall(json.dumps(status(), default=str).encode())


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """A name for the socket that fits into the 108 bytes that a socket's address has."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
