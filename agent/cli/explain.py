"""``tailkeeper model info``: what a bundle or a bare ONNX file is, and what is assumed where it does not say."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.cli.shell import Commands, command, print_json

if TYPE_CHECKING:
    from agent.detector import Detector

LISTED = 12
"""Classes that are named; --json has all."""


def add_command(model: Commands) -> None:
    """Add it to the group ``model``."""
    command(model, "info", _info, "explain a bundle or an ONNX file", json=True).add_argument("model", type=Path)


def _info(arguments: argparse.Namespace) -> int:
    from agent.bundle import SIGNATURE_FILE
    from agent.detector import Detector

    detector = Detector(arguments.model, floor=0.02, threads=1)
    manifest = detector.manifest
    document = {
        "model_id": detector.model_id,
        "sha256": detector.sha256,
        "input": list(detector.input_size),
        "output": detector.layout,
        "classes": list(detector.classes),
        "counts": detector.counts,
        "odds": detector.odds,
        "bundle": manifest is not None,
        "signed": manifest is not None and (arguments.model / SIGNATURE_FILE).exists(),
        "manifest": manifest.model_dump(mode="json", exclude={"golden", "classes", "counts"}) if manifest else {},
        "golden": len(manifest.golden) if manifest else 0,
        "embedding": detector.embedding.model_dump() if detector.embedding else None,
    }
    if arguments.json:
        print_json(document)
    else:
        print("\n".join(_lines(detector, document)))
    return 0


def _lines(detector: Detector, document: dict[str, Any]) -> Iterator[str]:
    facts = document["manifest"]
    kind = f"bundle, {'signed' if document['signed'] else 'not signed'}" if facts else "bare ONNX"
    yield f"{document['model_id']}: {kind}, sha256 {detector.sha256}"
    yield f"input {detector.input_size[0]} x {detector.input_size[1]}, output {detector.layout}"
    yield f"{len(detector.classes)} classes: {_listed(detector.classes)}"
    yield _rarity(detector)
    yield f"odds of a confidence x {detector.odds:g}{'' if facts else ', the default'}"
    golden = document["golden"]
    yield f"{golden} golden frames{'' if golden else ': a device cannot tell whether it sees what the workstation saw'}"
    yield f"embedding of {detector.embedding.length} values" if detector.embedding else "no embedding"
    yield from (f"{key}: {facts[key]}" for key in ("counter", "created", "licence") if facts.get(key))
    yield from (f"{key}: {value}" for key, value in facts.get("source", {}).items())
    if facts:
        yield _verdict(facts["evaluation"])


def _rarity(detector: Detector) -> str:
    """By which counts selection weighs the classes."""
    from agent.export.comparison import tail_of

    counts = detector.counts
    if counts is None:
        return "training counts unknown: what the cameras see is counted instead"
    rare = [f"{detector.classes[cls]} {counts[cls]}" for cls in sorted(tail_of(counts), key=lambda cls: counts[cls])]
    whose = "" if detector.manifest else ", of COCO train2017"
    return f"training counts known{whose}; rarest: {_listed(rare)}"


def _listed(names: Any) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def _verdict(evaluation: dict[str, Any] | None) -> str:
    if not evaluation:
        return "never compared with another model: `tailkeeper model compare`"
    groups = [
        f"{name} {row['old']:.3f} -> {row['new']:.3f}"
        for name, row in evaluation.get("groups", {}).items()
        if row["old"] is not None
    ]
    against = evaluation.get("against", {}).get("model", "?")
    return f"{evaluation.get('verdict')} against {against} on {evaluation.get('frames')} frames: {', '.join(groups)}"
