"""``tailkeeper model compare`` and ``calibrate``: what human labels say of a model."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agent.cli.shell import Commands, command, print_json

SIGN = "the bundle was signed: sign it again with `tailkeeper model sign`"


def add_commands(model: Commands) -> None:
    """Add both to the group ``model``."""
    text = "is a new model better than the old one, and on the tail? (needs the export extra)"
    parser = command(model, "compare", _compare, text, json=True)
    parser.add_argument("old", type=Path, metavar="OLD", help="checkpoint, ONNX file or bundle")
    parser.add_argument("new", type=Path, metavar="NEW", help="the same; the verdict goes into a bundle's manifest")
    parser.add_argument("--draws", type=int, default=1000, metavar="N", help="of the bootstrap (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the draws (default %(default)s)")
    _add_version(parser)
    text = "fit a bundle's calibration to verified labels (needs the export extra)"
    parser = command(model, "calibrate", _calibrate, text, json=True)
    parser.add_argument("bundle", type=Path)
    _add_version(parser)


def _add_version(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, metavar="VERSION", help="data set version, or a data.yaml")
    parser.add_argument("--split", default="test", help="frames that nothing was trained on (default %(default)s)")


def _compare(arguments: argparse.Namespace) -> int:
    from agent.export.bundle import amend
    from agent.export.compare import compare_models
    from agent.export.sheet import read_sheet

    sheet = read_sheet(arguments.data)
    with contextlib.redirect_stdout(sys.stderr):  # Ultralytics talks
        report = compare_models(
            arguments.old, arguments.new, sheet, arguments.split, draws=arguments.draws, seed=arguments.seed
        )
    written = arguments.new.is_dir()
    signed = written and amend(arguments.new, evaluation=report)
    document = {"old": str(arguments.old), "new": str(arguments.new), "written": written, "sign_again": signed}
    if arguments.json:
        print_json(document | report)
    else:
        print("\n".join(_compared(arguments, report, written, signed)))
    return 0


def _compared(arguments: argparse.Namespace, report: dict[str, Any], written: bool, signed: bool) -> Iterator[str]:
    yield f"{arguments.new.name} against {arguments.old.name} on {report['frames']} frames: {report['verdict']}"
    rows = [*report["groups"].items()]
    rows += [(f"{name} ({row['objects']})", row) for name, row in report["classes"].items() if row["old"] is not None]
    for name, row in rows:
        if row["old"] is None:
            yield f"  {name:<24} no objects in these frames"
        else:
            gain = f"{row['new'] - row['old']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"
            yield f"  {name:<24} {row['old']:.3f} -> {row['new']:.3f}  {gain}"
    if not written:
        yield f"{arguments.new} is no bundle: the verdict is kept nowhere"
    if signed:
        yield SIGN


def _calibrate(arguments: argparse.Namespace) -> int:
    from agent.bundle import Calibration
    from agent.export.bundle import amend
    from agent.export.calibrate import calibrate
    from agent.export.sheet import read_sheet

    found = calibrate(arguments.bundle, read_sheet(arguments.data), arguments.split)
    signed = amend(arguments.bundle, calibration=Calibration(odds=found.odds))
    document = {"bundle": str(arguments.bundle), "odds": found.odds, "before": found.before, "rows": found.rows}
    document |= {"loss": found.loss, "loss_before": found.loss_before, "sign_again": signed}
    if arguments.json:
        print_json(document)
        return 0
    print(f"odds x {found.odds:g} (was {found.before:g}), fitted to {found.rows} rows")
    print(f"log loss {found.loss_before:.4f} -> {found.loss:.4f}")
    if signed:
        print(SIGN)
    return 0
