"""Reading the configuration: its layers, their precedence, the origin of each value, and errors that name a remedy."""

from __future__ import annotations

import copy
import difflib
import os
import re
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import EnvSettingsSource, SettingsError

from agent.errors import ConfigError
from agent.settings.sections import ENV_PREFIX, CameraSettings, Settings
from agent.settings.source import shown_source

if sys.version_info >= (3, 11):
    import tomllib
else:  # JetPack 6 has Python 3.10
    import tomli as tomllib

DEFAULT_FILE = Path("/etc/tailkeeper/agent.toml")
PRECEDENCE = ("default", "file", "fleet", "credential", "environment", "command line")
"""Kinds of layers, lowest first."""

Tree: TypeAlias = dict[str, Any]
_SERIALS = (Path("/sys/firmware/devicetree/base/serial-number"), Path("/etc/machine-id"))
_CAMERA_CREDENTIAL = re.compile(r"^camera_([A-Za-z0-9_-]+)_password$")


@dataclass(frozen=True, slots=True)
class Layer:
    """The values of one source, nested as in the config file, but cameras keyed by name."""

    kind: str
    where: str
    """The source as a person knows it: a file's path, ``environment``, ..."""
    values: Tree


@dataclass(frozen=True, slots=True)
class Loaded:
    """A valid configuration and how it came about."""

    settings: Settings
    layers: tuple[Layer, ...]

    @property
    def file(self) -> Path | None:
        """The config file that was read."""
        return next((Path(layer.where) for layer in self.layers if layer.kind == "file"), None)

    def with_desired(self, values: Mapping[str, Any]) -> Loaded:
        """This configuration with the fleet's desired values in their place of the precedence.

        Raises ConfigError as a whole for any value that is impossible, unknown or not remote-settable.
        """
        problems = tuple((path, _not_remote(path)) for path, _ in leaves(values) if not _is_remote(path))
        if problems:
            raise ConfigError("\n".join(f"{path}: {text}" for path, text in problems), problems=problems)
        kept = [layer for layer in self.layers if layer.kind != "fleet"]
        return _merged([*kept, Layer("fleet", "fleet", dict(values))])

    def require_agent(self) -> None:
        """Raise ConfigError where something that the device service cannot do without is missing."""
        self._require("broker.host", self.settings.broker.host, 'host = "broker.example" under [broker]')
        self._require("cameras", self.settings.cameras, "[[cameras]] with a name and a source")

    def require_store(self) -> Path:
        """The collector's store; ConfigError where none is configured."""
        store = self.settings.collector.store
        self._require("collector.store", store, 'store = "/var/lib/tailkeeper-collector" under [collector]')
        return Path(store or "")

    def require_collector(self) -> None:
        """Raise ConfigError where something that the collector service cannot do without is missing."""
        self._require("broker.host", self.settings.broker.host, 'host = "broker.example" under [broker]')
        self.require_store()

    def require_service(self) -> None:
        """Raise ConfigError where neither the device service nor the collector could run with this configuration."""
        if self.settings.cameras or self.settings.collector.store is None:
            self.require_agent()
        if self.settings.collector.store is not None:
            self.require_collector()

    def _require(self, key: str, value: object, remedy: str) -> None:
        if not value:
            raise ConfigError(f"{self.file or DEFAULT_FILE}: {key}: not set", remedy=f"write {remedy}")

    def warnings(self) -> list[str]:
        """What is allowed and still not wise, one line each: what it is, a colon, and the remedy."""
        found = []
        if self.settings.broker.host and not self.settings.broker.tls:
            found.append("broker.tls is false, images and passwords travel unencrypted: set tls = true and port = 8883")
        file = self.file
        in_file = [path for layer in self.layers if layer.kind == "file" for path, _ in leaves(layer.values)]
        if file and any(path.endswith(".password") for path in in_file) and file.stat().st_mode & 0o044:
            found.append(f"{file} holds a password and others can read it: chmod 600, or use a systemd credential")
        return found

    def shown(self) -> list[tuple[str, Any]]:
        """Dotted path and value of every key, secrets hidden."""
        return [(path, _public(path, value)) for path, value in leaves(_by_name(self.settings.model_dump(mode="json")))]

    def tables(self) -> Tree:
        """Effective values of the device's sections, nested as in the config file, cameras by name, without secrets."""
        values = _by_name(self.settings.model_dump(mode="json", exclude={"collector": True, "broker": {"password"}}))
        for camera in values["cameras"].values():
            del camera["password"]
            camera["source"] = shown_source(camera["source"])
        return values

    def origins(self) -> dict[str, str]:
        """Dotted path of every key (cameras by name) to where its value comes from."""
        found = {path: "default" for path, _ in leaves(_by_name(self.settings.model_dump()))}
        for layer in self.layers:
            for path, _ in leaves(layer.values):
                owner = path if path in found else path.rpartition(".")[0]
                if owner in found:
                    found[owner] = layer.where
        return found


