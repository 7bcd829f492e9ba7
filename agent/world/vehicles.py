"""Things with an engine and four wheels or more, drawn from a random look."""

from __future__ import annotations

import numpy as np

from agent.world.pen import Colour, Pen, Point, Sprite, pick, tone

PAINT: tuple[Colour, ...] = (
    (205, 208, 210), (150, 152, 156), (44, 44, 48), (120, 60, 30), (35, 35, 150), (90, 92, 96), (200, 190, 175),
    (60, 90, 50), (50, 100, 160), (150, 110, 50),
)  # fmt: skip
GLASS: Colour = (72, 62, 52)
TYRE: Colour = (30, 30, 32)
RIM: Colour = (158, 160, 164)
TRIM: Colour = (48, 48, 50)


def _wheel(pen: Pen, x: float, radius: float, rim: Colour = RIM, share: float = 0.62) -> None:
    pen.disc(x, radius, radius * 1.13, radius * 1.12, (22, 22, 24))
    pen.disc(x, radius, radius, radius, TYRE)
    pen.disc(x, radius, radius * share, radius * share, rim)
    for turn in np.linspace(0, 2 * np.pi, 5, endpoint=False):
        spot = radius * share * 0.6
        pen.disc(x + spot * np.cos(turn), radius + spot * np.sin(turn), radius * 0.13, radius * 0.13, tone(rim, 0.45))
    pen.disc(x, radius, radius * 0.14, radius * 0.14, tone(rim, 0.7))


def _windows(pen: Pen, frames: list[list[Point]]) -> None:
    for outline in frames:
        pen.poly(outline, GLASS)
        (x0, y0), (x1, y1) = outline[0], outline[-1]
        x2 = outline[1][0]
        pen.poly([(x1, y1), (x1 + (x2 - x0) * 0.35, y1), (x0 + (x2 - x0) * 0.15, y0), (x0, y0)], (118, 106, 92))


def _lights(pen: Pen, front: float, rear: float, height: float) -> None:
    pen.poly([(front - 0.3, height - 0.07), (front - 0.03, height - 0.07), (front - 0.08, height + 0.08),
              (front - 0.34, height + 0.09)], (225, 235, 238))  # fmt: skip
    pen.rect(rear + 0.02, height - 0.05, rear + 0.17, height + 0.13, (38, 34, 165))
    pen.lamp(front, height, True)
    pen.lamp(rear, height, False)


def car(rng: np.random.Generator, _phase: float, ppm: float) -> Sprite:
    """A passenger car: hatchback, saloon, estate or off-road shape."""
    paint, shape = pick(rng, PAINT, 10), int(rng.integers(4))
    half = float(rng.uniform(1.75, 2.05) + (0.15 if shape == 1 else 0.0))
    roof = float(rng.uniform(1.4, 1.5) + (0.16 if shape == 3 else 0.0))
    belt, floor, bonnet = roof * 0.62, 0.22 + (0.08 if shape == 3 else 0.0), roof * 0.58
    tail = {0: -half + 0.12, 1: -half + 0.62, 2: -half + 0.1, 3: -half + 0.14}[shape]
    back = {0: -half + 0.55, 1: -half + 1.1, 2: -half + 0.3, 3: -half + 0.35}[shape]
    screen, nose = float(rng.uniform(0.7, 0.95)), half - 0.06
    pen = Pen(-half - 0.15, half + 0.2, roof + 0.42, ppm)
    outline = [
        (-half, floor),
        (half, floor),
        (half + 0.02, 0.5),
        (nose, bonnet - 0.1),
        (screen, belt + 0.02),
        (screen - 0.62, roof - 0.02),
        (screen - 0.8, roof),
        (back + 0.1, roof - 0.01),
        (back - 0.02, roof - 0.06),
        (tail, belt + 0.04),
        (-half + 0.03, belt - 0.02),
        (-half - 0.01, 0.5),
    ]
    pen.solid(outline, (0.05, 0.3), tone(paint, 1.14), paint)
    pen.poly([(screen, belt + 0.06), (screen + 0.03, belt + 0.3), (screen - 0.58, roof + 0.22), (screen - 0.62, roof)],
             tone(GLASS, 1.25))  # fmt: skip
    mid = (screen - 0.62 + back) / 2
    _windows(
        pen,
        [
            [
                (mid + 0.05, belt + 0.03),
                (screen - 0.12, belt + 0.03),
                (screen - 0.66, roof - 0.09),
                (mid + 0.05, roof - 0.09),
            ],
            [
                (tail + 0.22, belt + 0.03),
                (mid - 0.05, belt + 0.03),
                (mid - 0.05, roof - 0.09),
                (back + 0.12, roof - 0.1),
            ],
        ],
    )
    pen.rect(-half + 0.02, floor, half - 0.02, floor + 0.12, TRIM)
    for x in (mid, tail + 0.6, screen - 0.1):
        pen.line([(x, belt - 0.02), (x, floor + 0.14)], 0.02, tone(paint, 0.6))
    pen.line([(-half + 0.1, belt - 0.14), (half - 0.35, belt - 0.14)], 0.025, tone(paint, 1.2))
    for x in (mid - 0.25, mid + 0.75):
        pen.rect(x - 0.1, belt - 0.1, x + 0.06, belt - 0.06, tone(paint, 0.5))
    radius = 0.3 + (0.05 if shape == 3 else 0.0)
    _wheel(pen, -half + 0.72, radius)
    _wheel(pen, half - 0.75, radius)
    _lights(pen, half, -half, 0.62)
    return pen.finish(0.3)


