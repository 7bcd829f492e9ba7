"""From a signed bundle on the operator's disk to the command that rolls it out."""

from __future__ import annotations

import base64
from pathlib import Path

from agent.bundle import MANIFEST_FILE, SIGNATURE_FILE, read_bundle
from agent.errors import ModelError
from agent.wire import ModelUpdate


def update_of(bundle: Path, *, url: str = "", force: bool = False) -> ModelUpdate:
    """The arguments of ``model_update`` for this bundle; without a URL its model goes through the broker.

    Raises ModelError for a bundle that is damaged, not signed, or was found degraded and is not forced.
    """
    manifest = read_bundle(bundle).manifest
    signature = bundle / SIGNATURE_FILE
    if manifest is None:
        raise ModelError(f"{bundle} is a bare ONNX", remedy="make a bundle with `tailkeeper model export`")
    if not signature.exists():
        raise ModelError(f"{bundle} is not signed", remedy="sign it with `tailkeeper model sign`")
    verdict = str((manifest.evaluation or {}).get("verdict", ""))
    if "degraded" in verdict and not force:
        raise ModelError(f"{manifest.model_id}: `model compare` says {verdict}", remedy="--force rolls it out anyway")
    return ModelUpdate(
        model_id=manifest.model_id,
        url=url,
        stream=not url,
        size=manifest.size,
        sha256=manifest.sha256,
        manifest=base64.b64encode((bundle / MANIFEST_FILE).read_bytes()).decode(),
        signature=signature.read_text("ascii").strip(),
    )