def load(
    path: Path | None = None,
    *,
    command_line: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Loaded:
    """Read every source and validate the whole.

    `path` is the config file; None means the default one, which may be missing. Raises ConfigError naming file, key
    path, what is wrong and what would be right.
    """
    env = os.environ if environ is None else environ
    file = path or DEFAULT_FILE
    layers = [
        Layer("default", "default", _machine_defaults(env)),
        Layer("credential", "credential", _credentials(env, file)),
        Layer("environment", "environment", _environment(env)),
        Layer("command line", "command line", dict(command_line or {})),
    ]
    if path is not None or file.exists():
        layers.append(Layer("file", str(file), _by_name(_read_toml(file), str(file))))
    return _merged(layers)


def merge(*trees: Mapping[str, Any]) -> Tree:
    """One tree of values from several, later ones over earlier ones, by the rules of the configuration's layers."""
    merged: Tree = {}
    for tree in trees:
        _overlay(merged, copy.deepcopy(dict(tree)))
    return merged


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted path and value of everything in a tree that is not a table itself."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


@cache
def remote_keys() -> frozenset[str]:
    """Keys that may be set from afar, as ``section.key``; those of cameras as ``cameras.key``."""
    sections: dict[str, type[BaseModel]] = {"cameras": CameraSettings}
    for name, info in Settings.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            sections[name] = info.annotation
    return frozenset(
        f"{section}.{key}"
        for section, model in sections.items()
        for key, info in model.model_fields.items()
        if isinstance(info.json_schema_extra, dict) and info.json_schema_extra.get("remote")
    )


def _is_remote(path: str) -> bool:
    section, _, rest = path.partition(".")
    if section == "cameras":
        rest = rest.partition(".")[2]
    return f"{section}.{rest.partition('.')[0]}" in remote_keys()


def _not_remote(path: str) -> str:
    """Why a key cannot be set from afar: it is the device's own, or there is none of that name."""
    section, _, key = path.rpartition(".")
    section = section.partition(".")[0]
    if path in Settings.model_fields:
        return "is a table of keys, not a value"
    if section not in Settings.model_fields:
        return f"unknown key{_nearest(section or path, Settings.model_fields)}"
    siblings = _siblings([section, key])
    if key not in siblings:
        return f"unknown key{_nearest(key, siblings)}"
    return "cannot be set from afar; set it in the device's config file"


def _machine_defaults(env: Mapping[str, str]) -> Tree:
    device: Tree = {"id": default_device_id(socket.gethostname(), _serial())}
    if env.get("STATE_DIRECTORY"):
        device["state_dir"] = env["STATE_DIRECTORY"].split(":")[0]
    return {"device": device}


def default_device_id(host: str, serial: str) -> str:
    """Host name made safe for topics, and the last 8 hex digits of the serial: distinct also for cloned SD cards."""
    safe = re.sub(r"[^A-Za-z0-9_-]+", "-", host).strip("-") or "device"
    digits = re.sub(r"[^0-9a-f]", "", serial.lower())[-8:].rjust(8, "0")
    return f"{safe[:55]}-{digits}"


def _public(path: str, value: Any) -> Any:
    """The value of a key without its secrets."""
    if path.endswith(".password") and value:
        return "***"
    return shown_source(value) if path.endswith(".source") else value


def _serial() -> str:
    for path in _SERIALS:
        try:
            return path.read_text("ascii").strip("\0\n ")
        except (OSError, ValueError):
            continue
    return ""


def _credentials(env: Mapping[str, str], file: Path) -> Tree:
    """``broker_password``, ``client_key`` and ``camera_<name>_password``; an empty one counts as none.

    From the folder that systemd made for its service, else from the one that systemd takes them from: beside the config
    file ``agent.toml`` that is ``agent.credentials``, for root alone.
    """
    folder = Path(env.get("CREDENTIALS_DIRECTORY") or file.with_suffix(".credentials"))
    values: Tree = {}
    for path in sorted(folder.iterdir()) if os.access(folder, os.R_OK | os.X_OK) and folder.is_dir() else ():
        camera = _CAMERA_CREDENTIAL.match(path.name)
        known = camera or path.name in ("broker_password", "client_key")
        secret = _secret(path) if known else ""
        if secret and camera:
            values.setdefault("cameras", {})[camera[1]] = {"password": secret}
        elif secret and path.name == "client_key":
            values.setdefault("broker", {})["key_file"] = str(path)
        elif secret:
            values.setdefault("broker", {})["password"] = secret
    return values


def _secret(path: Path) -> str:
    try:
        return path.read_text("utf-8").rstrip("\r\n")
    except (OSError, ValueError) as error:
        raise ConfigError(f"credential {path.name}: {error}", remedy="a readable file of UTF-8 text") from None


def _environment(env: Mapping[str, str]) -> Tree:
    names = [name for name in env if name.startswith(ENV_PREFIX) and "__" in name]
    for name in names:
        section = name[len(ENV_PREFIX) :].split("__")[0].lower()
        if section not in Settings.model_fields:
            raise ConfigError(f"environment: {name}: no section {section!r}{_nearest(section, Settings.model_fields)}")
    source = EnvSettingsSource(Settings)
    source.env_vars = {name.lower(): value for name, value in env.items() if value is not None}
    try:
        return _by_name(source(), "environment")
    except SettingsError as error:
        raise ConfigError(f"environment: {error}", remedy="lists and tables are written as JSON") from None


def _read_toml(path: Path) -> Tree:
    try:
        tree: Tree = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such config file", remedy="name one with --config") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {error}", remedy="the file must be readable TOML in UTF-8") from None
    return tree