def van(rng: np.random.Generator, _phase: float, ppm: float) -> Sprite:
    """A delivery van, often with a stripe or a sign on its closed side."""
    paint = pick(rng, ((215, 215, 215), (200, 205, 205), (40, 190, 225), (150, 75, 35), (60, 60, 65), (60, 60, 180)), 8)
    half, roof = float(rng.uniform(2.4, 2.75)), float(rng.uniform(2.15, 2.45))
    pen = Pen(-half - 0.15, half + 0.2, roof + 0.5, ppm)
    screen = half - 0.75
    outline = [
        (-half, 0.3),
        (half, 0.3),
        (half, 0.8),
        (half - 0.12, 1.05),
        (screen, 1.25),
        (screen - 0.45, roof - 0.08),
        (screen - 0.65, roof),
        (-half + 0.06, roof),
        (-half, roof - 0.1),
    ]
    pen.solid(outline, (0.05, 0.36), tone(paint, 1.12), paint)
    pen.poly([(screen, 1.28), (screen + 0.04, 1.56), (screen - 0.4, roof + 0.22), (screen - 0.46, roof - 0.06)],
             tone(GLASS, 1.25))  # fmt: skip
    low, high = 1.3, roof - 0.22
    _windows(pen, [[(screen - 1.05, low), (screen - 0.14, low), (screen - 0.52, high), (screen - 1.05, high)]])
    if rng.random() < 0.6:
        sign = pick(rng, PAINT, 20)
        left, low = -half + float(rng.uniform(0.2, 0.5)), float(rng.uniform(0.95, 1.3))
        pen.rect(left, low, left + float(rng.uniform(1.2, 1.9)), low + float(rng.uniform(0.25, 0.6)), sign)
    pen.line([(screen - 1.2, roof - 0.1), (screen - 1.2, 0.45)], 0.025, tone(paint, 0.6))
    pen.line([(-half + 0.3, 1.0), (screen - 1.3, 1.0)], 0.03, tone(paint, 0.7))
    pen.rect(-half, 0.28, half, 0.42, TRIM)
    _wheel(pen, -half + 0.9, 0.34)
    _wheel(pen, half - 0.8, 0.34)
    _lights(pen, half, -half, 0.82)
    return pen.finish(0.3)


