"""``tailkeeper dataset``: from the collector's store to labelling tools and back, then to a training set."""

from __future__ import annotations

import argparse
import os
import pwd
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.cli import need
from agent.cli.shell import Commands, command, group, log, part, print_json, print_table, progress
from agent.clock import SystemClock
from agent.errors import ConfigError
from agent.records import LANES
from agent.settings import load

if TYPE_CHECKING:
    from agent.collector import LabelStore
    from agent.dataset.formats import Format
    from agent.dataset.versions.build import Plan


def add_commands(commands: Commands) -> None:
    """Add ``dataset``."""
    dataset = group(commands, "dataset", "the collector's store and what becomes of it")
    command(dataset, "ls", _ls, "stored candidates (JSON lines with --json)", config=True, json=True)
    command(dataset, "stats", _stats, "candidates and labels in numbers", config=True, json=True)
    text = "the store in one HTML page: pictures, classes, errors, drift, devices, labels"
    parser = command(dataset, "report", _report, text, config=True, json=True)
    parser.add_argument("--out", type=Path, default=Path("report.html"), metavar="FILE", help="default: %(default)s")
    parser.add_argument("--model", type=Path, metavar="M", help="bundle or ONNX file, for what it was trained on")
    _add_export(dataset)
    _add_import(dataset)
    _add_build(dataset)
    parser = command(dataset, "verify", _verify, "prove that a version holds what people said", config=True, json=True)
    parser.add_argument("version", type=Path, metavar="VERSION", help="a folder that `dataset build` made")
    need.add_command(dataset)
    parser = command(dataset, "diff", _diff, "what one version has that another has not", json=True)
    parser.add_argument("version", type=Path, metavar="A")
    parser.add_argument("other", type=Path, metavar="B")


def _add_export(dataset: Commands) -> None:
    text = "the next batch of candidates for a labelling tool, near-duplicates left out; begun again, it goes on"
    parser = command(dataset, "export", _export, text, config=True, json=True)
    parser.add_argument("format", metavar="FORMAT", help="label-studio, cvat, coco or ultralytics")
    parser.add_argument("folder", type=Path, metavar="DIR", help="a new folder for this batch")
    parser.add_argument("--limit", type=_count, default=1000, metavar="N", help="tasks at most (%(default)s)")
    parser.add_argument("--lane", action="append", choices=LANES, help="only this lane (may be given again)")
    parser.add_argument("--newest", action="store_true", help="the newest first, not the lanes in turn by score")
    parser.add_argument("--all", action="store_true", help="also what was exported before and has no label")
    text = "data.yaml, bundle or list of names (default: as exported before, and what was served)"
    parser.add_argument("--classes", type=Path, metavar="F", help=text)
    parser.add_argument("--url", default="", metavar="PREFIX", help="where the store's images are served (no copies)")


def _add_import(dataset: Commands) -> None:
    text = "labels that people made with a tool, into the store; predictions are not taken"
    parser = command(dataset, "import", _import, text, config=True, json=True)
    text = "label-studio, cvat, coco or ultralytics; spool: candidates from a stick (`spool export`)"
    parser.add_argument("format", metavar="FORMAT", help=text)
    parser.add_argument("path", type=Path, metavar="PATH", help="what was exported")
    parser.add_argument("--who", default="", help="who labelled, where the tool's file does not say")
    parser.add_argument("--when", default="", metavar="TIME", help="when (RFC 3339), where it does not say")
    parser.add_argument("--classes", type=Path, metavar="F", help="names that a box may have (default: as exported)")
    parser.add_argument("--newest-wins", action="store_true", help="settle conflicts: these labels count from now on")


