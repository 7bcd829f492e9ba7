"""From the trained checkpoint to the shipped bundle: export, rounding, calibration, evaluation, card."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from agent.detector import Detector
from agent.export.bundle import FLOOR, Facts, golden_frames, write_bundle
from agent.export.card import LICENCE, Measured, write_card
from agent.export.evaluate import Scored, average_precision, calibration_curve, fit_odds, mean_ap, score
from agent.export.frames import PER_SEED
from agent.export.moments import moments
from agent.export.onnx import export_checkpoint, parameters, round_weights
from agent.records import Image, Rows
from agent.world.classes import HEAD, NAMES, TAIL
from agent.world.truth import Thing

INPUT = (192, 320)
"""Height and width of the model's input: 640 x 360 halved, and what the stride asks for."""
EVALUATED = range(2100, 2180)
CALIBRATED = range(2200, 2220)
"""Streets in neither the training set nor the one that was watched while training."""
ONNX_PARTS = ("exported.onnx", "rounded.onnx")


@dataclass(frozen=True)
class Trained:
    """A trained checkpoint and what it was trained on; `counts` in the order of the classes."""

    checkpoint: Path
    counts: tuple[int, ...]
    frames: int
    streets: int
    plan: str


def finish(trained: Trained, work: Path, out: Path, *identity: str | int) -> Measured:
    """Write bundle, licence notice and model card into `out`; `identity` is model id, counter and time of creation."""
    model_id, counter, created = str(identity[0]), int(identity[1]), str(identity[2])
    exported, rounded = (work / name for name in ONNX_PARTS)
    export_checkpoint(trained.checkpoint, exported, INPUT)
    round_weights(exported, rounded)
    onnx = rounded.read_bytes()
    detector = Detector(onnx, floor=FLOOR)
    odds = fit_odds(evaluate(detector, CALIBRATED))
    facts = Facts(
        model_id=model_id,
        counter=counter,
        created=created,
        source={
            "checkpoint": "yolo26n.yaml trained by agent.export.train_world",
            "sha256": _sha256(trained.checkpoint),
        },
        licence="AGPL-3.0",
        counts=trained.counts,
        odds=odds,
        golden=golden_frames(detector, list(_images(CALIBRATED)), 3),
    )
    write_bundle(out, onnx, facts)
    measured = _measured(trained, evaluate(detector, EVALUATED), odds, sum(parameters(rounded).values()))
    (out / "LICENCE").write_text(LICENCE, encoding="utf-8")
    (out / "MODEL_CARD.md").write_text(write_card(measured, model_id, created), encoding="utf-8")
    sys.stdout.write(f"mAP50 head {measured.head:.3f} tail {measured.tail:.3f} odds {odds}; written to {out}\n")
    return measured


def evaluate(detector: Detector, seeds: Iterable[int]) -> list[Scored]:
    """Rows of the detector against the truth on the streets of these seeds, per class."""
    return score(_frames(detector, seeds), len(NAMES))


def _frames(detector: Detector, seeds: Iterable[int]) -> Iterator[tuple[Rows, list[Thing]]]:
    for seed in seeds:
        for moment in moments(seed, PER_SEED):
            yield detector.detect(moment.image), moment.things


def _images(seeds: range) -> Iterator[Image]:
    """Small pictures (320 x 180) with few objects, for the golden frames."""
    for seed in seeds:
        for moment in moments(seed, 1, objects=3.0):
            yield np.asarray(cv2.resize(moment.image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8)


def _measured(trained: Trained, scored: list[Scored], odds: float, weights: int) -> Measured:
    precisions = [average_precision(part) for part in scored]
    measured = Measured(
        counts=trained.counts, frames=trained.frames, streets=trained.streets,
        held_out_frames=len(EVALUATED) * PER_SEED, held_out_streets=len(EVALUATED),
        objects=[part.objects for part in scored], precisions=precisions,
        head=mean_ap(precisions, HEAD), tail=mean_ap(precisions, TAIL), overall=mean_ap(precisions, range(len(NAMES))),
        odds=odds, curve=(), training=trained.plan, parameters=weights,
    )  # fmt: skip
    return replace(measured, curve=calibration_curve(scored, odds))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
