"""The place: houses, vegetation, pavement and road, painted once per seed as layers for day and for night."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.world import view
from agent.world.pen import Colour, Point, pick, tone

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]

_W, _H = view.WIDTH + 2 * view.PAD, view.HEIGHT + 2 * view.PAD
_TEXELS = 32
"""Pixels per metre of the ground seen from above."""
_REACH = 13.0
"""Half the width of the painted ground (m)."""
_NEAR, _FAR = 6.5, 18.5
"""First and last distance of the painted ground (m)."""
_PLASTER: tuple[Colour, ...] = (
    (105, 125, 165), (165, 185, 200), (150, 160, 165), (120, 150, 185), (175, 175, 170), (90, 105, 140),
)  # fmt: skip


@dataclass(frozen=True)
class Prop:
    """A piece of street furniture that hides what passes behind it: kind, foot point (px)."""

    kind: str
    x: float
    row: float


@dataclass(frozen=True, eq=False)
class Place:
    """The empty street. Layers are BGR uint8 with the shake margin; `lamplight` is light per pixel (0..1, coarse)."""

    day: Image
    glow: Image
    lamplight: Floats
    haze: Image
    props: tuple[Prop, ...]


def build(seed: int) -> Place:
    """Paint the street of this seed."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, 11]))
    day = np.zeros((_H, _W, 3), np.uint8)
    lit = np.zeros((_H, _W), np.float32)
    _facades(day, lit, rng)
    _ground(day, rng)
    _greenery(day, rng)
    lamps = sorted(float(x) for x in rng.uniform([60, 380], [240, 600]))
    light = _lamplight(lamps)
    _lamp_posts(day, lit, lamps)
    glow = day * (light[:, :, None] * np.array([0.55, 0.78, 0.95], np.float32))
    glow += lit[:, :, None] * np.array([120, 185, 225], np.float32)
    props = _furniture(rng)
    return Place(day, np.clip(glow, 0, 255).astype(np.uint8), light, _haze(), props)


