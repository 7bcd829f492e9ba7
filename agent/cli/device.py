"""Commands of a device: the service, what is wrong with it, its configuration and its spool."""

from __future__ import annotations

import argparse
import dataclasses
import json
import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.cli.shell import Commands, command, group, log, print_json, print_table, stop_on_signals
from agent.clock import rfc3339
from agent.settings import DEFAULT_FILE, Loaded, Settings, load


def add_commands(commands: Commands) -> None:
    """Add ``run``, ``check``, ``status``, ``provision``, ``config`` and ``spool``."""
    command(commands, "run", _run, "the device service", config=True)
    text = "what is wrong with this device, each problem with its remedy"
    command(commands, "check", _check, text, config=True, json=True)
    command(commands, "status", _status, "how the service on this machine is doing", config=True, json=True)
    _add_provision(commands)
    config = group(commands, "config", "show, check or describe the configuration")
    text = "effective configuration, and where each value comes from"
    command(config, "show", _config_show, text, config=True, json=True)
    command(config, "check", _config_check, "validate the configuration", config=True, json=True)
    command(config, "schema", _config_schema, "JSON schema of the configuration", json=True)
    _add_spool(group(commands, "spool", "look into the device's spool"))


def _add_spool(spool: Commands) -> None:
    command(spool, "ls", _spool_ls, "items that wait for delivery", config=True, json=True)
    parser = command(spool, "show", _spool_show, "all that is known of one item", config=True, json=True)
    parser.add_argument("cid", metavar="CID")
    text = "copy items to a folder, to be taken away on a stick; `dataset import spool` takes it"
    command(spool, "export", _spool_export, text, config=True, json=True).add_argument("out", type=Path, metavar="DIR")
    command(spool, "verify", _spool_verify, "check index and files against each other", config=True, json=True)


def _add_provision(commands: Commands) -> None:
    text = "make this device the fleet's own: id, broker, certificates, cameras; safe to run again"
    parser = command(commands, "provision", _provision, text, config=True, json=True)
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

    serve(configuration, stop_on_signals(), reload, check)
    return 0


def _check(arguments: argparse.Namespace) -> int:
    from agent.doctor import run_checks
    from agent.health import setup_logging

    setup_logging(json=False, level="critical")  # the findings say it all
    checks = run_checks(arguments.config)
    if arguments.json:
        print_json({"checks": [dataclasses.asdict(check) for check in checks]})
    else:
        for check in checks:
            print(
                f"{check.status:<5} {check.name:<20} {check.detail}" + (f"  -> {check.remedy}" if check.remedy else "")
            )
    return int(any(check.status == "fail" for check in checks))


def _status(arguments: argparse.Namespace) -> int:
    from agent.health import ask

    answer = ask(load(arguments.config).settings.device.state_dir)
    if arguments.json:
        print_json(answer)
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
        print_json({"changed": changed})
    else:
        print("\n".join(f"written {path}" for path in changed) or "nothing to change")
    if arguments.start and changed:
        start_service()
    return 0


def _config_show(arguments: argparse.Namespace) -> int:
    loaded = load(arguments.config)
    origins = loaded.origins()
    rows = [{"key": key, "value": value, "origin": origins[key]} for key, value in loaded.shown()]
    if arguments.json:
        print_json({"values": rows})
    else:
        for row in rows:
            print(f"{row['key']} = {json.dumps(row['value'], default=str)}  # {row['origin']}")
    return 0


def _config_check(arguments: argparse.Namespace) -> int:
    loaded = load(arguments.config)
    loaded.require_service()
    warnings = loaded.warnings()
    if arguments.json:
        print_json({"ok": True, "file": loaded.file, "warnings": warnings})
    else:
        print(f"{loaded.file or 'defaults'}: valid")
        for warning in warnings:
            log(f"warning: {warning}")
    return 0


def _config_schema(_: argparse.Namespace) -> int:
    print_json(Settings.model_json_schema())
    return 0


def _spool_ls(arguments: argparse.Namespace) -> int:
    from agent import spool

    rows = [_spool_row(entry) for entry in spool.listing(load(arguments.config).settings.device.spool_dir)]
    if arguments.json:
        print_json({"items": rows})
    else:
        print_table(rows, ("cid", "state", "lane", "score", "bytes", "camera", "ts"))
    return 0


def _spool_row(entry: Any) -> dict[str, Any]:
    names = ("cid", "camera", "lane", "score", "state", "bytes", "reason")
    return {"ts": rfc3339(entry.ts_ns)} | {name: getattr(entry, name) for name in names}


def _spool_show(arguments: argparse.Namespace) -> int:
    from agent import spool

    item = spool.read_item(load(arguments.config).settings.device.spool_dir, arguments.cid)
    shown = {
        "cid": item.cid,
        "bytes": len(item.image),
        "sha256": item.sha256,
        "meta": item.meta.model_dump(mode="json"),
    }
    print(json.dumps(shown, indent=None if arguments.json else 2, ensure_ascii=False))
    return 0


def _spool_export(arguments: argparse.Namespace) -> int:
    from agent import spool

    count, failed = spool.export(load(arguments.config).settings.device.spool_dir, arguments.out)
    if arguments.json:
        print_json({"items": count, "failed": failed, "out": arguments.out})
    else:
        print(f"{count} items in {arguments.out}")
        for cid, reason in failed.items():
            log(f"not exported: {cid}: {reason}")
    return int(bool(failed))


def _spool_verify(arguments: argparse.Namespace) -> int:
    from agent import spool

    found = spool.verify(load(arguments.config).settings.device.spool_dir)
    if arguments.json:
        print_json(dataclasses.asdict(found))
    else:
        print(f"{found.items} items sound, {len(found.damaged)} damaged, {len(found.unlisted)} not in the index")
        for cid, reason in found.damaged.items():
            print(f"damaged {cid}: {reason}")
    return int(bool(found.damaged or found.missing))
