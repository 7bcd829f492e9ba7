"""Makes a device the fleet's own: id, broker, certificates, passwords and cameras into the config file, in one command.

Safe to run again: only what is given changes, comments stay, and nothing is written unless the whole is valid. Secrets
never go into the config file but into ``agent.credentials`` beside it, which only root can read and from where systemd
hands them to the service.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agent.durable import make_folder, write
from agent.errors import ConfigError
from agent.settings import load

SAMPLE = Path(sys.prefix) / "share" / "tailkeeper" / "agent.toml"
"""Where deploy/install.sh and the package put the sample configuration."""
UNIT = Path("/etc/systemd/system/tailkeeper.service.d")
_HEADER = re.compile(r"^\[+ *([A-Za-z_]+) *\]+")


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a device shall be; None, or nothing, leaves what is there."""

    device_id: str | None = None
    broker: str | None = None
    """``host`` or ``host:port``."""
    tls: bool | None = None
    username: str | None = None
    ca: Path | None = None
    cert: Path | None = None
    secrets: Mapping[str, Path] = field(default_factory=dict)
    """Name of a credential (``broker_password``, ``client_key``, ``camera_<name>_password``) to the file with it."""
    model: Path | None = None
    """Bundle folder or ONNX file."""
    cameras: Mapping[str, str] = field(default_factory=dict)
    """Name to source."""


def provision(config: Path, wishes: Wishes, *, sample: Path, unit: Path) -> list[Path]:
    """Fulfil the wishes; returns the files that changed.

    A config file that is not there is made from `sample`. `unit` is the service's drop-in folder, where the credentials
    of cameras are named. Raises ConfigError when the result would not be a valid configuration.
    """
    plan = {path: (content, mode) for path, content, mode in _certificates(config, wishes)}
    text = _edited(_current(config, sample, wishes), config, wishes)
    _validate(text, config, plan)
    plan[config] = (text.encode(), 0o644)
    names = sorted(path.name for path in plan if path.parent == _credentials(config)) + _known(config)
    cameras = [name for name in dict.fromkeys(names) if name.startswith("camera_")]
    if cameras:
        plan[unit / "cameras.conf"] = (_drop_in(cameras, _credentials(config)), 0o644)
    changed = [path for path, (content, _) in plan.items() if not _holds(path, content)]
    for path in changed:
        make_folder(path.parent, mode=0o700 if path.parent == _credentials(config) else 0o755)
        write(path, plan[path][0], mode=plan[path][1])
        path.chmod(plan[path][1])
    return changed


def start_service() -> None:
    """Have systemd start the service, now and at every boot; does nothing where there is no systemd."""
    if not Path("/run/systemd/system").is_dir():
        return
    for arguments in (["daemon-reload"], ["enable", "--quiet", "tailkeeper"], ["restart", "--no-block", "tailkeeper"]):
        subprocess.run(["systemctl", *arguments], check=False)


def _credentials(config: Path) -> Path:
    return config.with_suffix(".credentials")


def _known(config: Path) -> list[str]:
    folder = _credentials(config)
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def _certificates(config: Path, wishes: Wishes) -> list[tuple[Path, bytes, int]]:
    """Path, content and mode of the files beside the config file."""
    public = {"ca.pem": wishes.ca, "client.pem": wishes.cert}
    files = [(config.parent / name, source, 0o644) for name, source in public.items() if source]
    files += [(_credentials(config) / name, source, 0o600) for name, source in wishes.secrets.items()]
    return [(path, _read(source), mode) for path, source, mode in files]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", remedy="name a file that can be read") from None


def _current(config: Path, sample: Path, wishes: Wishes) -> str:
    """The config file's text; a new one is the sample, its camera renamed to the first that is wished for."""
    if config.exists():
        return _read(config).decode()
    text = _read(sample).decode()
    first = next(iter(wishes.cameras), None)
    return text.replace('name = "gate"', f"name = {_toml(first)}") if first else text


