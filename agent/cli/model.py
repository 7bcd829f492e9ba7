"""``tailkeeper model``: keys, signatures, what a bundle says, and the models of this device."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.cli import evaluation, explain
from agent.cli.shell import Commands, command, group
from agent.clock import SystemClock, rfc3339
from agent.errors import ConfigError
from agent.settings import load

if TYPE_CHECKING:
    from agent.export.bundle import Facts
    from agent.models import ModelStore


def add_commands(commands: Commands) -> None:
    """Add ``model``."""
    model = group(commands, "model", "model bundles: export, keys and signatures, this device's models")
    _add_export(model)
    evaluation.add_commands(model)
    command(model, "keygen", _keygen, "make a key pair for signing bundles", json=True).add_argument(
        "file", type=Path, help="where the private key goes; keep it off the devices"
    )
    parser = command(model, "sign", _sign, "sign a bundle", json=True)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--key", type=Path, required=True, metavar="F", help="private key from `model keygen`")
    parser = command(model, "verify", _verify, "verify a bundle and its signature", config=True, json=True)
    parser.add_argument("bundle", type=Path)
    parser.add_argument(
        "--trust", action="append", default=[], metavar="KEY", help="public key (default: of the config)"
    )
    explain.add_command(model)
    command(model, "ls", _ls, "the models of this device", config=True, json=True)
    parser = command(model, "activate", _activate, "make a model of this device the active one", config=True, json=True)
    parser.add_argument("name", help="as `model ls` shows it")
    command(model, "rollback", _rollback, "go back to the model before", config=True, json=True)


def _add_export(model: Commands) -> None:
    text = "export an Ultralytics checkpoint to a bundle (needs the export extra)"
    parser = command(model, "export", _export, text, json=True)
    parser.add_argument("checkpoint", type=Path, metavar="CKPT")
    parser.add_argument("--out", type=Path, metavar="DIR", help="bundle folder (default: named like the checkpoint)")
    parser.add_argument(
        "--imgsz", type=_side, default=640, metavar="N", help="side of the input in pixels (%(default)s)"
    )
    parser.add_argument("--id", metavar="ID", help="model id (default: the checkpoint's name)")
    parser.add_argument("--counter", type=int, help="must grow with each model of a fleet (default: the time in s)")
    parser.add_argument(
        "--embedding", action="store_true", help="also one vector per frame, by which selection compares whole frames"
    )
    smaller = parser.add_mutually_exclusive_group()
    smaller.add_argument("--half", action="store_true", help="16 bits per number: half the size")
    smaller.add_argument(
        "--int8",
        action="store_true",
        help="8 bits, calibrated on --samples: see with `tailkeeper bench --compare` first",
    )
    parser.add_argument(
        "--data", type=Path, metavar="F", help="data.yaml of the training set: labelled objects per class"
    )
    parser.add_argument("--samples", type=Path, metavar="DIR", help="pictures to check the export on")


def _side(text: str) -> int:
    if not text.isdigit() or int(text) % 32 or not 32 <= int(text) <= 4096:
        raise argparse.ArgumentTypeError(f"{text!r} is not a multiple of 32 from 32 to 4096")
    return int(text)


def _show(arguments: argparse.Namespace, document: dict[str, Any], lines: Iterable[str]) -> int:
    print(json.dumps(document, default=str, ensure_ascii=False) if arguments.json else "\n".join(lines))
    return 0


def _export(arguments: argparse.Namespace) -> int:
    from agent.camera.recorded import images_in
    from agent.export.bundle import export_bundle
    from agent.export.checkpoint import fetch

    with contextlib.redirect_stdout(sys.stderr):
        fetch(arguments.checkpoint)
    facts = _facts(arguments)
    out = arguments.out or arguments.checkpoint.with_suffix("")
    with contextlib.redirect_stdout(sys.stderr):  # Ultralytics talks
        manifest, worst = export_bundle(
            arguments.checkpoint,
            out,
            arguments.imgsz,
            facts,
            embedding=arguments.embedding,
            half=arguments.half,
            int8=arguments.int8,
            samples=images_in(arguments.samples) if arguments.samples else (),
        )
    document = manifest.model_dump(mode="json", exclude={"golden"}) | {"out": out, "difference": worst}
    lines = [
        f"{manifest.model_id}: {len(manifest.classes)} classes, {manifest.size} bytes in {out}",
        f"confidences differ from the checkpoint's by at most {worst:.4f}",
        _counted(arguments.data, manifest.counts),
    ]
    return _show(arguments, document, lines)


def _facts(arguments: argparse.Namespace) -> Facts:
    """What the command line says of a checkpoint."""
    from agent.export.bundle import Facts

    clock, content = SystemClock(), arguments.checkpoint.read_bytes()
    return Facts(
        model_id=arguments.id or arguments.checkpoint.stem,
        counter=arguments.counter if arguments.counter is not None else clock.wall_ns() // 1_000_000_000,
        created=rfc3339(clock.wall_ns()),
        source={"checkpoint": arguments.checkpoint.name, "sha256": sha256(content).hexdigest()},
        licence="AGPL-3.0 (Ultralytics)",
        counts=_training_counts(arguments.checkpoint, arguments.data) if arguments.data else None,
    )


def _counted(data: Path | None, counts: tuple[int, ...] | None) -> str:
    if data:
        return f"training counts of {data}"
    known = "of COCO train2017" if counts else "unknown"
    return f"training counts {known}: name the training set with --data"


def _training_counts(checkpoint: Path, data: Path) -> tuple[int, ...]:
    """Labelled objects per class in the training set of a checkpoint."""
    from agent.export.checkpoint import check_classes, open_detector
    from agent.export.sheet import read_sheet

    sheet = read_sheet(data)
    names = open_detector(checkpoint).names
    check_classes(tuple(names[number] for number in sorted(names)), sheet, str(checkpoint))
    return sheet.counts()


def _keygen(arguments: argparse.Namespace) -> int:
    from agent.models import keygen

    public = keygen(arguments.file)
    lines = [f"private key in {arguments.file}", "on the devices, under [model]:", f'trusted_keys = ["{public}"]']
    return _show(arguments, {"file": str(arguments.file), "public": public}, lines)


def _sign(arguments: argparse.Namespace) -> int:
    from agent.models import sign

    public = sign(arguments.bundle, arguments.key)
    return _show(arguments, {"bundle": str(arguments.bundle), "public": public}, [f"signed; public key {public}"])


def _verify(arguments: argparse.Namespace) -> int:
    from agent.bundle import MANIFEST_FILE, SIGNATURE_FILE, read_bundle
    from agent.models import verify

    manifest = read_bundle(arguments.bundle).manifest
    if manifest is None:
        raise ConfigError(f"{arguments.bundle} is a bare ONNX: it has no signature", remedy="name a bundle folder")
    signature = arguments.bundle / SIGNATURE_FILE
    trusted = arguments.trust or load(arguments.config).settings.model.trusted_keys
    text = signature.read_text("ascii") if signature.exists() else ""
    key = verify((arguments.bundle / MANIFEST_FILE).read_bytes(), text, trusted)
    document = {"model_id": manifest.model_id, "counter": manifest.counter, "sha256": manifest.sha256, "key": key}
    return _show(arguments, document, [f"{manifest.model_id} (counter {manifest.counter}): signed by {key}"])


def _store(arguments: argparse.Namespace) -> ModelStore:
    from agent.models import ModelStore

    settings = load(arguments.config).settings
    return ModelStore(settings.device.state_dir / "models", settings.model.path)


def _ls(arguments: argparse.Namespace) -> int:
    rows = _store(arguments).listing()
    lines = (f"{row['role']:<10} {row.get('model_id', '?'):<24} {row.get('counter')}  {row['path']}" for row in rows)
    return _show(arguments, {"models": rows}, lines)


def _activate(arguments: argparse.Namespace) -> int:
    store = _store(arguments)
    store.activate(arguments.name)
    return _show(arguments, {"active": str(store.active)}, [f"{store.active}: runs from the service's next start"])


def _rollback(arguments: argparse.Namespace) -> int:
    path = _store(arguments).roll_back("the operator's word")
    return _show(arguments, {"active": str(path)}, [f"{path}: runs from the service's next start"])
