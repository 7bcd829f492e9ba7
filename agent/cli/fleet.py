"""``tailkeeper fleet``: what operators type, and what they see."""

from __future__ import annotations

import argparse
import contextlib
import getpass
import json
import random
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.cli.shell import Commands, command, group, print_json
from agent.clock import SystemClock
from agent.errors import ConfigError, TailkeeperError
from agent.settings import BrokerSettings, load

if TYPE_CHECKING:
    from agent.fleet import Link, Plan
    from agent.wire import CommandState

COLUMNS = {
    "device": 24, "state": 9, "model": 20, "fps": 6, "temp_c": 7, "spool": 7,
    "frame_age_s": 12, "drift": 7, "config": 7, "errors": 7,
}  # fmt: skip
WAIT_S = 60.0


def add_commands(commands: Commands) -> None:
    """Add ``fleet`` and what is below it."""
    fleet = group(commands, "fleet", "look at a fleet, change its configuration, command it, roll out to it")
    parser = command(fleet, "ls", _ls, "table of all devices", config=True, json=True)
    parser.add_argument(
        "--wait", type=float, default=0.0, metavar="S", help="collect stats for so long (sent each minute)"
    )
    parser.add_argument("--watch", action="store_true", help="go on, and show the table again every two seconds")
    command(fleet, "show", _show, "everything a device says of itself", config=True, json=True).add_argument("device")
    _add_config(group(fleet, "config", "desired configuration: of a device, group:NAME or all"))
    parser = command(fleet, "command", _command, "have a device do something", config=True, json=True)
    parser.add_argument("device")
    parser.add_argument(
        "op", help="capture, pause, resume, restart, flush, purge, diag, log_level, model_rollback, ..."
    )
    parser.add_argument("arguments", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--wait", type=float, default=WAIT_S, metavar="S", help="for its end (default %(default)g)")
    parser.add_argument(
        "--expires", type=float, default=600.0, metavar="S", help="not begun later (default %(default)g)"
    )
    _add_rollout(group(fleet, "rollout", "bring a configuration or a model to many devices, in stages"))


def _add_config(config: Commands) -> None:
    command(config, "get", _config_get, "what is desired", config=True, json=True).add_argument("target")
    parser = command(config, "set", _config_set, "change what is desired; validated first", config=True, json=True)
    parser.add_argument("target")
    parser.add_argument("changes", nargs="+", metavar="KEY=VALUE", help="e.g. selection.budget=0.03 cameras.gate.fps=2")
    parser.add_argument("--replace", action="store_true", help="drop what was desired before")
    parser.add_argument("--wait", type=float, default=0.0, metavar="S", help="for the device's answer")
    command(config, "diff", _config_diff, "desired but not reported", config=True, json=True).add_argument("device")


def _add_rollout(rollout: Commands) -> None:
    parser = command(rollout, "config", _rollout_config, "roll a configuration out", config=True, json=True)
    parser.add_argument("changes", nargs="+", metavar="KEY=VALUE")
    _add_staging(parser)
    parser = command(rollout, "model", _rollout_model, "roll a signed model bundle out", config=True, json=True)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--url", default="", help="where devices fetch model.onnx; without it, through the broker")
    parser.add_argument("--force", action="store_true", help="also a model that `model compare` found degraded")
    _add_staging(parser)
    parser = command(
        rollout, "resume", _rollout_resume, "go on with one that was cut or stopped", config=True, json=True
    )
    parser.add_argument("plan", type=Path)
    parser.add_argument("--bundle", type=Path, help="the bundle, where it goes through the broker")
    parser.add_argument("--retry", action="store_true", help="try devices that failed again")


def _add_staging(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--plan", type=Path, default=Path("rollout.json"), help="file that remembers how far it is")
    parser.add_argument("--group", default="", help="only devices of this group")
    parser.add_argument(
        "--canary", action="append", default=[], metavar="ID", help="device of the first stage; repeatable"
    )
    parser.add_argument("--percent", type=_percents, default=[10.0, 50.0], metavar="P,P", help="stages (default 10,50)")
    parser.add_argument("--failures", type=float, default=0.05, help="share of a stage that stops it (default .05)")
    parser.add_argument("--drift", type=float, help="drift measure above which a device counts as failed")
    parser.add_argument("--answer", type=float, default=120.0, metavar="S", help="silence that counts as failure")
    parser.add_argument("--soak", type=float, default=75.0, metavar="S", help="how long a stage has to be well")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done")


def _percents(text: str) -> list[float]:
    return [float(part) for part in text.split(",") if part]


def _broker(arguments: argparse.Namespace) -> BrokerSettings:
    loaded = load(arguments.config)
    if not loaded.settings.broker.host:
        raise ConfigError(f"{loaded.file or 'no config file'}: broker.host: not set", remedy="say which broker")
    return loaded.settings.broker


def _link(arguments: argparse.Namespace, topics: Iterable[str] | None = None, device: str = "+") -> Link:
    from agent.fleet import Link
    from agent.fleet.link import EVERYTHING

    return Link(_broker(arguments), SystemClock(), random.Random(), device=device, topics=topics or EVERYTHING)


def _show_document(arguments: argparse.Namespace, document: Any, lines: Iterable[str]) -> None:
    if arguments.json:
        print_json(document)
    else:
        print("\n".join(lines))


def _log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _ls(arguments: argparse.Namespace) -> int:
    from agent.fleet.link import SUMMARY

    with _link(arguments, SUMMARY) as link:
        if arguments.wait:
            link.wait(lambda: False, arguments.wait)
        while True:
            rows = [device.row() for device in link.known()]
            if arguments.watch and not arguments.json:
                print("\x1b[2J\x1b[H", end="")
            _show_document(arguments, {"devices": rows}, _table(rows))
            if not arguments.watch:
                return 0
            sys.stdout.flush()
            time.sleep(2.0)


def _table(rows: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    """Columns as wide as the terminal allows; what is unknown is a dash."""
    width = shutil.get_terminal_size((160, 40)).columns
    yield "".join(name.ljust(size) for name, size in COLUMNS.items())[:width].rstrip()
    for row in rows:
        cells = ("-" if row[name] is None else _cell(row[name]) for name in COLUMNS)
        yield "".join(cell[: size - 1].ljust(size) for cell, size in zip(cells, COLUMNS.values(), strict=True))[
            :width
        ].rstrip()
    yield f"{len(rows)} devices, {sum(row['state'] == 'online' for row in rows)} online"
    if any(row["state"] == "online" and row["spool"] is None for row in rows):
        yield "some have not sent their figures yet, which they do each minute: --wait 65, or --watch"


def _cell(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _show(arguments: argparse.Namespace) -> int:
    with _link(arguments, device=arguments.device) as link:
        device = link.device(arguments.device)
        if not device.raw and device.status is None:
            raise ConfigError(f"{arguments.device}: never heard of", remedy="`tailkeeper fleet ls` lists the devices")
        records = {"status": device.status, "info": device.info, "config": device.config, "stats": device.stats}
        document = {name: record.model_dump(mode="json") if record else None for name, record in records.items()}
    _show_document(arguments, {"device": arguments.device, **document}, [json.dumps(document, indent=2)])
    return 0


def _config_get(arguments: argparse.Namespace) -> int:
    from agent.fleet import Target, get
    from agent.fleet.link import CONFIG

    target = Target.parse(arguments.target)
    with _link(arguments, CONFIG) as link:
        wanted = get(link, target)
        report = link.device(target.owner).config if target.level == "device" else None
    reported = report.model_dump(mode="json") if report else None
    document = {"target": arguments.target, "desired": wanted.model_dump(mode="json"), "reported": reported}
    _show_document(arguments, document, [json.dumps(document, indent=2)])
    return 0


def _config_set(arguments: argparse.Namespace) -> int:
    from agent.fleet import Target, put
    from agent.fleet.config import parse_changes
    from agent.fleet.link import CONFIG

    target = Target.parse(arguments.target)
    with _link(arguments, CONFIG) as link:
        wanted = put(link, target, parse_changes(arguments.changes), replace=arguments.replace)
        device = link.device(target.owner)
        answered = link.wait(
            lambda: bool(device.config and target.seen(device.config) >= wanted.version), arguments.wait
        )
        errors = [e.model_dump() for e in device.config.errors if e.version == wanted.version] if device.config else []
    document = {"target": arguments.target, "version": wanted.version, "answered": answered, "errors": errors}
    lines = [f"version {wanted.version} published", *(f"refused: {e['path']}: {e['msg']}" for e in errors)]
    _show_document(arguments, document, [*lines, "in force"] if answered and not errors else lines)
    return int(bool(errors))


def _config_diff(arguments: argparse.Namespace) -> int:
    from agent.fleet import differences
    from agent.fleet.link import CONFIG

    with _link(arguments, CONFIG) as link:
        rows = differences(link, arguments.device)
    lines = [f"{row['key']}: desired {row['desired']!r}, reported {row['reported']!r}" for row in rows]
    _show_document(arguments, {"device": arguments.device, "differences": rows}, lines or ["no difference"])
    return 0


def _command(arguments: argparse.Namespace) -> int:
    from agent.fleet import send
    from agent.fleet.command import order
    from agent.fleet.config import parse_changes

    def told(state: CommandState) -> None:
        progress = "" if state.progress is None else f" {state.progress:.0%}"
        _log(f"{state.status} {state.step or ''}{progress}".strip())

    with _link(arguments, device=arguments.device) as link:
        args = parse_changes(arguments.arguments)
        command = order(link, arguments.op, args, by=getpass.getuser(), expires_s=arguments.expires)
        state = send(link, arguments.device, command, wait_s=arguments.wait, told=told)
    document = {"device": arguments.device, "cmd_id": command.cmd_id, "state": state and state.model_dump(mode="json")}
    end = (
        f"{state.status}{f': {state.reason}' if state.reason else ''}"
        if state
        else "no answer yet; it stays until it expires"
    )
    details = [json.dumps(state.result, indent=2)] if state and state.result else []
    _show_document(arguments, document, [end, *details])
    return int(state is None or state.status != "successful")


def _rollout_config(arguments: argparse.Namespace) -> int:
    from agent.fleet.config import parse_changes

    with _link(arguments) as link:
        plan = _plan(arguments, link, values=parse_changes(arguments.changes))
        return _roll_out(arguments, link, plan, arguments.plan)


def _rollout_model(arguments: argparse.Namespace) -> int:
    from agent.fleet.bundle import update_of

    update = update_of(arguments.bundle, url=arguments.url, force=arguments.force)
    with _serving(arguments, arguments.bundle if update.stream else None) as link:
        return _roll_out(arguments, link, _plan(arguments, link, update=update), arguments.plan)


def _rollout_resume(arguments: argparse.Namespace) -> int:
    from agent.fleet import Plan

    plan = Plan.load(arguments.plan)
    if arguments.retry:
        kept = {name: outcome for name, outcome in plan.outcomes.items() if outcome.fate != "failed"}
        plan = plan.model_copy(update={"outcomes": kept})
    streamed = plan.update is not None and plan.update.stream
    if streamed and not arguments.bundle:
        raise ConfigError("the model goes through the broker", remedy="name it with --bundle")
    with _serving(arguments, arguments.bundle if streamed else None) as link:
        return _roll_out(arguments, link, plan, arguments.plan)


@contextlib.contextmanager
def _serving(arguments: argparse.Namespace, bundle: Path | None) -> Iterator[Link]:
    """A link that also serves a model's blocks, where there is one to serve."""
    from agent.fleet.blocks import BlockServer
    from agent.fleet.link import EVERYTHING

    link = _link(arguments, (*EVERYTHING, "up/blk"))
    server = BlockServer(link, bundle) if bundle else contextlib.nullcontext()
    with link, server:
        yield link


def _plan(arguments: argparse.Namespace, link: Link, **what: Any) -> Plan:
    from agent.fleet import Plan
    from agent.fleet.plan import Limits, stages

    devices = [device for device in link.known() if not arguments.group or arguments.group in device.groups]
    online = [device.id for device in devices if device.status and device.status.state == "online"]
    if len(online) < len(devices):
        _log(f"left out: {len(devices) - len(online)} devices that are not online")
    if not online:
        raise ConfigError("no device is online", remedy="`tailkeeper fleet ls` shows them")
    limits = Limits(
        failures=arguments.failures, drift=arguments.drift, answer_s=arguments.answer, soak_s=arguments.soak
    )
    return Plan(stages=stages(online, arguments.canary, arguments.percent), limits=limits, **what)


def _roll_out(arguments: argparse.Namespace, link: Link, plan: Plan, file: Path) -> int:
    from agent.fleet import Rollout

    if getattr(arguments, "dry_run", False):
        document = {"stages": [stage.model_dump() for stage in plan.stages], "limits": plan.limits.model_dump()}
        _show_document(arguments, document, [f"{stage.name}: {len(stage.devices)} devices" for stage in plan.stages])
        return 0
    try:
        plan = Rollout(link, plan, file, by=getpass.getuser(), told=_log).run()
    except (KeyboardInterrupt, TailkeeperError):
        _log(f"go on with `tailkeeper fleet rollout resume {file}`")
        raise
    outcomes = {name: outcome.model_dump() for name, outcome in plan.outcomes.items()}
    document = {"state": plan.state, "reason": plan.reason, "plan": str(file), "devices": outcomes}
    _show_document(arguments, document, [f"{plan.state}{f': {plan.reason}' if plan.reason else ''}"])
    return int(plan.state != "done")
