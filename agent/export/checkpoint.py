"""Opening what Ultralytics wrote, and refusing what is no detector."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from agent.errors import ConfigError, ModelError
from agent.export.sheet import Sheet

REMEDY = "a .pt file that Ultralytics wrote after training a detector is needed"


def open_detector(file: Path, where: str = "") -> Any:
    """Ultralytics' model of a checkpoint or an ONNX file, which messages call `where`.

    Raises ConfigError without Ultralytics, and ModelError for a file that is no detector with a name for each class.
    """
    try:
        from ultralytics import YOLO
        from ultralytics.utils import LOGGER
    except ImportError:
        raise ConfigError("Ultralytics is not installed", remedy="pip install 'tailkeeper[export]'") from None
    if not sys.stderr.isatty():
        LOGGER.setLevel("WARNING")
    where = where or str(file)
    checkpoint = file.suffix == ".pt"
    try:
        yolo = YOLO(str(file)) if checkpoint else YOLO(str(file), task="detect")
        names = yolo.names
    except Exception as error:  # noqa: BLE001 - what torch raises for a damaged file is not documented
        reason = str(error).replace(str(file), where).strip().splitlines() or [type(error).__name__]
        raise ModelError(f"{where} is no checkpoint: {reason[0]}", remedy=REMEDY) from None
    if yolo.task != "detect":
        raise ModelError(f"{where} is a model for the task {yolo.task!r}", remedy="only detection models can be used")
    if checkpoint and len(names or ()) != (detected := int(yolo.model.model[-1].nc)):
        raise ModelError(f"{where} detects {detected} classes and names {len(names or ())}", remedy=REMEDY)
    return yolo


def fetch(ckpt: Path) -> None:
    """Have Ultralytics fetch a checkpoint of its own, like `yolo26n.pt`, where it is not there.

    Raises ConfigError where there is no such file and none to be had.
    """
    if ckpt.is_file():
        return
    what = f"{ckpt}: no such checkpoint"
    try:
        from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES, attempt_download_asset
    except ImportError:
        raise ConfigError(what, remedy="name a .pt file of Ultralytics") from None
    if str(ckpt) not in GITHUB_ASSETS_NAMES:
        raise ConfigError(what, remedy="name a .pt file of Ultralytics")
    try:
        attempt_download_asset(str(ckpt))
    except Exception as error:  # noqa: BLE001 - what a download raises is not documented
        what += f", and it cannot be fetched: {(str(error).splitlines() or [type(error).__name__])[0]}"
    if not ckpt.is_file():
        raise ConfigError(what, remedy="bring the file along")


def check_classes(names: tuple[str, ...], sheet: Sheet, where: str) -> None:
    """Raise ModelError unless the model's classes are the sheet's, in its order."""
    if names == sheet.names:
        return
    missing, surplus = set(sheet.names) - set(names), set(names) - set(sheet.names)
    parts = [
        f"{label} {', '.join(sorted(found)[:5])}{' ...' if len(found) > 5 else ''}"
        for label, found in (("without", missing), ("with", surplus))
        if found
    ]
    what = f"detects other classes than {sheet.file} names: {'; '.join(parts) or 'the same in another order'}"
    raise ModelError(f"{where} {what}", remedy="the classes and their order must be those of the data set")
