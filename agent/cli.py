"""The commands: read settings once, hand them on, print what came out.

Standard output carries the result (with ``--json`` one document, or one per line), standard error everything else.
Exit status: 0 done, 1 the work failed, 2 wrong usage or configuration.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from agent import __version__, cli_fleet, cli_model
from agent.clock import SystemClock, rfc3339
from agent.errors import TailkeeperError
from agent.settings import DEFAULT_FILE, Loaded, Settings, load


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except TailkeeperError as error:
        print(f"tailkeeper: {error}", file=sys.stderr)
        return error.exit_status
    except OSError as error:
        if isinstance(error, BrokenPipeError):  # the reader of our output has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        print(f"tailkeeper: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tailkeeper",
        description="Keeps a detector's training set fed with the real frames it is worst at.",
    )
    parser.add_argument("--version", action="version", version=f"tailkeeper {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_demo(commands)
    _add_services(commands)
    _add_check(commands)
    _add_status(commands)
    _add_provision(commands)
    _add_config(commands)
    _add_replay(commands)
    _add_spool(commands)
    _add_dataset(commands)
    _add_model(commands)
    cli_fleet.add_commands(commands, _command)
    return parser


Commands = Any  # argparse keeps the type of its sub-parsers to itself


def _command(
    commands: Commands, name: str, run: Callable[[argparse.Namespace], int], text: str, **flags: bool
) -> argparse.ArgumentParser:
    """A sub-command with the flags that many share."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(run=run)
    if flags.get("config"):
        parser.add_argument("--config", type=Path, metavar="F", help="config file (default /etc/tailkeeper/agent.toml)")
    if flags.get("json"):
        parser.add_argument("--json", action="store_true", help="machine-readable output")
    return parser


def _print_json(document: Any) -> None:
    print(json.dumps(document, default=str, ensure_ascii=False))


def _print_table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
    for row in rows:
        print("  ".join(str(row[name]) for name in columns))


def _log(text: str) -> None:
    print(text, file=sys.stderr)


def _progress(text: str) -> None:
    """One line that is written over and over on a terminal; nothing in a pipe."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def _number(low: float, high: float, text: str, wanted: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")
    return value


def _seconds(text: str) -> float:
    return _number(0.1, 1e9, text, "a number of seconds")


def _share(text: str) -> float:
    return _number(1e-9, 1.0, text, "a share above 0 and at most 1")


def _rate(text: str) -> float:
    return _number(0.0, 1000.0, text, "a rate from 0 to 1000 frames per second")


def _stop_on_signals() -> threading.Event:
    """An event that SIGTERM and SIGINT set."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def _add_demo(commands: Commands) -> None:
    text = "broker, agent and collector in one go, on what ships with the project"
    parser = _command(commands, "demo", _demo, text, json=True)
    parser.add_argument(
        "--source", default="", metavar="S", help="video, folder of images, camera or URL (default: a rendered street)"
    )
    parser.add_argument(
        "--model", type=Path, metavar="M", help="bundle folder or ONNX file (default: the street's own YOLO26n)"
    )
    parser.add_argument("--seconds", type=_seconds, default=60.0, metavar="N", help="how long (default 60)")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="empty folder for what it makes (default: a new one below ./out)"
    )
    parser.add_argument(
        "--port", type=int, default=0, metavar="P", help="the embedded broker's port (default: a free one)"
    )


def _demo(arguments: argparse.Namespace) -> int:
    from agent.demo import DEMO_CONFIG, run_demo

    out = arguments.out or Path("out") / datetime.now().strftime("demo-%Y%m%d-%H%M%S")
    _log(f"demo configuration: {DEMO_CONFIG.name} (budget and windows made for a minute)")
    summary = run_demo(
        source=arguments.source,
        model=arguments.model,
        seconds=arguments.seconds,
        out=out,
        port=arguments.port,
        stop=_stop_on_signals(),
        progress=_progress,
    )
    _progress("")
    if arguments.json:
        _print_json(dataclasses.asdict(summary))
    else:
        print(summary.text())
    return 0


def _add_services(commands: Commands) -> None:
    _command(commands, "run", _run, "the device service", config=True)
    _command(commands, "collect", _collect, "the collector service", config=True)


def _run(arguments: argparse.Namespace) -> int:
    from agent.doctor import run_checks
    from agent.service import serve

    def configuration() -> Loaded:
        loaded = load(arguments.config)
        loaded.require_agent()
        return loaded

    reload = threading.Event()
    signal.signal(signal.SIGHUP, lambda *_: reload.set())

    def check() -> list[dict[str, str]]:
        return [dataclasses.asdict(each) for each in run_checks(arguments.config)]

    serve(configuration, _stop_on_signals(), reload, check)
    return 0


