"""Puts drawings into the street: size by perspective, light, shadow, fog, lamps, camera and sensor."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.world import figures, furniture, vehicles, view
from agent.world.classes import KINDS, PROP
from agent.world.ground import Place, build
from agent.world.light import Light
from agent.world.pen import Sprite

Image = NDArray[np.uint8]
Pixels = NDArray[Any]
_DRAW: tuple[Callable[[np.random.Generator, float, float], Sprite], ...] = (
    figures.person, vehicles.car, figures.bicycle, vehicles.van, figures.dog, vehicles.truck, figures.motorcycle,
    vehicles.bus, figures.pram, figures.scooter, vehicles.tractor, figures.wheelchair, figures.horse, vehicles.forklift,
)  # fmt: skip
PHASES = 8
"""Drawings of one step or one turn of a wheel."""
_CACHE = 600
_HALF = 0.62
_NOISE = 24.0


@dataclass(frozen=True)
class Placement:
    """One thing at one moment: class id (or PROP), instance id, seed of its look, foot point in px, facing, phase."""

    cls: int
    instance: int
    look: int
    x: float
    row: float
    left: bool
    phase: int
    prop: str = ""
    parked: bool = False


@dataclass(frozen=True, eq=False)
class Cut:
    """A drawing brought to its place: premultiplied BGRA and the canvas position of its upper left corner (px)."""

    image: Image
    x: int
    y: int


class Stage:
    """One street, with a store of the drawings used lately. Not safe for use from two threads."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.place: Place = build(seed)
        self._sprites: OrderedDict[tuple[int, int, int, bool, str], tuple[Sprite, Sprite]] = OrderedDict()
        rng = np.random.default_rng(np.random.SeedSequence([seed, 47]))
        height, width = view.HEIGHT + 96, view.WIDTH + 96
        grain = rng.normal(128.0, _NOISE, (height, width, 3))
        self._grain: Image = np.clip(grain, 0, 255).astype(np.uint8)
        self._streaks = _streaks(rng, height, width)
        self._background: tuple[Light | None, Image] = (None, self.place.day)

    def props(self) -> list[Placement]:
        """The street furniture of this place."""
        return [
            Placement(PROP, -1 - number, number, prop.x, prop.row, False, 0, prop.kind)
            for number, prop in enumerate(self.place.props)
        ]

    def render(self, placements: Sequence[Placement], light: Light, shake: tuple[int, int], tick: int) -> Image:
        """One picture, HxWx3 BGR. `tick` chooses the grain of the noise and the drops of the rain."""
        canvas = self._lit_background(light).copy()
        order = in_order(placements)
        cuts = [self.cut(placement) for placement in order]
        for placement, cut in zip(order, cuts, strict=True):
            self._shadow(canvas, placement, cut, light)
        for placement, cut in zip(order, cuts, strict=True):
            _blend(canvas, cut, self._tint(placement, light))
        if light.lamps > 0.1:
            for placement in order:
                if not placement.parked:
                    self._glow(canvas, placement, light.lamps)
        return self._sensor(canvas, light, shake, tick)

    def sprite(self, placement: Placement) -> tuple[Sprite, Sprite]:
        """The drawing of this thing in full and in half resolution."""
        key = (placement.cls, placement.look, placement.phase, placement.left, placement.prop)
        found = self._sprites.get(key)
        if found is None:
            found = _drawn(placement)
            self._sprites[key] = found
            if len(self._sprites) > _CACHE:
                self._sprites.popitem(last=False)
        else:
            self._sprites.move_to_end(key)
        return found

    def cut(self, placement: Placement) -> Cut:
        """The drawing at its size and place."""
        full, half = self.sprite(placement)
        wanted = view.scale(placement.row)
        sprite = half if wanted / full.ppm < _HALF else full
        size = wanted / sprite.ppm
        left = view.PAD + placement.x - sprite.foot[0] * size
        top = view.PAD + placement.row - sprite.foot[1] * size
        x, y = math.floor(left), math.floor(top)
        height, width = sprite.image.shape[:2]
        matrix = np.array([[size, 0, left - x], [0, size, top - y]], np.float32)
        shape = (math.ceil(width * size) + 2, math.ceil(height * size) + 2)
        return Cut(np.asarray(cv2.warpAffine(sprite.image, matrix, shape, flags=cv2.INTER_LINEAR), np.uint8), x, y)

    def _lit_background(self, light: Light) -> Image:
        known, image = self._background
        if known == light:
            return image
        lit: Pixels = cv2.multiply(self.place.day, np.array([*light.sun, 1.0]))
        if light.lamps > 0:
            lit = cv2.addWeighted(lit, 1.0, self.place.glow, light.lamps, 0.0)
        if light.fog > 0.01:
            veil = cv2.multiply(self.place.haze, np.full(4, light.fog))
            lit = cv2.multiply(lit, cv2.bitwise_not(veil), scale=1 / 255)
            tinted = cv2.multiply(veil, np.array([*(c / 255 for c in light.fog_colour), 1.0]))
            lit = cv2.add(lit, tinted)
        result = np.asarray(lit, np.uint8)
        self._background = (light, result)
        return result

    def _tint(self, placement: Placement, light: Light) -> NDArray[np.float32]:
        """Colour matrix (4x4 on BGRA) for a thing here: sun, lamps, fog."""
        row = min(max(int(placement.row), 0), view.HEIGHT - 1) + view.PAD
        column = min(max(int(placement.x), 0), view.WIDTH - 1) + view.PAD
        lamp = float(self.place.lamplight[row, column]) * light.lamps
        fog = light.fog * float(self.place.haze[row, column, 0]) / 255.0
        matrix = np.zeros((4, 4), np.float32)
        for channel, warmth in enumerate((0.55, 0.78, 0.95)):
            matrix[channel, channel] = (light.sun[channel] + warmth * lamp) * (1.0 - fog)
            matrix[channel, 3] = fog * light.fog_colour[channel] / 255.0
        matrix[3, 3] = 1.0
        return matrix

    def _shadow(self, canvas: Image, placement: Placement, cut: Cut, light: Light) -> None:
        alpha = np.ascontiguousarray(cut.image[:, :, 3])
        width = alpha.shape[1]
        base = view.PAD + placement.row - cut.y
        for squash, lean, depth in ((0.3, light.lean * 0.45, light.shadow), (0.06, 0.0, 0.25 + 0.1 * light.sun[1])):
            if depth < 0.03:
                continue
            tall, reach = math.ceil(base * squash) + 3, math.ceil(abs(lean) * base)
            shift = reach if lean < 0 else 0
            matrix = np.array([[1, -lean, shift + lean * base], [0, squash, tall - 2 - squash * base]], np.float32)
            shade: Pixels = cv2.warpAffine(alpha, matrix, (width + reach, tall), flags=cv2.INTER_LINEAR)
            shade = np.asarray(cv2.blur(shade, (5, 3)), np.uint8)
            y = cut.y + round(base) - tall + (4 if lean == 0.0 else 2)
            area = _clip(canvas, shade, cut.x - shift, y)
            if area is not None:
                target, mask = area
                keep = cv2.cvtColor(cv2.convertScaleAbs(mask, alpha=-depth, beta=0), cv2.COLOR_GRAY2BGR)
                cv2.multiply(target, cv2.bitwise_not(keep), target, scale=1 / 255)

    def _glow(self, canvas: Image, placement: Placement, level: float) -> None:
        size = view.scale(placement.row)
        for x, y, white in self.sprite(placement)[0].lamps:
            px, py = view.PAD + placement.x + x * size, view.PAD + placement.row - y * size
            _shine(canvas, _WHITE if white else _RED, px, py, level)
            if white:
                ahead = -1.0 if placement.left else 1.0
                _shine(canvas, _BEAM, px + ahead * 2.2 * size, view.PAD + placement.row + 3, level)

    def _sensor(self, canvas: Image, light: Light, shake: tuple[int, int], tick: int) -> Image:
        x, y = view.PAD + shake[0], view.PAD + shake[1]
        frame: Pixels = canvas[y : y + view.HEIGHT, x : x + view.WIDTH]
        left, top = (tick * 37 + tick * tick * 11) % 96, (tick * 53 + tick * tick * 7) % 96
        share = light.noise / _NOISE
        grain = self._grain[top : top + view.HEIGHT, left : left + view.WIDTH]
        if light.rain > 0.05:
            drops = self._streaks[top : top + view.HEIGHT, left : left + view.WIDTH]
            bright = 0.5 * light.rain * max(light.sun[1], 0.3)
            frame = cv2.addWeighted(frame, 1.0 - 0.12 * light.rain, drops, bright, 0.0)
        return np.asarray(cv2.addWeighted(frame, light.exposure, grain, share, -128.0 * share), np.uint8)