def _mottle(rng: np.random.Generator, shape: tuple[int, int], grain: float, depth: float) -> Floats:
    """Smooth noise around 1: `grain` is the size of its spots (px), `depth` its standard deviation."""
    small = rng.normal(0, 1, (int(shape[0] / grain) + 3, int(shape[1] / grain) + 3)).astype(np.float32)
    wide = cv2.resize(small, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    return np.asarray(1.0 + depth * wide, np.float32)


def _apply(image: Image, gain: Floats) -> None:
    image[:] = np.clip(image * gain[:, :, None], 0, 255).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class _Wall:
    """The row of houses being painted: pictures for day and for lit windows, random numbers, row of its foot (px)."""

    day: Image
    lit: Floats
    rng: np.random.Generator
    foot: int

    def box(self, x0: int, y0: int, x1: int, y1: int, colour: Colour) -> None:
        cv2.rectangle(self.day, (x0, y0), (x1, y1), colour, -1)

    def poly(self, points: list[tuple[int, int]], colour: Colour) -> None:
        cv2.fillPoly(self.day, [np.array(points, np.int32)], colour)


def _facades(day: Image, lit: Floats, rng: np.random.Generator) -> None:
    sky = np.linspace(0, 1, _H, dtype=np.float32)[:, None, None]
    low, high = np.array([235, 225, 215], np.float32), np.array([225, 205, 185], np.float32)
    day[:] = (high * (1 - sky) + low * sky).astype(np.uint8)
    wall = _Wall(day, lit, rng, int(view.WALL) + view.PAD)
    x = -int(rng.integers(0, 60))
    garden = int(rng.integers(1, 4))
    index = 0
    while x < _W:
        width = int(rng.integers(110, 230))
        if index == garden:
            _garden(wall, x, x + width // 2)
            x += width // 2
        else:
            _house(wall, x, x + width)
            x += width
        index += 1


def _house(wall: _Wall, x0: int, x1: int) -> None:
    rng, day, foot = wall.rng, wall.day, wall.foot
    colour = pick(rng, _PLASTER, 8)
    top = int(rng.integers(-10, 36))
    left, right = max(x0, 0), min(x1, _W)
    if right <= left:
        return
    day[max(top, 0) : foot, left:right] = colour
    if rng.random() < 0.5:
        for row in range(max(top, 0), foot, 5):
            day[row, left:right] = tone(colour, 0.88)
    if top > 6:
        wall.box(x0 - 2, top - 8, x1 + 2, top, tone(colour, 0.55))
    frame, shop = pick(rng, ((225, 225, 225), (60, 60, 70), (70, 90, 110)), 6), rng.random() < 0.55
    gap = int(rng.integers(38, 52))
    columns = range(x0 + 14, x1 - 26, gap)
    for row in range(foot - 116, max(top, -40), -58):
        for column in columns:
            _window(wall, (column, row, 24, 38), frame)
    if shop:
        _shop(wall, x0 + 8, x1 - 8)
        return
    for number, column in enumerate(columns):
        if number == 1:
            wall.box(column - 2, foot - 54, column + 26, foot, frame)
            door = pick(rng, ((50, 60, 110), (60, 80, 50), (60, 55, 50)))
            wall.box(column + 1, foot - 51, column + 23, foot, door)
        else:
            _window(wall, (column, foot - 52, 24, 32), frame)
    wall.box(x0, foot - 8, x1, foot, tone(colour, 0.72))
    cv2.line(day, (x1, max(top, 0)), (x1, foot), tone(colour, 0.5), 2)


def _window(wall: _Wall, box: tuple[int, int, int, int], frame: Colour) -> None:
    rng, (x, y, w, h) = wall.rng, box
    wall.box(x - 2, y - 2, x + w + 1, y + h + 1, frame)
    glass = pick(rng, ((95, 85, 75), (70, 62, 55), (120, 110, 100)), 6)
    wall.box(x, y, x + w - 1, y + h - 1, glass)
    wall.poly([(x, y + h // 2), (x + w // 2, y), (x + w - 4, y), (x, y + h - 8)], tone(glass, 1.3))
    if rng.random() < 0.4:
        blind = int(rng.integers(6, 20))
        wall.box(x, y, x + w - 1, y + blind, pick(rng, ((190, 200, 205), (150, 170, 200))))
    cv2.line(wall.day, (x + w // 2, y), (x + w // 2, y + h - 1), frame, 1)
    cv2.line(wall.day, (x, y + h // 3), (x + w - 1, y + h // 3), frame, 1)
    wall.box(x - 4, y + h + 1, x + w + 3, y + h + 4, tone(frame, 0.8))
    if rng.random() < 0.3:
        wall.lit[max(y, 0) : max(y + h, 0), max(x, 0) : max(x + w, 0)] = float(rng.uniform(0.3, 0.85))


def _shop(wall: _Wall, x0: int, x1: int) -> None:
    rng, foot = wall.rng, wall.foot
    colour = pick(rng, ((60, 60, 150), (120, 80, 40), (60, 110, 60), (50, 50, 55), (60, 150, 190)))
    wall.box(x0, foot - 60, x1, foot, tone(colour, 0.6))
    for left in range(x0 + 6, x1 - 34, 44):
        wall.box(left, foot - 44, left + 38, foot - 8, (84, 78, 70))
        for _ in range(7):
            x, y = int(rng.integers(left + 4, left + 34)), int(rng.integers(foot - 24, foot - 11))
            wall.box(x, y, x + 4, foot - 9, pick(rng, ((60, 60, 160), (150, 160, 170), (70, 140, 160))))
        wall.poly(
            [(left, foot - 20), (left + 18, foot - 44), (left + 28, foot - 44), (left, foot - 10)], (112, 105, 96)
        )
        wall.lit[foot - 44 : foot - 8, max(left, 0) : max(left + 38, 0)] = 0.55
    wall.box(x0, foot - 62, x1, foot - 50, colour)
    if rng.random() < 0.6:
        for stripe, left in enumerate(range(x0, x1, 10)):
            tint = colour if stripe % 2 else (215, 215, 215)
            wall.poly([(left, foot - 50), (left + 10, foot - 50), (left + 10, foot - 38), (left, foot - 38)], tint)


def _garden(wall: _Wall, x0: int, x1: int) -> None:
    for row in range(60, wall.foot - 20, 6):
        _leaves(wall.day, wall.rng, ((x0 + x1) / 2, row), ((x1 - x0) / 2 + 8, 16), 40)
    colour = pick(wall.rng, ((120, 135, 160), (150, 155, 155)))
    wall.box(x0, wall.foot - 30, x1, wall.foot, colour)
    wall.box(x0, wall.foot - 34, x1, wall.foot - 29, tone(colour, 1.2))


def _leaves(day: Image, rng: np.random.Generator, centre: Point, radii: Point, count: int) -> None:
    (x, y), (rx, ry) = centre, radii
    base = np.array([46.0, 96.0, 74.0]) * rng.uniform(0.8, 1.15)
    for _ in range(count):
        angle, reach = rng.uniform(0, 2 * np.pi), np.sqrt(rng.uniform(0, 1))
        px, py = x + rx * reach * np.cos(angle), y + ry * reach * np.sin(angle)
        bright = 0.65 + 0.45 * (y + ry - py) / (2 * ry) + rng.normal(0, 0.1)
        colour = tuple(int(v) for v in np.clip(base * bright, 0, 255))
        size, turn = (int(rng.integers(3, 8)), int(rng.integers(2, 6))), float(rng.uniform(0, 180))
        cv2.ellipse(day, (int(px), int(py)), size, turn, 0, 360, colour, -1)


def _greenery(day: Image, rng: np.random.Generator) -> None:
    for _ in range(int(rng.integers(1, 3))):
        x, foot = int(rng.integers(30, _W - 30)), int(view.WALL) + view.PAD + 6
        cv2.line(day, (x, foot), (x + 3, 90), (58, 72, 88), 8)
        for _ in range(5):
            _leaves(day, rng, (x + rng.normal(0, 22), 62 + rng.normal(0, 20)), (34, 24), 90)
    for _ in range(int(rng.integers(1, 4))):
        x, foot = int(rng.integers(0, _W - 70)), int(view.WALL) + view.PAD
        _leaves(day, rng, (x + 30, foot - 8), (34, 11), 90)


def _ground(day: Image, rng: np.random.Generator) -> None:
    plan = _plan(rng)
    rows = np.arange(int(view.WALL) + view.PAD, _H, dtype=np.float32)
    far = np.float32(view.FOCAL * view.CAMERA_HEIGHT) / (rows - view.PAD - np.float32(view.HORIZON))
    scale = (rows - view.PAD - np.float32(view.HORIZON)) / np.float32(view.CAMERA_HEIGHT)
    columns = np.arange(_W, dtype=np.float32) - np.float32(_W / 2)
    map_x = (columns[None, :] / scale[:, None] + np.float32(_REACH)) * _TEXELS
    map_y = np.repeat(((far - np.float32(_NEAR)) * _TEXELS)[:, None], _W, axis=1)
    seen = cv2.remap(plan, map_x, map_y.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    day[rows.astype(int)[0] :] = seen


def _plan(rng: np.random.Generator) -> Image:
    """The ground from above; row 0 is nearest to the camera."""
    size = (int((_FAR - _NEAR) * _TEXELS), int(2 * _REACH * _TEXELS))
    plan = np.full((*size, 3), pick(rng, ((96, 96, 98), (110, 108, 106), (82, 84, 88)), 4), np.uint8)
    for _ in range(int(rng.integers(2, 6))):
        x, y = int(rng.integers(0, size[1])), int(_row(9.3) + rng.integers(0, 100))
        end = (x + int(rng.integers(30, 150)), y + int(rng.integers(15, 40)))
        cv2.rectangle(plan, (x, y), end, tone((90, 90, 92), float(rng.uniform(0.8, 1.05))), -1)
    for track in (9.7, 10.3, 11.3, 12.0):
        cv2.line(plan, (0, _row(track)), (size[1], _row(track)), (84, 84, 86), 9)
    for dash in range(int(rng.integers(0, 60)), size[1], 110):
        cv2.rectangle(plan, (dash, _row(10.85)), (dash + 60, _row(10.85) + 5), (205, 208, 210), -1)
    for slot in range(int(rng.integers(0, 60)), size[1], 165):
        cv2.rectangle(plan, (slot, _row(12.65)), (slot + 4, _row(14.1)), (190, 192, 195), -1)
    for _ in range(2):
        spot = (int(rng.integers(0, size[1])), _row(float(rng.uniform(9.6, 12.2))))
        cv2.circle(plan, spot, 10, (66, 68, 70), -1)
    for near, far in ((_NEAR, 8.85), (14.2, _FAR)):
        _slabs(plan, rng, _row(near), _row(far))
    for kerb in (8.85, 14.1):
        cv2.rectangle(plan, (0, _row(kerb)), (size[1], _row(kerb) + 5), (165, 168, 170), -1)
    _apply(plan, _mottle(rng, size, 60, 0.06) * _mottle(rng, size, 9, 0.035) * _mottle(rng, size, 1.5, 0.05))
    return plan


def _row(metres: float) -> int:
    return int((metres - _NEAR) * _TEXELS)


def _slabs(plan: Image, rng: np.random.Generator, top: int, bottom: int) -> None:
    colour, step = pick(rng, ((140, 145, 150), (125, 135, 150), (150, 150, 150)), 5), int(rng.integers(18, 34))
    for row, y in enumerate(range(top, bottom, step)):
        for x in range(-(row % 2) * step // 2, plan.shape[1], step):
            shade = tone(colour, float(rng.normal(1.0, 0.035)))
            cv2.rectangle(plan, (x, y), (x + step - 2, min(y + step - 2, bottom)), shade, -1)
            cv2.line(plan, (x + step - 1, y), (x + step - 1, min(y + step, bottom)), tone(colour, 0.8), 1)
        cv2.line(plan, (0, min(y + step - 1, bottom)), (plan.shape[1], min(y + step - 1, bottom)), tone(colour, 0.8), 1)


def _lamplight(lamps: list[float]) -> Floats:
    ys, xs = np.mgrid[0:_H, 0:_W].astype(np.float32)
    light = np.full((_H, _W), 0.1, np.float32)
    for x in lamps:
        light += 0.75 * np.exp(-(((xs - x) / 120) ** 2) - (((ys - 250) / 80) ** 2)).astype(np.float32)
    light += 0.25 * np.exp(-(((ys - 205) / 30) ** 2)).astype(np.float32)
    return np.minimum(light, 1.0).astype(np.float32)


def _lamp_posts(day: Image, lit: Floats, lamps: list[float]) -> None:
    for x in lamps:
        foot, column = int(view.WALL) + view.PAD + 20, int(x)
        cv2.line(day, (column, foot), (column, 30), (58, 60, 62), 4)
        cv2.line(day, (column, 30), (column + 26, 26), (58, 60, 62), 3)
        cv2.ellipse(day, (column + 30, 28), (10, 4), 0, 0, 360, (190, 195, 198), -1)
        cv2.ellipse(lit, (column + 30, 29), (13, 7), 0, 0, 360, 1.0, -1)


def _haze() -> Image:
    """How much of the fog lies before each pixel (0..255): all of it far away, less on the near pavement."""
    rows = np.arange(_H, dtype=np.float32) - view.PAD
    depth = np.clip(view.FOCAL * view.CAMERA_HEIGHT / np.maximum(rows - view.HORIZON, 60.0), 0, 25)
    depth[rows < view.WALL] = 20.0
    share = np.clip(depth / 20.0, 0, 1) * 255
    return np.repeat(np.repeat(share[:, None], _W, axis=1)[:, :, None], 3, axis=2).astype(np.uint8)


def _furniture(rng: np.random.Generator) -> tuple[Prop, ...]:
    kinds = ("post", "trunk", "planter", "bin", "sign", "bollard")
    rows, sides = ((313.0, 319.0), (209.0, 212.0)), ((20.0, 270.0), (370.0, 620.0))
    spots = [(row, side) for row in rows for side in sides]
    return tuple(
        Prop(str(rng.choice(kinds)), float(rng.uniform(*side)), float(rng.uniform(*row))) for row, side in spots
    )