def _collect(arguments: argparse.Namespace) -> int:
    from agent.collector import CollectorService
    from agent.health import Notifier, setup_logging

    loaded = load(arguments.config)
    loaded.require_collector()
    setup_logging(json=True, level="info")
    notifier, stop = Notifier(), _stop_on_signals()
    CollectorService(loaded.settings, SystemClock()).run(stop, started=notifier.ready)
    return 0


def _add_check(commands: Commands) -> None:
    _command(
        commands,
        "check",
        _check,
        "what is wrong with this device, each problem with its remedy",
        config=True,
        json=True,
    )


def _check(arguments: argparse.Namespace) -> int:
    from agent.doctor import run_checks
    from agent.health import setup_logging

    setup_logging(json=False, level="critical")  # the findings say it all
    checks = run_checks(arguments.config)
    if arguments.json:
        _print_json({"checks": [dataclasses.asdict(check) for check in checks]})
    else:
        for check in checks:
            print(
                f"{check.status:<5} {check.name:<20} {check.detail}" + (f"  -> {check.remedy}" if check.remedy else "")
            )
    return int(any(check.status == "fail" for check in checks))


def _add_status(commands: Commands) -> None:
    _command(commands, "status", _status, "how the service on this machine is doing", config=True, json=True)


def _status(arguments: argparse.Namespace) -> int:
    from agent.health import ask

    answer = ask(load(arguments.config).settings.device.state_dir)
    if arguments.json:
        _print_json(answer)
    else:
        print(_status_text(answer))
    return int(bool(answer["complaints"]))


def _status_text(answer: Mapping[str, Any]) -> str:
    stats = answer["stats"]
    lines = [
        f"{answer['device']}  {answer['mode']} for {stats['uptime_s']:.0f} s, tailkeeper {answer['agent']}",
        *(f"complaint: {text}" for text in answer["complaints"]),
        f"broker    {answer['broker']}",
        f"spool     {stats['spool']['items']} items, {stats['spool']['bytes'] / 1e6:.1f} MB",
    ]
    for name, camera in stats["cameras"].items():
        age = "no frame yet" if camera["frame_age_s"] is None else f"newest frame {camera['frame_age_s']:.1f} s old"
        lines.append(f"camera    {name}: {camera['state']}, {camera['fps'] or 0:.1f} frames a second, {age}")
    return "\n".join(lines)


def _add_provision(commands: Commands) -> None:
    text = "make this device the fleet's own: id, broker, certificates, cameras; safe to run again"
    parser = _command(commands, "provision", _provision, text, config=True, json=True)
    parser.add_argument("--id", metavar="ID", help="device id: MQTT client id and common name of the certificate")
    parser.add_argument("--broker", metavar="HOST[:PORT]", help="where the broker is")
    parser.add_argument("--tls", action=argparse.BooleanOptionalAction, default=None, help="encrypt (default: yes)")
    parser.add_argument("--username", metavar="NAME", help="for brokers with passwords")
    parser.add_argument("--password-file", type=Path, metavar="F", help="file with the broker's password")
    parser.add_argument(
        "--ca", type=Path, metavar="F", help="PEM file of the authority that signed the broker's certificate"
    )
    parser.add_argument("--cert", type=Path, metavar="F", help="PEM file of the device's certificate")
    parser.add_argument("--key", type=Path, metavar="F", help="PEM file of its private key")
    parser.add_argument("--model", type=Path, metavar="M", help="bundle folder or ONNX file")
    parser.add_argument("--camera", type=_pair, action="append", default=[], metavar="NAME=SOURCE", help="repeatable")
    parser.add_argument(
        "--camera-password-file", type=_pair, action="append", default=[], metavar="NAME=F", help="repeatable"
    )
    parser.add_argument("--no-start", dest="start", action="store_false", help="do not (re)start the service")


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=VALUE")
    return name, value


def _provision(arguments: argparse.Namespace) -> int:
    from agent.provision import SAMPLE, UNIT, Wishes, provision, start_service

    secrets = {"broker_password": arguments.password_file, "client_key": arguments.key}
    secrets |= {f"camera_{name}_password": Path(file) for name, file in arguments.camera_password_file}
    wishes = Wishes(
        device_id=arguments.id,
        broker=arguments.broker,
        tls=arguments.tls,
        username=arguments.username,
        ca=arguments.ca,
        cert=arguments.cert,
        secrets={name: file for name, file in secrets.items() if file},
        model=arguments.model,
        cameras=dict(arguments.camera),
    )
    changed = provision(arguments.config or DEFAULT_FILE, wishes, sample=SAMPLE, unit=UNIT)
    if arguments.json:
        _print_json({"changed": changed})
    else:
        print("\n".join(f"written {path}" for path in changed) or "nothing to change")
    if arguments.start and changed:
        start_service()
    return 0


