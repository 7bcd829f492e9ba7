"""Logs: one structured event per state change, as JSON lines for journald or as text for a person; never a secret.

An event is a short constant message; what it is about goes into `extra`:
``log.info("camera live", extra={"camera": "gate"})``.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections import deque
from typing import Any

from agent.clock import rfc3339

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_SECRET_NAME = re.compile(r"password|passwd|secret|token|private|credential", re.IGNORECASE)
_URL_USER = re.compile(r"(?<=://)[^/@\s]*:[^/\s]*@")
_PRIORITY = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
HIDDEN = "***"


def setup_logging(*, json: bool, level: str) -> None:
    """Send the agent's events to standard error, as JSON lines or as text, from `level` (debug, info, ...) on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines() if json else _Text())
    logging.basicConfig(handlers=[handler, _recent], level=logging.WARNING, force=True)
    set_level(level)


def recent_events() -> list[str]:
    """The last events as JSON lines, secrets hidden, oldest first: for diagnoses."""
    return list(_recent.lines)


def set_level(level: str) -> None:
    """Change at run time from which level on the agent's own events are shown."""
    logging.getLogger("agent").setLevel(level.upper())


def hide_secrets(value: Any, name: str = "") -> Any:
    """The value with everything that is named like a secret, and every user and password in a URL, made unreadable."""
    if _SECRET_NAME.search(name) and value:
        return HIDDEN
    if isinstance(value, str):
        return _URL_USER.sub(f"{HIDDEN}@", value)
    if isinstance(value, dict):
        return {str(key): hide_secrets(entry, str(key)) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [hide_secrets(entry) for entry in value]
    return value


class _Lines(logging.Formatter):
    """Base of both forms: what an event holds, secrets hidden, and the priority that journald reads off a line."""

    def __init__(self) -> None:
        super().__init__()
        self._journal = _stderr_is_journal()

    def format(self, record: logging.LogRecord) -> str:
        line = self.line(record)
        return f"<{_PRIORITY.get(record.levelno, 6)}>{line}" if self._journal else line

    def line(self, record: logging.LogRecord) -> str:
        raise NotImplementedError

    def extras(self, record: logging.LogRecord) -> dict[str, Any]:
        extras = {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info:
            extras["traceback"] = self.formatException(record.exc_info)
        return {key: hide_secrets(value, key) for key, value in extras.items()}


class _JsonLines(_Lines):
    def line(self, record: logging.LogRecord) -> str:
        event = {
            "ts": rfc3339(int(record.created * 1e9)),
            "level": record.levelname.lower(),
            "event": hide_secrets(record.getMessage()),
            "from": record.name,
            **self.extras(record),
        }
        return json.dumps(event, default=str, ensure_ascii=False)


class _Text(_Lines):
    def line(self, record: logging.LogRecord) -> str:
        extras = self.extras(record)
        traceback = extras.pop("traceback", "")
        facts = " ".join(f"{key}={value}" for key, value in extras.items())
        text = f"{record.levelname.lower():8}{hide_secrets(record.getMessage())}"
        return "\n".join(part for part in (f"{text}  {facts}".rstrip(), traceback) if part)


def _stderr_is_journal() -> bool:
    """Whether systemd connected standard error to the journal (systemd.exec(5), JOURNAL_STREAM)."""
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class _Recent(logging.Handler):
    """Keeps the last events in memory."""

    def __init__(self, limit: int = 100) -> None:
        super().__init__()
        self.setFormatter(_JsonLines())
        self.lines: deque[str] = deque(maxlen=limit)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


_recent = _Recent()