def _edited(text: str, config: Path, wishes: Wishes) -> str:
    host, _, port = (wishes.broker or "").partition(":")
    values = {
        ("device", "id"): wishes.device_id,
        ("broker", "host"): host or None,
        ("broker", "port"): int(port) if port.isdigit() else None,
        ("broker", "tls"): wishes.tls,
        ("broker", "username"): wishes.username,
        ("broker", "ca_file"): str(config.parent / "ca.pem") if wishes.ca else None,
        ("broker", "cert_file"): str(config.parent / "client.pem") if wishes.cert else None,
        ("model", "path"): str(wishes.model.absolute()) if wishes.model else None,
    }
    for (section, key), value in values.items():
        if value is not None:
            text = set_key(text, section, key, value)
    for name, source in wishes.cameras.items():
        text = set_camera(text, name, source)
    return text


def set_key(text: str, section: str, key: str, value: str | int | bool) -> str:
    """The TOML text with one key of one section set; in place of ``key = `` or ``#key = `` where it has such a line."""
    lines = text.split("\n")
    start = next((i for i, line in enumerate(lines) if _section(line) == section), None)
    if start is None:
        return f"{text.rstrip()}\n\n[{section}]\n{key} = {_toml(value)}\n".lstrip("\n")
    return "\n".join(_set_line(lines, start, key, value))


def set_camera(text: str, name: str, source: str) -> str:
    """The TOML text with the source of one camera set; a camera that it does not have is added."""
    lines = text.split("\n")
    for start in (i for i, line in enumerate(lines) if _section(line) == "cameras"):
        block = lines[start : _end(lines, start)]
        if any(re.match(rf"name *= *[\"']{re.escape(name)}[\"']", line) for line in block):
            return "\n".join(_set_line(lines, start, "source", source))
    return f"{text.rstrip()}\n\n[[cameras]]\nname = {_toml(name)}\nsource = {_toml(source)}\n".lstrip("\n")


def _set_line(lines: list[str], start: int, key: str, value: str | int | bool) -> list[str]:
    """The lines with `key` set in the table whose header is at `start`; an active line goes before a commented one."""
    new = f"{key} = {_toml(value)}"
    for marker in ("", "#"):
        for i in range(start + 1, _end(lines, start)):
            if re.match(rf"{marker}{key} *=", lines[i]):
                return [*lines[:i], new, *lines[i + 1 :]]
    return [*lines[: start + 1], new, *lines[start + 1 :]]


def _toml(value: str | int | bool) -> str:
    """The value as TOML, whose strings and numbers are written like those of JSON."""
    return json.dumps(value, ensure_ascii=False)


def _section(line: str) -> str:
    header = _HEADER.match(line)
    return header[1] if header else ""


def _end(lines: list[str], start: int) -> int:
    """Index after the last line of the table whose header is at `start`."""
    return next((i for i in range(start + 1, len(lines)) if lines[i].startswith("[")), len(lines))


def _validate(text: str, config: Path, plan: Mapping[Path, tuple[bytes, int]]) -> None:
    """Refuse a text that would not load, with the credentials there will be."""
    with tempfile.TemporaryDirectory() as folder:
        trial, credentials = Path(folder) / config.name, Path(folder) / "credentials"
        trial.write_text(text, "utf-8")
        credentials.mkdir(mode=0o700)
        for name in [*_known(config), *(path.name for path in plan if path.parent == _credentials(config))]:
            (credentials / name).write_text("there", "utf-8")
        try:
            load(trial, environ={"CREDENTIALS_DIRECTORY": str(credentials)}).require_agent()
        except ConfigError as error:
            raise ConfigError(error.what.replace(str(trial), str(config)), remedy=error.remedy) from None


def _drop_in(names: list[str], folder: Path) -> bytes:
    lines = [f"LoadCredential={name}:{folder / name}" for name in names]
    return "\n".join(["# Written by `tailkeeper provision`.", "[Service]", *lines, ""]).encode()


def _holds(path: Path, content: bytes) -> bool:
    try:
        return path.read_bytes() == content
    except OSError:
        return False