def _by_name(tree: Tree, where: str = "") -> Tree:
    """The tree with its list of cameras turned into a table by name, so that layers can be merged."""
    cameras = tree.get("cameras")
    if cameras is None or isinstance(cameras, dict):
        return tree
    if not isinstance(cameras, Sequence) or not all(
        isinstance(c, dict) and isinstance(c.get("name"), str) for c in cameras
    ):
        raise ConfigError(f"{where}: cameras: each needs a name", remedy='write [[cameras]] and name = "gate"')
    names = [camera["name"] for camera in cameras]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{where}: cameras: two are called {name!r}", remedy="each needs a name of its own")
    return {**tree, "cameras": {camera["name"]: camera for camera in cameras}}


def _merged(layers: list[Layer]) -> Loaded:
    ordered = tuple(sorted(layers, key=lambda layer: PRECEDENCE.index(layer.kind)))
    tree: Tree = {}
    for layer in ordered:
        _overlay(tree, layer.values)
    if isinstance(tree.get("device"), dict) and tree["device"].get("id") == "":
        del tree["device"]["id"]
        _overlay(tree, {"device": {"id": ordered[0].values["device"]["id"]}})
    cameras = tree.get("cameras", {})
    if isinstance(cameras, dict):
        known = {
            name
            for layer in ordered
            if layer.kind not in ("fleet", "credential")
            for name in layer.values.get("cameras", {})
        }
        _refuse_strangers(ordered, known)
        tree["cameras"] = [camera for name, camera in cameras.items() if name in known]
    try:
        return Loaded(Settings(**tree), ordered)
    except ValidationError as error:
        details = error.errors()
        problems = tuple((_key_path(detail, cameras), detail["msg"]) for detail in details)
        text = "\n".join(_complaint(detail, ordered, cameras) for detail in details)
        raise ConfigError(text, problems=problems) from None


def _refuse_strangers(layers: Sequence[Layer], known: set[str]) -> None:
    for layer in layers:
        for name in layer.values.get("cameras", {}) if layer.kind == "fleet" else ():
            if name not in known:
                text = f"no such camera{_nearest(name, known)}"
                raise ConfigError(f"cameras.{name}: {text}", problems=((f"cameras.{name}", text),))


def _overlay(tree: Tree, values: Mapping[str, Any]) -> None:
    """Merge tables key by key; everything else, `selection.shares` among it, is replaced whole."""
    for key, value in values.items():
        if isinstance(value, Mapping) and isinstance(tree.get(key), dict) and key != "shares":
            _overlay(tree[key], value)
        else:
            tree[key] = dict(value) if isinstance(value, Mapping) else value


def _complaint(detail: ErrorDetails, layers: Sequence[Layer], cameras: Any) -> str:
    """One line: source, key path, what is wrong, what would be right."""
    path = _key_path(detail, cameras)
    loc = path.split(".")
    where = next((layer.where for layer in reversed(layers) if _holds(layer.values, loc)), layers[0].where)
    if detail["type"] == "extra_forbidden":
        return f"{where}: {path}: unknown key{_nearest(str(loc[-1]), _siblings(loc))}"
    given = "" if "password" in path or isinstance(detail["input"], (dict, BaseModel)) else f" {detail['input']!r}:"
    text = detail["msg"].removeprefix("Value error, ")
    return f"{where}: {path}:{given} {text[0].lower()}{text[1:]}"


def _key_path(detail: ErrorDetails, cameras: Any) -> str:
    loc = list(detail["loc"])
    if loc[0] == "cameras" and len(loc) > 1 and isinstance(loc[1], int):
        loc[1] = list(cameras)[loc[1]]
    return ".".join(str(part) for part in loc)


def _holds(values: Any, loc: Sequence[int | str]) -> bool:
    for part in loc:
        if not isinstance(values, Mapping) or part not in values:
            return values is not None and not isinstance(values, Mapping)
        values = values[part]
    return True


def _siblings(loc: Sequence[int | str]) -> Sequence[str]:
    """Names of the keys that would be right in the place of an unknown one."""
    if len(loc) == 1:
        return list(Settings.model_fields)
    section: Any = CameraSettings if loc[0] == "cameras" else Settings.model_fields[str(loc[0])].annotation
    return list(getattr(section, "model_fields", ()))


def _nearest(name: str, choices: Mapping[str, Any] | Sequence[str] | set[str]) -> str:
    close = difflib.get_close_matches(name, list(choices), n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(sorted(choices))}" if choices else ""
