"""Light and weather as functions of the hour: sun, lamps, fog, rain, and what the sensor makes of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Light:
    """State of the light. Gains are per channel (B, G, R); everything else is 0..1 unless it says otherwise."""

    sun: tuple[float, float, float]
    lamps: float
    shadow: float
    lean: float
    """Sideways length of a shadow, in heights of the object; its sign is the side."""
    fog: float
    fog_colour: tuple[float, float, float]
    rain: float
    noise: float
    """Standard deviation of the sensor noise (grey levels)."""
    exposure: float


def _smooth(low: float, high: float, value: float) -> float:
    share = min(1.0, max(0.0, (value - low) / (high - low)))
    return share * share * (3.0 - 2.0 * share)


def _weather(seed: int, day: int, spell: int) -> tuple[float, float, float]:
    """Cloud, rain and fog (0..1) of one two-hour spell."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, day + 4096, spell % 13, 23]))
    kind = rng.random()
    if kind < 0.55:
        return float(rng.uniform(0, 0.4)), 0.0, 0.0
    if kind < 0.75:
        return float(rng.uniform(0.6, 1.0)), 0.0, float(rng.uniform(0, 0.15))
    if kind < 0.9:
        return 0.9, float(rng.uniform(0.4, 1.0)), float(rng.uniform(0.05, 0.25))
    return 0.8, 0.0, float(rng.uniform(0.3, 0.6))


def light_at(seed: int, day: int, hour: float) -> Light:
    """The light of this street at an hour of a day (0..24)."""
    spell, share = int(hour // 2), _smooth(0.35, 0.65, (hour % 2) / 2)
    before, after = _weather(seed, day, spell), _weather(seed, day, spell + 1)
    cloud, rain, fog = (a + (b - a) * share for a, b in zip(before, after, strict=True))
    height = math.sin((hour - 6.0) / 12.0 * math.pi)
    daylight = _smooth(-0.18, 0.32, height)
    warm = _smooth(-0.25, 0.05, height) * (1.0 - _smooth(0.05, 0.5, height)) * (1 - 0.7 * cloud)
    level = 0.1 + 0.9 * daylight * (1.0 - 0.28 * cloud)
    blue, green, red = level * (1 - 0.22 * warm), level * (1 - 0.06 * warm), level * (1 + 0.12 * warm)
    night = 1.0 - daylight
    sun = (blue * (1 + 0.45 * night), green * (1 + 0.12 * night), red)
    grey = 205.0 * level
    return Light(
        sun=sun,
        lamps=1.0 - _smooth(-0.1, 0.12, height),
        shadow=0.52 * _smooth(0.0, 0.25, height) * (1 - cloud),
        lean=max(-1.6, min(1.6, math.cos((hour - 6.0) / 12.0 * math.pi) * 1.5)),
        fog=fog,
        fog_colour=(grey * (1 + 0.1 * night) + 14, grey + 14, grey + 12),
        rain=rain,
        noise=1.6 + 4.6 * night + 0.8 * rain,
        exposure=1.0 + 0.05 * math.sin(hour * 9.0 + seed) + 0.03 * math.sin(hour * 41.0 + 2 * seed),
    )
