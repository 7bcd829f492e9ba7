"""`tailkeeper model compare`: a new model against the one it shall replace, on frames that nothing was trained on."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from agent.bundle import MODEL_FILE, read_bundle
from agent.export.comparison import compare, tail_of
from agent.export.sheet import Sheet
from agent.export.validation import judge


def compare_models(old: Path, new: Path, sheet: Sheet, split: str, *, draws: int, seed: int) -> dict[str, Any]:
    """The report of a comparison, as it stands in a manifest (`evaluation`).

    Models are checkpoints, ONNX files or bundles. The tail is the rarest third of the classes by the new model's
    training counts, where its manifest has them, else by the labels of the version's own `train`. Raises ModelError
    for a model that does not detect the version's classes, ConfigError for a version without the split.
    """
    tail = tail_of(_counts(new) or sheet.counts())
    before, after = (judge(model, sheet, split) for model in (old, new))
    report = compare(before, after, len(sheet.names), tail, draws=draws, seed=seed)
    return report.document(sheet.names) | {
        "against": {"model": old.name, "sha256": _sha256(old)},
        "data": {"version": sheet.file.parent.name, "split": split, "sha256": sheet.digest(split)},
    }


def _counts(model: Path) -> tuple[int, ...] | None:
    """Training counts of a bundle's manifest."""
    manifest = read_bundle(model).manifest if model.is_dir() else None
    return manifest.counts if manifest else None


def _sha256(model: Path) -> str:
    return hashlib.sha256((model / MODEL_FILE if model.is_dir() else model).read_bytes()).hexdigest()
