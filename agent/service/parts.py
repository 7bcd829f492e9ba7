"""What a frame goes through, made from settings; alike for the service and for replay."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from agent.clock import Clock
from agent.detector import Detector
from agent.privacy import Privacy
from agent.records import Thresholds
from agent.seal import Seal
from agent.selection import Selector
from agent.settings import Settings
from agent.watch import Parts


def make_parts(
    settings: Settings, detector: Detector, clock: Clock, *, budgets: Mapping[str, Any] | None = None
) -> Parts:
    """Everything around `detector`; `budgets` are those of before a restart. Raises ConfigError."""
    privacy = Privacy(settings.cameras, detector.classes)
    seal = Seal(
        device=settings.device.id,
        model=detector.model,
        classes=detector.classes,
        thresholds=Thresholds(serve=settings.model.serve_threshold, floor=settings.model.select_floor),
        image=settings.image,
        privacy=privacy,
        clock=clock,
    )
    detector.floor = settings.model.select_floor
    return Parts(detector, _selector(settings, detector, budgets, seal), privacy, seal)


def change_parts(current: Parts, before: Settings, after: Settings, clock: Clock) -> Parts:
    """Parts for new settings and the same model. Budgets go on, and so does what selection has seen."""
    parts = make_parts(after, current.detector, clock, budgets=current.selector.state())
    if before.model != after.model:
        return parts
    if before.selection != after.selection:
        current.selector.reconfigure(after.selection)
    if (before.image, before.cameras) != (after.image, after.cameras):
        current.selector.keep_as(parts.seal.picture)
    return replace(parts, selector=current.selector)


def _selector(settings: Settings, detector: Detector, budgets: Mapping[str, Any] | None, seal: Seal) -> Selector:
    return Selector(
        settings.selection,
        serve=settings.model.serve_threshold,
        floor=settings.model.select_floor,
        classes=detector.classes,
        counts=detector.counts,
        odds=detector.odds,
        seed=settings.selection.seed or secrets.randbits(62),
        state=budgets,
        cameras=[camera.name for camera in settings.cameras],
        embedding=detector.embedding.length if detector.embedding else 0,
        encode=seal.picture,
    )
