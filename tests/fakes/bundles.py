"""Signed bundles around tiny models, and the commands that roll them out."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

from agent.bundle import MANIFEST_FILE, MODEL_FILE, SIGNATURE_FILE, Embedding, Golden, Input, Manifest
from agent.models import sign
from agent.wire import ModelUpdate
from tests.fakes.models import NAMES, a_model, end2end

ROWS = ((8, 8, 24, 24, 0.9, 1), (30, 30, 60, 60, 0.5, 0))
"""What the detector in `a_bundle` sees in every picture of 64 x 64."""


def a_bundle(
    folder: Path,
    *,
    counter: int = 1,
    model_id: str = "tiny",
    key: Path | None = None,
    classes: Sequence[str] = NAMES,
    golden: Sequence[Golden] = (),
    model: bytes | None = None,
    embedding: Embedding | None = None,
) -> Path:
    """A bundle of `model`, or of one that always sees `ROWS`; no two counters give the same file. Signed with `key`."""
    folder.mkdir(parents=True)
    content = model or a_model(end2end(ROWS), names=classes, metadata={"note": f"{model_id} {counter}"})
    (folder / MODEL_FILE).write_bytes(content)
    manifest = Manifest(
        model_id=model_id,
        counter=counter,
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        input=Input(w=64, h=64),
        output="end2end",
        classes=tuple(classes),
        golden=tuple(golden),
        embedding=embedding,
    )
    (folder / MANIFEST_FILE).write_text(manifest.model_dump_json())
    if key:
        sign(folder, key)
    return folder


def an_update(bundle: Path, *, url: str = "") -> ModelUpdate:
    """The arguments of the command that rolls this bundle out."""
    text = (bundle / MANIFEST_FILE).read_bytes()
    manifest = Manifest.model_validate_json(text)
    signature = bundle / SIGNATURE_FILE
    return ModelUpdate(
        model_id=manifest.model_id,
        url=url,
        stream=not url,
        size=manifest.size,
        sha256=manifest.sha256,
        manifest=base64.b64encode(text).decode(),
        signature=signature.read_text().strip() if signature.exists() else "",
    )