def truck(rng: np.random.Generator, _phase: float, ppm: float) -> Sprite:
    """A lorry with a separate cab: box, open sides or a tank."""
    cab, load = pick(rng, PAINT, 12), pick(rng, ((210, 212, 215), (120, 125, 130), (60, 120, 190), (90, 60, 40)), 14)
    half, top, style = float(rng.uniform(2.9, 3.3)), float(rng.uniform(2.5, 2.9)), int(rng.integers(3))
    pen = Pen(-half - 0.1, half + 0.2, top + 0.55, ppm)
    split = half - 1.55
    pen.rect(-half, 0.5, half - 0.3, 0.72, TRIM)
    bed = [(-half, 0.78), (split - 0.12, 0.78), (split - 0.12, top), (-half, top)]
    if style == 2:
        behind, ahead = np.linspace(np.pi / 2, 1.5 * np.pi, 8), np.linspace(-np.pi / 2, np.pi / 2, 8)
        bed = [(-half + 0.5 * np.cos(a) + 0.5, 1.5 + 0.72 * np.sin(a)) for a in behind]
        bed += [(split - 0.5 + 0.38 * np.cos(a), 1.5 + 0.72 * np.sin(a)) for a in ahead]
    elif style == 1:
        bed = [(x, min(y, 1.45)) for x, y in bed]
    pen.solid(bed, (0.05, 0.4), tone(load, 1.1), load)
    for x in np.linspace(-half + 0.4, split - 0.5, 6):
        pen.line([(x, 0.85), (x, bed[2][1] - 0.1 if style != 2 else 1.9)], 0.03, tone(load, 0.8))
    roof = min(top - 0.1, 2.5)
    front = [
        (split, 0.45),
        (half, 0.45),
        (half + 0.02, 1.2),
        (half - 0.14, roof - 0.08),
        (half - 0.3, roof),
        (split, roof),
    ]
    pen.solid(front, (0.05, 0.36), tone(cab, 1.12), cab)
    _windows(pen, [[(split + 0.35, 1.4), (half - 0.15, 1.4), (half - 0.25, roof - 0.2), (split + 0.35, roof - 0.2)]])
    pen.line([(split + 0.3, roof - 0.15), (split + 0.3, 0.6)], 0.03, tone(cab, 0.6))
    for x in (-half + 0.7, -half + 1.55, half - 0.8):
        _wheel(pen, x, 0.43, (130, 132, 136), 0.5)
    _lights(pen, half, -half, 0.8)
    return pen.finish(0.3)


def bus(rng: np.random.Generator, _phase: float, ppm: float) -> Sprite:
    """A town bus with a row of windows and doors."""
    paint = pick(rng, ((50, 50, 190), (60, 160, 210), (90, 150, 60), (190, 120, 40), (205, 205, 205)), 12)
    band = pick(rng, ((215, 215, 215), (60, 60, 64), (60, 190, 230)), 8)
    half, top = float(rng.uniform(3.6, 4.2)), float(rng.uniform(2.75, 3.0))
    pen = Pen(-half - 0.1, half + 0.2, top + 0.6, ppm)
    outline = [
        (-half, 0.32),
        (half, 0.32),
        (half + 0.03, 1.0),
        (half - 0.08, top - 0.12),
        (half - 0.25, top),
        (-half + 0.1, top),
        (-half, top - 0.15),
    ]
    pen.solid(outline, (0.05, 0.42), tone(paint, 1.12), paint)
    pen.rect(-half + 0.02, 0.62, half - 0.02, 0.92, band)
    pen.rect(-half + 0.12, 1.15, half - 0.1, top - 0.32, GLASS)
    for x in np.arange(-half + 1.1, half - 0.5, 1.05):
        pen.rect(x - 0.05, 1.1, x + 0.05, top - 0.3, tone(paint, 0.8))
        pen.disc(x + 0.5, 1.3, 0.16, 0.22, (60, 66, 84))
    for x in (half - 0.95, -0.2):
        pen.rect(x - 0.5, 0.4, x + 0.5, top - 0.36, tone(GLASS, 1.35))
        pen.line([(x, 0.4), (x, top - 0.36)], 0.05, TRIM)
    pen.rect(-half, 0.3, half, 0.44, TRIM)
    _wheel(pen, -half + 1.7, 0.45, (140, 142, 146), 0.5)
    _wheel(pen, half - 1.95, 0.45, (140, 142, 146), 0.5)
    _lights(pen, half, -half, 0.75)
    return pen.finish(0.25)