def _add_config(commands: Commands) -> None:
    group = commands.add_parser("config", help="show, check or describe the configuration").add_subparsers(
        title="commands", required=True, metavar="COMMAND"
    )
    _command(
        group, "show", _config_show, "effective configuration, and where each value comes from", config=True, json=True
    )
    _command(group, "check", _config_check, "validate the configuration", config=True, json=True)
    _command(group, "schema", _config_schema, "JSON schema of the configuration", json=True)


def _config_show(arguments: argparse.Namespace) -> int:
    loaded = load(arguments.config)
    origins = loaded.origins()
    rows = [{"key": key, "value": value, "origin": origins[key]} for key, value in loaded.shown()]
    if arguments.json:
        _print_json({"values": rows})
    else:
        for row in rows:
            print(f"{row['key']} = {json.dumps(row['value'], default=str)}  # {row['origin']}")
    return 0


def _config_check(arguments: argparse.Namespace) -> int:
    loaded = load(arguments.config)
    loaded.require_service()
    warnings = loaded.warnings()
    if arguments.json:
        _print_json({"ok": True, "file": loaded.file, "warnings": warnings})
    else:
        print(f"{loaded.file or 'defaults'}: valid")
        for warning in warnings:
            print(f"warning: {warning}", file=sys.stderr)
    return 0


def _config_schema(_: argparse.Namespace) -> int:
    _print_json(Settings.model_json_schema())
    return 0


def _add_replay(commands: Commands) -> None:
    text = "run selection over a recording at virtual time, upload nothing"
    parser = _command(commands, "replay", _replay, text, config=True, json=True)
    parser.add_argument("source", metavar="SOURCE", help="video, folder of images or world:...")
    parser.add_argument("--model", type=Path, required=True, metavar="M", help="bundle folder or ONNX file")
    parser.add_argument("--budget", type=_share, metavar="B", help="share of the considered frames, 0 to 1")
    parser.add_argument("--fps", type=_rate, metavar="R", help="frames considered per second of media time; 0: all")
    parser.add_argument("--seed", type=int, metavar="N", help="seed of the random draws")


def _replay(arguments: argparse.Namespace) -> int:
    from agent.replay import replay

    result = replay(
        arguments.source,
        arguments.model,
        config=arguments.config,
        budget=arguments.budget,
        fps=arguments.fps,
        seed=arguments.seed,
        stop=_stop_on_signals(),
        progress=_progress,
    )
    _progress("")
    if arguments.json:
        _print_json(dataclasses.asdict(result))
    else:
        print(result.text())
    return 0


def _add_spool(commands: Commands) -> None:
    group = commands.add_parser("spool", help="look into the device's spool").add_subparsers(
        title="commands", required=True, metavar="COMMAND"
    )
    _command(group, "ls", _spool_ls, "items that wait for delivery", config=True, json=True)


def _spool_ls(arguments: argparse.Namespace) -> int:
    from agent import spool

    rows = [_spool_row(entry) for entry in spool.listing(load(arguments.config).settings.device.spool_dir)]
    if arguments.json:
        _print_json({"items": rows})
    else:
        _print_table(rows, ("cid", "state", "lane", "score", "bytes", "camera", "ts"))
    return 0


def _spool_row(entry: Any) -> dict[str, Any]:
    names = ("cid", "camera", "lane", "score", "state", "bytes", "reason")
    return {"ts": rfc3339(entry.ts_ns)} | {name: getattr(entry, name) for name in names}


def _add_model(commands: Commands) -> None:
    group = commands.add_parser("model", help="model bundles: export, keys and signatures, this device's models")
    cli_model.add_commands(group.add_subparsers(title="commands", required=True, metavar="COMMAND"), _command)


def _add_dataset(commands: Commands) -> None:
    group = commands.add_parser("dataset", help="the collector's store and what becomes of it").add_subparsers(
        title="commands", required=True, metavar="COMMAND"
    )
    _command(group, "ls", _dataset_ls, "stored candidates (JSON lines with --json)", config=True, json=True)


def _dataset_ls(arguments: argparse.Namespace) -> int:
    from agent.collector import listing

    loaded = load(arguments.config)
    rows = listing(loaded.require_store())
    if arguments.json:
        for row in rows:
            _print_json(row)
    else:
        _print_table(rows, ("cid", "device", "camera", "ts", "lane", "score", "bytes", "label"))
    return 0
