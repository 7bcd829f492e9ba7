"""Commands that try things out: the whole product for a minute, a policy on a recording."""

from __future__ import annotations

import argparse
import dataclasses
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from agent.cli.shell import Commands, command, log, print_json, progress, rate, seconds, share, stop_on_signals
from agent.errors import ConfigError

if TYPE_CHECKING:
    from agent.replay import Compared, Replayed


def add_commands(commands: Commands) -> None:
    """Add ``demo``, ``replay`` and ``bench``."""
    _add_demo(commands)
    _add_replay(commands)
    _add_bench(commands)


def _add_demo(commands: Commands) -> None:
    text = "broker, agent and collector in one go, on what ships with the project"
    parser = command(commands, "demo", _demo, text, json=True)
    _add_input(parser)
    parser.add_argument("--seconds", type=seconds, default=60.0, metavar="N", help="how long (default 60)")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="empty folder for what it makes (default: a new one below ./out)"
    )
    parser.add_argument(
        "--port", type=int, default=0, metavar="P", help="the embedded broker's port (default: a free one)"
    )


def _add_input(parser: argparse.ArgumentParser) -> None:
    """What is looked at, and with which model."""
    parser.add_argument(
        "--source", default="", metavar="S", help="video, folder of images, camera or URL (default: a rendered street)"
    )
    parser.add_argument(
        "--model", type=Path, metavar="M", help="bundle folder or ONNX file (default: the street's own YOLO26n)"
    )


def _demo(arguments: argparse.Namespace) -> int:
    from agent.demo import DEMO_CONFIG, run_demo

    out = arguments.out or Path("out") / datetime.now().strftime("demo-%Y%m%d-%H%M%S")
    log(f"demo configuration: {DEMO_CONFIG.name} (budget and windows made for a minute)")
    summary = run_demo(
        source=arguments.source,
        model=arguments.model,
        seconds=arguments.seconds,
        out=out,
        port=arguments.port,
        stop=stop_on_signals(),
        progress=progress,
    )
    progress("")
    if arguments.json:
        print_json(dataclasses.asdict(summary))
    else:
        print(summary.text())
    return 0


def _add_replay(commands: Commands) -> None:
    text = "run selection over a recording at virtual time, upload nothing"
    parser = command(commands, "replay", _replay, text, config=True, json=True)
    parser.add_argument("source", metavar="SOURCE", help="video, folder of images or world:...")
    parser.add_argument("--model", type=Path, required=True, metavar="M", help="bundle folder or ONNX file")
    parser.add_argument("--budget", type=share, metavar="B", help="share of the considered frames, 0 to 1")
    parser.add_argument("--fps", type=rate, metavar="R", help="frames considered per second of media time; 0: all")
    parser.add_argument("--seed", type=int, metavar="N", help="seed of the random draws")
    parser.add_argument(
        "--compare",
        nargs=2,
        type=Path,
        metavar=("A.toml", "B.toml"),
        help="two policies side by side in one pass of the model",
    )


def _replay(arguments: argparse.Namespace) -> int:
    from agent.replay import compare, replay

    if arguments.compare and arguments.config:
        raise ConfigError("--config and --compare exclude each other", remedy="name both policies after --compare")
    given = {name: getattr(arguments, name) for name in ("budget", "fps", "seed")}
    given |= {"stop": stop_on_signals(), "progress": progress}
    result: Replayed | Compared
    if arguments.compare:
        result = compare(arguments.source, arguments.model, tuple(arguments.compare), **given)
    else:
        result = replay(arguments.source, arguments.model, config=arguments.config, **given)
    progress("")
    if arguments.json:
        print_json(result.document())
    else:
        print(result.text())
    return 0


def _add_bench(commands: Commands) -> None:
    text = "how fast this device is: the bare inference and the whole pipeline, alternately in one run"
    parser = command(commands, "bench", _bench, text, json=True)
    _add_input(parser)
    parser.add_argument(
        "--compare", type=Path, metavar="BUNDLE", help="another model: its speed, and how far it agrees"
    )
    parser.add_argument("--seconds", type=seconds, default=20.0, metavar="N", help="how long (default 20)")
    parser.add_argument(
        "--threads", type=int, default=0, choices=range(257), metavar="T", help="of one inference (default: all cores)"
    )


def _bench(arguments: argparse.Namespace) -> int:
    from agent.bench import run_bench

    result = run_bench(
        source=arguments.source,
        model=arguments.model,
        compare=arguments.compare,
        threads=arguments.threads,
        seconds=arguments.seconds,
        stop=stop_on_signals(),
        progress=progress,
    )
    progress("")
    if arguments.json:
        print_json(result.document())
    else:
        print(result.text())
    return 0