def tractor(rng: np.random.Generator, _phase: float, ppm: float) -> Sprite:
    """A farm tractor with a cab, a large rear and a small front wheel."""
    paint = pick(rng, ((50, 130, 40), (40, 40, 185), (170, 90, 30), (40, 120, 210)), 12)
    rim = pick(rng, ((60, 210, 230), (200, 200, 200), (60, 60, 180)), 8)
    big = float(rng.uniform(0.75, 0.9))
    pen = Pen(-1.9, 2.0, 2.95, ppm)
    pen.solid(
        [(-0.2, 0.7), (1.6, 0.65), (1.65, 1.25), (1.4, 1.42), (-0.2, 1.5)], (0.04, 0.25), tone(paint, 1.15), paint
    )
    for y in (0.85, 1.0, 1.15):
        pen.line([(0.95, y), (1.55, y)], 0.05, TRIM)
    roof = float(rng.uniform(2.35, 2.6))
    pen.solid(
        [(-1.25, roof), (0.35, roof), (0.3, roof + 0.15), (-1.2, roof + 0.15)], (0.04, 0.25), tone(paint, 1.1), paint
    )
    pen.rect(-1.15, 1.2, 0.2, roof, GLASS)
    for x0, x1 in ((-1.15, -1.2), (-0.45, -0.45), (0.2, 0.3)):
        pen.line([(x0, 1.2), (x1, roof)], 0.08, tone(paint, 0.7))
    pen.disc(-0.5, 1.75, 0.16, 0.2, (60, 70, 90))
    pen.line([(0.75, 1.4), (0.75, 2.1)], 0.09, TRIM)
    _wheel(pen, -0.9, big, rim, 0.55)
    _wheel(pen, 1.2, 0.48, rim, 0.5)
    pen.lamp(1.65, 1.2, True)
    return pen.finish(0.3)


def forklift(rng: np.random.Generator, _phase: float, ppm: float) -> Sprite:
    """A fork lift truck with mast, forks and, half of the time, a load."""
    paint = pick(rng, ((30, 160, 235), (40, 100, 230), (50, 60, 200), (60, 180, 120)), 12)
    pen = Pen(-1.35, 2.0, 2.75, ppm)
    pen.solid([(-1.15, 0.35), (0.7, 0.35), (0.7, 0.85), (0.1, 0.95), (-0.45, 1.15), (-1.15, 1.15)], (0.04, 0.25),
              tone(paint, 1.15), paint)  # fmt: skip
    for x0, x1 in ((-0.95, -0.75), (0.5, 0.25)):
        pen.line([(x0, 0.9), (x1, 2.12)], 0.09, TRIM)
    pen.solid([(-0.85, 2.1), (0.4, 2.1), (0.36, 2.2), (-0.8, 2.2)], (0.04, 0.22), (70, 70, 74), TRIM)
    pen.limb((-0.35, 1.15), (-0.28, 1.6), 0.3, 0.32, pick(rng, ((40, 150, 240), (150, 80, 40), (60, 60, 60))))
    pen.disc(-0.25, 1.86, 0.12, 0.14, (60, 200, 240))
    lift = float(rng.uniform(0.1, 0.9))
    pen.line([(0.82, 0.15), (0.82, 2.45)], 0.12, (70, 72, 76))
    pen.line([(0.94, 0.15), (0.94, 2.3)], 0.05, (130, 132, 136))
    pen.line([(0.9, lift + 0.6), (0.95, lift), (1.85, lift)], 0.08, (90, 92, 96))
    if rng.random() < 0.5:
        box = pick(rng, ((90, 130, 170), (120, 160, 195), (150, 150, 150)))
        low, high = lift + 0.06, lift + 0.8
        pen.solid([(1.02, low), (1.8, low), (1.8, high), (1.02, high)], (0.03, 0.2), tone(box, 1.15), box)
    _wheel(pen, -0.75, 0.3, (90, 92, 96), 0.45)
    _wheel(pen, 0.45, 0.34, (90, 92, 96), 0.45)
    pen.lamp(0.5, 2.0, True)
    return pen.finish(0.3)