def _add_build(dataset: Commands) -> None:
    text = "the next version of the training set: the one before, what people labelled since, and declared folders"
    parser = command(dataset, "build", _build, text, config=True, json=True)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of versions")
    parser.add_argument(
        "--again", type=Path, metavar="CARD", help="as that card.json says, to prove that it can be done"
    )
    text = "data.yaml of real pictures that people labelled, or of a version of ours (may be given again)"
    parser.add_argument("--base", type=Path, action="append", default=[], metavar="F", help=text)
    parser.add_argument("--declared-by", default="", metavar="WHO", help="who says so (default: you)")
    parser.add_argument("--synthetic", type=Path, action="append", default=[], metavar="F", help="synthetic pictures")
    parser.add_argument("--synthetic-cap", type=part, default=0.2, metavar="P", help="share of train (%(default)s)")
    parser.add_argument(
        "--val-share", type=part, default=0.1, metavar="P", help="share of new candidates (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="draws train and val (%(default)s)")
    parser.add_argument("--classes", type=Path, metavar="F", help="of a first version without a base")
    parser.add_argument("--add-class", action="append", default=[], metavar="NAME", help="a class the parent lacks")


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _ls(arguments: argparse.Namespace) -> int:
    from agent.collector import listing

    rows = listing(load(arguments.config).require_store())
    if arguments.json:
        for row in rows:
            print_json(row)
    else:
        print_table(rows, ("cid", "device", "camera", "ts", "lane", "score", "bytes", "label"))
    return 0


def _open(arguments: argparse.Namespace) -> LabelStore:
    from agent.collector import LabelStore

    return LabelStore(load(arguments.config).require_store(), SystemClock())


def _format(name: str) -> Format:
    from agent.dataset.formats import FORMATS

    if name not in FORMATS:
        raise ConfigError(f"format {name!r} is not known", remedy=f"one of {', '.join(FORMATS)}")
    return FORMATS[name]


def _show(arguments: argparse.Namespace, document: dict[str, Any], lines: Iterable[str]) -> None:
    if arguments.json:
        print_json(document)
    else:
        print(*lines, sep="\n")


def _stats(arguments: argparse.Namespace) -> int:
    from agent.dataset.stats import stats

    with _open(arguments) as store:
        found = stats(store)
    lines = [f"candidates {found['candidates']} ({found['bytes'] / 1e6:.1f} MB)"]
    lines += [f"{key} {_counts(found[key])}" for key in ("labels", "verdicts", "people")]
    for key, title in (("lanes", "lane"), ("devices", "device"), ("classes", "class")):
        lines += [f"{title} {name}: {_counts(numbers)}" for name, numbers in found[key].items()]
    _show(arguments, found, lines)
    return 0


def _report(arguments: argparse.Namespace) -> int:
    from agent.dataset.report import report

    trained = None
    if arguments.model:
        from agent.detector import Detector

        detector = Detector(arguments.model, floor=0.02, threads=1)
        trained = dict(zip(detector.classes, detector.counts, strict=True)) if detector.counts else None
    with _open(arguments) as store:
        done = report(store, arguments.out, trained, SystemClock())
    errors = done["errors_per_frame"]
    said = f"{errors['mean']:.2f} ({errors['low']:.2f} to {errors['high']:.2f})" if errors else "unknown"
    lines = [f"candidates {done['candidates']}", f"errors a frame {said}", f"report {done['out']}"]
    _show(arguments, done, lines)
    return 0


def _counts(numbers: dict[str, int]) -> str:
    return ", ".join(f"{name} {n}" for name, n in numbers.items()) or "none"


def _export(arguments: argparse.Namespace) -> int:
    from agent.dataset.export import export
    from agent.dataset.names import names_in, read_names
    from agent.dataset.tasks import Choice

    form = _format(arguments.format)
    lanes = tuple(arguments.lane or LANES)
    choice = Choice(arguments.limit, lanes, again=arguments.all, newest=arguments.newest)
    with _open(arguments) as store:
        if not arguments.classes and not store.exports():
            log("classes: only those that models have served yet; --classes with a bundle or data.yaml names all")
        classes = read_names(arguments.classes) if arguments.classes else names_in(store)
        done = export(store, (arguments.format, form), arguments.folder, choice, classes, arguments.url, progress)
    lines = [
        f"tasks {done.tasks} in {done.folder}" if done.tasks else "nothing new to label",
        f"lanes {_counts(done.lanes)}",
        f"near-duplicates left out {done.twins}",
        *(f"unreadable {cid}" for cid in done.unreadable),
    ]
    _show(arguments, done.document(), lines)
    return 0


def _import(arguments: argparse.Namespace) -> int:
    from agent.dataset.labelling import take
    from agent.dataset.names import names_in, read_names
    from agent.dataset.tasks import task_of

    if arguments.format == "spool":
        return _bring(arguments)
    form = _format(arguments.format)
    with _open(arguments) as store:
        classes = read_names(arguments.classes) if arguments.classes else names_in(store)
        found = form.read(
            arguments.path, lambda cid: task_of(store.folder, cid), who=arguments.who, when=arguments.when
        )
        done = take(store, found, classes, newest_wins=arguments.newest_wins)
    for problem in done.problems:
        log(f"{problem.where}: {problem.what}; {problem.remedy}")
    lines = [
        f"labels {done.labels}, new {done.stored}, known before {done.known}",
        f"candidates now {_counts(done.states)}",
    ]
    lines += [f"conflict {cid}" for cid in done.conflicts] + [f"partial {cid}" for cid in done.partial]
    _show(arguments, done.document(), [*lines, f"problems {len(done.problems)}"])
    return 1 if done.problems and not done.stored + done.known else 0


def _bring(arguments: argparse.Namespace) -> int:
    from agent.collector import bring

    loaded = load(arguments.config)
    brought = bring(arguments.path, loaded.settings.collector, loaded.require_store(), SystemClock())
    for where, what in brought.problems.items():
        log(f"{where}: {what}")
    document = {**brought.counts, "problems": brought.problems}
    _show(arguments, document, [f"candidates {_counts(brought.counts)}"])
    return 1 if brought.problems and not brought.counts["stored"] + brought.counts["duplicate"] else 0


def _build(arguments: argparse.Namespace) -> int:
    from agent.dataset.versions.build import build

    with _open(arguments) as store:
        version = build(_plan(arguments), store, SystemClock(), progress)
    card = version.card
    lines = [f"version {version.folder}"]
    lines += [f"{split}: {sum(images.values())} pictures ({_counts(images)})" for split, images in card.images.items()]
    for name in ("withdrawn", "relabelled", "left_out", "moved"):
        lines += [f"{name.replace('_', ' ')} {len(getattr(card, name))}"] if getattr(card, name) else []
    if not card.images["val"]:
        log("nothing in val: a trainer wants some; raise --val-share, label more, or name a --base with val")
    _show(arguments, {"folder": version.folder, **card.model_dump(mode="json")}, lines)
    return 0


def _plan(arguments: argparse.Namespace) -> Plan:
    """From the command line, or from the card of a version that is to be made again."""
    from agent.dataset.names import read_names
    from agent.dataset.versions.build import Plan, plan_of
    from agent.dataset.versions.declared import Folder

    if arguments.again:
        return plan_of(arguments.again, arguments.out)
    who = arguments.declared_by or pwd.getpwuid(os.getuid()).pw_name
    return Plan(
        arguments.out,
        tuple(Folder(sheet, who) for sheet in arguments.base),
        tuple(Folder(sheet, who, "synthetic") for sheet in arguments.synthetic),
        arguments.synthetic_cap,
        arguments.val_share,
        arguments.seed,
        tuple(read_names(arguments.classes)) if arguments.classes else (),
        tuple(arguments.add_class),
    )


def _verify(arguments: argparse.Namespace) -> int:
    """Beside a store every label is compared with the person's word; elsewhere the version can only prove itself."""
    from agent.dataset.versions.record import read_version
    from agent.dataset.versions.verify import verify

    version = read_version(arguments.version)
    if load(arguments.config).settings.collector.store is None:
        problems, beside = verify(version), False
    else:
        with _open(arguments) as store:
            problems, beside = verify(version, store), True
    document = {"version": version.card.version, "samples": len(version.samples), "store": beside}
    lines = [f"{each.where}: {each.what}; {each.remedy}" for each in problems]
    compared = "labels as in the store" if beside else "no store here to compare the labels with"
    lines += [] if problems else [f"{version.card.version}: {len(version.samples)} samples proved, {compared}"]
    _show(arguments, {**document, "ok": not problems, "problems": [asdict(each) for each in problems]}, lines)
    return 1 if problems else 0


def _diff(arguments: argparse.Namespace) -> int:
    from agent.dataset.versions.diff import diff
    from agent.dataset.versions.record import read_version

    found = diff(read_version(arguments.version), read_version(arguments.other))
    lines = [f"{found['from']} to {found['to']}"]
    lines += [f"{name} {len(found[name])}" for name in ("added", "removed", "relabelled", "moved")]
    lines += [
        f"{name}: {', '.join(f'{k} {n:+d}' for k, n in change.items())}" for name, change in found["classes"].items()
    ]
    _show(arguments, found, lines)
    return 0
