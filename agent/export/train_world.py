"""Train the model of the demo world from scratch and write its bundle.

    python -m agent.export.train_world --work FOLDER            render, train, evaluate, write the bundle
    python -m agent.export.train_world --work FOLDER --resume   go on from the last checkpoint
    python -m agent.export.train_world --work FOLDER --only bundle   evaluate and write again

Rendered frames and checkpoints stay in FOLDER and are used again. An hour on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

from agent.export.finish import Trained, finish
from agent.export.frames import HELD_OUT_SEEDS, PER_SEED, TRAIN_SEEDS, render_set
from agent.world.classes import NAMES

IMAGE_SIZE = 320
BUNDLE = Path(__file__).parents[1] / "world" / "model"


def main(arguments: list[str] | None = None) -> int:
    """Run the stages that were asked for."""
    options = _options(arguments)
    work: Path = options.work.resolve()
    workers = options.workers or os.cpu_count() or 1
    counts = render_set(work / "train", TRAIN_SEEDS, options.streets, workers)
    render_set(work / "val", HELD_OUT_SEEDS, options.val_streets, workers)
    sys.stdout.write(f"labelled objects: {json.dumps(counts)}\n")
    if options.only in ("all", "train"):
        train(work, options)
    if options.only in ("all", "bundle"):
        trained = Trained(
            checkpoint=work / "run" / "weights" / "last.pt",
            counts=tuple(counts[name] for name in NAMES),
            frames=options.streets * PER_SEED,
            streets=options.streets,
            plan=f"{options.epochs} epochs at 320 x 192, AdamW, batch 16, about an hour on two CPU cores.",
        )
        finish(trained, work, options.out, options.model_id, options.counter, _now())
    return 0


def train(work: Path, options: argparse.Namespace) -> None:
    """Train YOLO26n from its architecture file alone, or go on with it; checkpoints go to `work`/run/weights."""
    from ultralytics import YOLO, settings

    settings.update({"sync": False})
    sheet = write_sheet(work)
    last = work / "run" / "weights" / "last.pt"
    resume = options.resume and last.exists()
    model = YOLO(str(last) if resume else "yolo26n.yaml")
    model.add_callback("on_train_start", partial(_use_threads, options.threads))
    model.train(**({"resume": True} if resume else recipe(sheet, options.epochs)))


def write_sheet(work: Path) -> Path:
    """Ultralytics' description of a folder with `train` and `val`."""
    sheet = work / "world.yaml"
    names = "".join(f"  {number}: {name}\n" for number, name in enumerate(NAMES))
    sheet.write_text(f"path: {work}\ntrain: train/images\nval: val/images\nnames:\n{names}")
    return sheet


def recipe(sheet: Path, epochs: int) -> dict[str, Any]:
    """Arguments of `YOLO.train`; the run goes beside the sheet.

    Frames are half the camera's size and keep its shape (`rect`), which also leaves mosaics out.
    """
    return {
        "data": str(sheet), "project": str(sheet.parent), "name": "run", "exist_ok": True, "plots": False,
        "save_period": 1, "epochs": epochs, "patience": 0, "imgsz": IMAGE_SIZE, "rect": True, "batch": 16, "nbs": 16,
        "nms": False, "cache": "ram", "device": "cpu", "workers": 0, "amp": False, "pretrained": False,
        "deterministic": True, "optimizer": "AdamW", "lr0": 0.002, "lrf": 0.02, "cos_lr": True, "warmup_epochs": 0.5,
        "weight_decay": 0.0005, "mosaic": 0.0, "translate": 0.05, "scale": 0.15, "fliplr": 0.5, "hsv_h": 0.015,
        "hsv_s": 0.3, "hsv_v": 0.2, "seed": 0,
    }  # fmt: skip


def _use_threads(count: int, _trainer: Any) -> None:
    """Ultralytics leaves one core free, which on two cores is half of them."""
    import torch

    torch.set_num_threads(count or os.cpu_count() or 1)


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m agent.export.train_world",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for frames, checkpoints and logs; kept")
    parser.add_argument("--out", type=Path, default=BUNDLE, help="bundle folder to write (default: the shipped one)")
    parser.add_argument("--model-id", default="world-yolo26n", help="name in the manifest (default: %(default)s)")
    parser.add_argument("--counter", type=int, default=1, help="manifest counter (default: %(default)s)")
    parser.add_argument("--streets", type=int, default=140, help="training streets, 40 frames each (default: 140)")
    parser.add_argument("--val-streets", type=int, default=8, help="held-out streets watched while it trains")
    parser.add_argument("--epochs", type=int, default=15, help="default: %(default)s")
    parser.add_argument("--workers", type=int, default=0, help="rendering processes; 0 = one per core")
    parser.add_argument("--threads", type=int, default=0, help="training threads; 0 = one per core")
    parser.add_argument("--resume", action="store_true", help="continue from the last checkpoint in the folder")
    parser.add_argument("--only", choices=("all", "render", "train", "bundle"), default="all", help="stages to run")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