def in_order(placements: Sequence[Placement]) -> list[Placement]:
    """From the farthest to the nearest: the order of painting."""
    return sorted(placements, key=lambda placement: (placement.row, placement.instance))


def _drawn(placement: Placement) -> tuple[Sprite, Sprite]:
    rng = np.random.default_rng(placement.look)
    if placement.cls == PROP:
        sprite = furniture.draw(placement.prop, rng)
    else:
        sprite = _DRAW[placement.cls](rng, placement.phase / PHASES, KINDS[placement.cls].ppm)
    sprite = sprite.mirrored() if placement.left else sprite
    small = np.asarray(cv2.resize(sprite.image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8)
    share = small.shape[1] / sprite.image.shape[1]
    return sprite, Sprite(small, sprite.ppm * share, (sprite.foot[0] * share, sprite.foot[1] * share), sprite.lamps)


def _clip(canvas: Image, patch: Image, x: int, y: int) -> tuple[Image, Image] | None:
    """The part of the patch at (x, y) that lies on the canvas, as views of both; None where there is none."""
    height, width = patch.shape[:2]
    x0, y0 = max(x, 0), max(y, 0)
    x1, y1 = min(x + width, canvas.shape[1]), min(y + height, canvas.shape[0])
    if x1 <= x0 or y1 <= y0:
        return None
    return canvas[y0:y1, x0:x1], patch[y0 - y : y1 - y, x0 - x : x1 - x]


def _blend(canvas: Image, cut: Cut, tint: NDArray[np.float32]) -> None:
    area = _clip(canvas, cut.image, cut.x, cut.y)
    if area is None:
        return
    target, patch = area
    lit = cv2.transform(patch, tint)
    keep = cv2.bitwise_not(cv2.cvtColor(np.ascontiguousarray(lit[:, :, 3]), cv2.COLOR_GRAY2BGR))
    cv2.multiply(target, keep, target, scale=1 / 255)
    cv2.add(target, cv2.cvtColor(lit, cv2.COLOR_BGRA2BGR), target)


def _shine(canvas: Image, patch: Image, x: float, y: float, level: float) -> None:
    height, width = patch.shape[:2]
    area = _clip(canvas, patch, round(x - width / 2), round(y - height / 2))
    if area is not None:
        cv2.add(area[0], cv2.convertScaleAbs(area[1], alpha=level), area[0])


def _spot(width: int, height: int, colour: tuple[int, int, int], core: float) -> Image:
    ys, xs = np.mgrid[0:height, 0:width]
    away = ((xs - width / 2 + 0.5) / (width / 2)) ** 2 + ((ys - height / 2 + 0.5) / (height / 2)) ** 2
    light = np.clip(np.exp(-away * core) - math.exp(-core), 0, 1)
    return np.asarray(np.clip(light[:, :, None] * np.array(colour), 0, 255), np.uint8)


_WHITE = _spot(60, 60, (230, 245, 255), 9.0)
_RED = _spot(30, 30, (60, 50, 255), 6.0)
_BEAM = _spot(180, 34, (70, 95, 110), 3.0)


def _streaks(rng: np.random.Generator, height: int, width: int) -> Image:
    drops = np.zeros((height, width), np.uint8)
    for _ in range(900):
        x, y, length = int(rng.integers(width)), int(rng.integers(height)), int(rng.integers(6, 20))
        cv2.line(drops, (x, y), (x - length // 5, y + length), int(rng.integers(90, 220)), 1)
    return np.asarray(cv2.cvtColor(cv2.blur(drops, (2, 3)), cv2.COLOR_GRAY2BGR), np.uint8)
