"""People, animals and what people push or ride, drawn from a random look."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from agent.world.pen import Colour, Pen, Point, Sprite, pick, tone

SKIN: tuple[Colour, ...] = ((150, 178, 224), (120, 150, 205), (84, 112, 165), (52, 72, 112), (170, 195, 235))
HAIR: tuple[Colour, ...] = ((28, 30, 34), (40, 58, 86), (60, 110, 150), (90, 90, 95), (175, 180, 185))
CLOTH: tuple[Colour, ...] = (
    (60, 45, 40), (140, 60, 40), (50, 50, 175), (190, 190, 195), (70, 110, 60), (40, 150, 205),
    (120, 70, 130), (35, 35, 38), (170, 130, 70), (95, 105, 120),
)  # fmt: skip
TROUSERS: tuple[Colour, ...] = ((95, 65, 45), (45, 42, 42), (80, 95, 115), (130, 135, 140), (60, 75, 60))
GREY: Colour = (120, 122, 125)
RUBBER: Colour = (32, 32, 34)


@dataclass(frozen=True)
class Body:
    """Size and clothes of one person."""

    height: float
    girth: float
    skin: Colour
    hair: Colour
    top: Colour
    legs: Colour
    shoes: Colour
    long_coat: bool
    hat: bool
    pack: int

    @staticmethod
    def random(rng: np.random.Generator) -> Body:
        """A person of any age in any clothes."""
        child = rng.random() < 0.12
        return Body(
            height=float(rng.uniform(1.15, 1.4) if child else rng.uniform(1.58, 1.9)),
            girth=float(rng.uniform(0.85, 1.25)),
            skin=pick(rng, SKIN, 8), hair=pick(rng, HAIR, 8), top=pick(rng, CLOTH), legs=pick(rng, TROUSERS),
            shoes=pick(rng, ((30, 30, 32), (60, 80, 120), (200, 200, 205)), 8),
            long_coat=bool(rng.random() < 0.25), hat=bool(rng.random() < 0.2), pack=int(rng.integers(0, 4)),
        )  # fmt: skip


def _head(pen: Pen, at: Point, size: float, body: Body, helmet: bool = False) -> None:
    x, y = at
    pen.disc(x, y, size * 0.85, size, body.skin)
    if helmet:
        pen.disc(x - 0.01, y + size * 0.28, size * 1.05, size * 0.85, body.top)
    elif body.hat:
        pen.disc(x, y + size * 0.45, size * 0.95, size * 0.6, tone(body.top, 0.7))
        pen.rect(x - size * 0.9, y + size * 0.2, x + size * 1.35, y + size * 0.38, tone(body.top, 0.6))
    else:
        pen.disc(x - size * 0.22, y + size * 0.3, size * 0.85, size * 0.78, body.hair)


def _leg(pen: Pen, hip: Point, swing: float, length: float, body: Body, *, dark: float) -> None:
    knee = (hip[0] + math.sin(swing) * length * 0.5, hip[1] - math.cos(swing) * length * 0.5)
    bend = swing - 0.35 - 0.5 * max(0.0, -swing)
    foot = (knee[0] + math.sin(bend) * length * 0.48, max(0.04, knee[1] - math.cos(bend) * length * 0.5))
    colour, girth = tone(body.legs, dark), body.girth
    pen.limb(hip, knee, 0.17 * girth, 0.13 * girth, colour)
    pen.limb(knee, foot, 0.13 * girth, 0.09 * girth, colour)
    pen.disc(foot[0] + 0.06, max(0.035, foot[1] - 0.01), 0.13, 0.05, tone(body.shoes, dark))


def _arm(pen: Pen, shoulder: Point, swing: float, length: float, body: Body, *, dark: float) -> None:
    elbow = (shoulder[0] + math.sin(swing) * length * 0.5, shoulder[1] - math.cos(swing) * length * 0.5)
    hand = (elbow[0] + math.sin(swing + 0.35) * length * 0.45, elbow[1] - math.cos(swing + 0.35) * length * 0.45)
    pen.limb(shoulder, elbow, 0.12 * body.girth, 0.1 * body.girth, tone(body.top, dark))
    pen.limb(elbow, hand, 0.1 * body.girth, 0.07, tone(body.top, dark))
    pen.disc(*hand, 0.055, 0.06, tone(body.skin, dark))


def person(rng: np.random.Generator, phase: float, ppm: float) -> Sprite:
    """Somebody on foot; half of the people show front or back, the others their side."""
    body, facing_us = Body.random(rng), rng.random() < 0.4
    pen = Pen(-0.62, 0.62, body.height + 0.12, ppm)
    tall, swing = body.height, math.sin(phase * 2 * math.pi)
    spread = 0.09 * body.girth if facing_us else 0.0
    stride = 0.14 * swing if facing_us else 0.48 * swing
    hip, shoulder = tall * 0.5, tall * 0.81
    _leg(pen, (-spread, hip), -stride, hip, body, dark=0.72)
    if not facing_us:
        _arm(pen, (0.0, shoulder), stride * 0.9, tall * 0.38, body, dark=0.7)
    if body.pack == 1:
        pen.disc(-0.2 * body.girth, tall * 0.68, 0.13, tall * 0.13, tone(body.legs, 1.3))
    _leg(pen, (spread, hip), stride, hip, body, dark=1.0)
    wide = (0.23 if facing_us else 0.17) * body.girth
    low = tall * (0.3 if body.long_coat else 0.47)
    pen.poly(
        [
            (-wide * 0.82, low),
            (wide * 0.82, low),
            (wide, shoulder),
            (wide * 0.5, tall * 0.855),
            (-wide * 0.5, tall * 0.855),
            (-wide, shoulder),
        ],
        body.top,
    )
    if facing_us:
        _arm(pen, (-wide, shoulder), -0.12 - 0.2 * swing, tall * 0.38, body, dark=0.9)
        _arm(pen, (wide, shoulder), 0.05 + 0.2 * swing, tall * 0.38, body, dark=0.9)
    else:
        _arm(pen, (0.0, shoulder), -stride * 0.9, tall * 0.38, body, dark=0.88)
    if body.pack == 2:
        pen.rect(wide * 0.7, tall * 0.2, wide * 0.7 + 0.2, tall * 0.38, tone(body.legs, 0.8))
    _head(pen, (0.02, tall * 0.925), tall * 0.072, body)
    return pen.finish(0.35)


def _rider(pen: Pen, seat: Point, grip: Point, pedal: Point, body: Body, *, helmet: bool) -> None:
    """A sitting person: bent legs to the pedal, arms to the grip."""
    shoulder = (seat[0] + (grip[0] - seat[0]) * 0.52, seat[1] + 0.5)
    knee = ((seat[0] + pedal[0]) / 2 + 0.22, (seat[1] + pedal[1]) / 2 + 0.12)
    pen.limb(seat, knee, 0.18, 0.14, body.legs)
    pen.limb(knee, pedal, 0.13, 0.09, body.legs)
    pen.disc(pedal[0] + 0.07, pedal[1] - 0.03, 0.13, 0.05, body.shoes)
    pen.limb((seat[0], seat[1] + 0.05), shoulder, 0.3 * body.girth, 0.34 * body.girth, body.top)
    elbow = ((shoulder[0] + grip[0]) / 2, (shoulder[1] + grip[1]) / 2 - 0.1)
    pen.limb(shoulder, elbow, 0.12, 0.1, tone(body.top, 0.85))
    pen.limb(elbow, grip, 0.1, 0.07, tone(body.top, 0.85))
    _head(pen, (shoulder[0] + 0.1, shoulder[1] + 0.27), 0.125, body, helmet)


def _wheel(pen: Pen, x: float, radius: float, width: float, phase: float) -> None:
    pen.ring(x, radius, radius - width / 2, width, RUBBER)
    for spoke in range(5):
        angle = (phase + spoke / 5.0) * 2 * math.pi
        reach = radius - width
        pen.line([(x, radius), (x + reach * math.cos(angle), radius + reach * math.sin(angle))], 0.015, GREY)
    pen.disc(x, radius, 0.05, 0.05, GREY)


def bicycle(rng: np.random.Generator, phase: float, ppm: float) -> Sprite:
    """A bicycle with its rider."""
    body, paint = Body.random(rng), pick(rng, CLOTH)
    pen = Pen(-1.05, 1.05, 1.95, ppm)
    radius, lift = float(rng.uniform(0.32, 0.36)), float(rng.uniform(0.0, 0.12))
    _wheel(pen, -0.54, radius, 0.06, phase)
    _wheel(pen, 0.54, radius, 0.06, phase)
    seat, grip, crank = (-0.2, 0.9 + lift / 2), (0.42, 1.0 + lift), (-0.05, 0.32)
    for path in ([(-0.54, radius), crank, seat], [crank, (0.4, 0.8)], [(-0.54, radius), (-0.18, 0.75), (0.4, 0.82)],
                 [grip, (0.54, radius)]):  # fmt: skip
        pen.line(path, 0.05, paint)
    if rng.random() < 0.4:
        pen.rect(0.45, 0.75, 0.8, 1.0, tone(paint, 0.6))
    turn = phase * 2 * math.pi
    pedal = (crank[0] + 0.16 * math.cos(turn), crank[1] + 0.16 * math.sin(turn))
    _rider(pen, seat, grip, pedal, body, helmet=rng.random() < 0.5)
    pen.lamp(0.6, 0.8, True)
    return pen.finish(0.35)


def scooter(rng: np.random.Generator, phase: float, ppm: float) -> Sprite:
    """A kick scooter with somebody standing on it."""
    body, paint = Body.random(rng), pick(rng, ((60, 190, 90), (40, 40, 44), (190, 190, 60), (60, 60, 210)))
    pen = Pen(-0.8, 0.8, 2.1, ppm)
    stand, tall = 0.2, body.height
    _wheel(pen, -0.48, 0.12, 0.05, phase)
    _wheel(pen, 0.5, 0.12, 0.05, phase)
    pen.line([(-0.48, 0.14), (0.4, 0.15), (0.46, 1.1)], 0.08, paint)
    pen.line([(0.34, 1.1), (0.5, 1.12)], 0.05, RUBBER)
    _leg(pen, (-0.1, stand + tall * 0.48), -0.16, tall * 0.48, body, dark=0.75)
    pen.limb((-0.1, stand + tall * 0.5), (-0.05, stand + 0.03), 0.17, 0.1, body.legs)
    pen.limb((-0.1, stand + tall * 0.5), (-0.02, stand + tall * 0.8), 0.3 * body.girth, 0.34 * body.girth, body.top)
    pen.limb((0.0, stand + tall * 0.78), (0.4, 1.12), 0.11, 0.07, tone(body.top, 0.85))
    _head(pen, (0.04, stand + tall * 0.925), tall * 0.072, body, rng.random() < 0.4)
    return pen.finish(0.35)


def motorcycle(rng: np.random.Generator, _phase: float, ppm: float) -> Sprite:
    """A motorcycle with a helmeted rider."""
    body = Body.random(rng)
    paint = pick(rng, ((30, 30, 190), (35, 35, 38), (160, 80, 30), (40, 140, 220)))
    pen = Pen(-1.25, 1.25, 1.95, ppm)
    for x in (-0.7, 0.72):
        pen.disc(x, 0.32, 0.32, 0.32, RUBBER)
        pen.disc(x, 0.32, 0.18, 0.18, GREY)
    pen.limb((-0.55, 0.45), (0.3, 0.42), 0.34, 0.38, (70, 72, 76))
    pen.line([(-0.1, 0.25), (-0.95, 0.35)], 0.11, (175, 178, 182))
    pen.poly([(-1.0, 0.85), (-0.3, 0.72), (0.35, 0.85), (0.5, 0.98), (0.05, 1.05), (-0.35, 0.86), (-0.95, 0.95)], paint)
    pen.line([(0.42, 1.05), (0.72, 0.32)], 0.09, GREY)
    if rng.random() < 0.5:
        pen.poly([(0.4, 0.75), (0.72, 0.85), (0.6, 1.25), (0.42, 1.1)], paint)
    _rider(pen, (-0.3, 0.92), (0.38, 1.1), (0.0, 0.4), body, helmet=True)
    pen.lamp(0.7, 0.95, True)
    pen.lamp(-0.98, 0.85, False)
    return pen.finish(0.35)


def wheelchair(rng: np.random.Generator, phase: float, ppm: float) -> Sprite:
    """Somebody in a wheelchair."""
    body, paint = Body.random(rng), pick(rng, ((40, 40, 44), (160, 60, 30), (40, 40, 170)))
    pen = Pen(-0.75, 0.85, 1.6, ppm)
    pen.line([(-0.42, 0.95), (-0.3, 0.5), (0.22, 0.5), (0.42, 0.14), (0.62, 0.14)], 0.06, paint)
    pen.disc(0.33, 0.1, 0.1, 0.1, RUBBER)
    lean = float(rng.uniform(-0.05, 0.1))
    pen.limb((-0.18, 0.6), (0.25, 0.6), 0.2, 0.16, body.legs)
    pen.limb((0.25, 0.6), (0.45, 0.2), 0.14, 0.1, body.legs)
    pen.disc(0.54, 0.17, 0.12, 0.05, body.shoes)
    pen.limb((-0.18, 0.62), (-0.14 + lean, 1.08), 0.32 * body.girth, 0.36 * body.girth, body.top)
    pen.limb((-0.14 + lean, 1.05), (0.05, 0.72), 0.11, 0.08, tone(body.top, 0.85))
    _head(pen, (-0.09 + lean, 1.34), 0.125, body)
    _wheel(pen, -0.16, 0.31, 0.05, phase)
    pen.ring(-0.16, 0.31, 0.22, 0.025, (175, 178, 182))
    return pen.finish(0.35)


def pram(rng: np.random.Generator, phase: float, ppm: float) -> Sprite:
    """A pram or pushchair."""
    cloth = pick(rng, CLOTH)
    pen = Pen(-0.85, 0.75, 1.3, ppm)
    radius = float(rng.uniform(0.14, 0.24))
    _wheel(pen, -0.32, radius, 0.06, phase)
    _wheel(pen, 0.36, radius, 0.06, phase + 0.1)
    pen.line([(-0.32, radius), (0.3, 0.6)], 0.05, GREY)
    pen.line([(0.36, radius), (-0.35, 0.7), (-0.62, 1.02)], 0.05, GREY)
    pen.poly([(-0.42, 0.72), (-0.34, 0.42), (0.34, 0.42), (0.5, 0.74)], cloth)
    hood = [(0.08 + 0.46 * math.cos(a), 0.72 + 0.44 * math.sin(a)) for a in np.linspace(0.0, math.pi * 0.62, 12)]
    pen.poly([(0.05, 0.7), *hood], tone(cloth, 0.75))
    if rng.random() < 0.5:
        pen.rect(-0.25, 0.2, 0.3, 0.34, tone(cloth, 0.6))
    return pen.finish(0.35)


def _paws(pen: Pen, xs: tuple[float, float], top: float, swing: float, *, width: float, colour: Colour) -> None:
    for x, sign, dark in ((xs[0], -1, 0.7), (xs[1], 1, 0.7), (xs[0] + width, 1, 1.0), (xs[1] + width, -1, 1.0)):
        knee = (x + 0.18 * top * swing * sign, top * 0.5)
        pen.limb((x, top), knee, width * 1.5, width, tone(colour, dark))
        pen.limb(knee, (x + 0.36 * top * swing * sign, 0.03), width, width * 0.8, tone(colour, dark))


def dog(rng: np.random.Generator, phase: float, ppm: float) -> Sprite:
    """A dog of any size and coat."""
    size = float(rng.uniform(0.75, 1.25))
    coat = pick(rng, ((60, 95, 140), (35, 38, 42), (190, 205, 215), (80, 120, 170), (95, 98, 102)), 12)
    pen = Pen(-0.85, 0.95, 1.15, ppm)
    swing = math.sin(phase * 2 * math.pi)
    _paws(pen, (-0.3 * size, 0.24 * size), 0.38 * size, swing, width=0.07 * size, colour=coat)
    pen.limb((-0.3 * size, 0.47 * size), (0.28 * size, 0.5 * size), 0.26 * size, 0.32 * size, coat)
    tail = 0.75 + 0.1 * swing
    pen.limb((-0.4 * size, 0.52 * size), (-0.62 * size, tail * size), 0.08 * size, 0.05 * size, coat)
    pen.limb((0.32 * size, 0.58 * size), (0.46 * size, 0.76 * size), 0.2 * size, 0.18 * size, coat)
    pen.disc(0.5 * size, 0.8 * size, 0.14 * size, 0.12 * size, coat)
    pen.limb((0.54 * size, 0.78 * size), (0.7 * size, 0.74 * size), 0.13 * size, 0.09 * size, tone(coat, 0.9))
    pen.disc(0.42 * size, 0.82 * size, 0.06 * size, 0.12 * size, tone(coat, 0.65), angle=25)
    return pen.finish(0.35)


def horse(rng: np.random.Generator, phase: float, ppm: float) -> Sprite:
    """A horse, two times in three with a rider."""
    coat = pick(rng, ((35, 60, 105), (40, 42, 46), (185, 195, 200), (60, 90, 140)), 10)
    body, mane = Body.random(rng), tone(coat, 0.5)
    pen = Pen(-1.6, 1.75, 2.75, ppm)
    swing = math.sin(phase * 2 * math.pi)
    _paws(pen, (-0.68, 0.5), 0.95, swing * 1.1, width=0.15, colour=coat)
    pen.limb((-0.82, 1.3), (-1.2, 0.7 + 0.1 * swing), 0.15, 0.07, mane)
    pen.limb((-0.55, 1.15), (0.5, 1.18), 0.64, 0.6, coat)
    pen.limb((0.6, 1.3), (1.02, 1.85), 0.46, 0.28, coat)
    pen.limb((0.48, 1.5), (0.92, 1.98), 0.1, 0.1, mane)
    pen.limb((1.02, 1.88), (1.42, 1.6), 0.27, 0.17, coat)
    pen.poly([(0.98, 1.95), (1.02, 2.12), (1.09, 1.96)], coat)
    if rng.random() < 0.66:
        pen.disc(-0.05, 1.48, 0.32, 0.1, (30, 40, 60))
        _rider(pen, (-0.08, 1.55), (0.45, 1.65), (0.1, 0.98), body, helmet=True)
    return pen.finish(0.35)
