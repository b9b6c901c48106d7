"""The six things a postcard can be of. Each stands on `base`, centred on `x`, about `h` high."""

from collections.abc import Callable
from dataclasses import dataclass
from math import cos, pi, sin

import numpy as np

from .canvas import BLACK, INK, WHITE, Canvas, Color, Light, mix, tint

COLORS: dict[str, Color] = {
    "red": (216, 44, 40),
    "yellow": (250, 212, 36),
    "green": (44, 160, 66),
    "blue": (40, 96, 214),
    "purple": (142, 58, 176),
    "white": (248, 246, 242),
}
WOOD: Color = (124, 82, 54)
SLATE: Color = (78, 72, 88)
LAMP: Color = (255, 226, 120)
GLASS: Color = (196, 220, 232)


@dataclass(frozen=True)
class SubjectFigure:
    """Where a subject stands, how big it is, and the colours and light it is drawn with."""

    x: float
    base: float
    h: float
    body: Color
    light: Light
    night: bool

    @property
    def shade(self) -> Color:
        return mix(self.body, BLACK, 0.22)

    @property
    def window(self) -> Color:
        return LAMP if self.night else mix(GLASS, SLATE, 0.45)

    def lit(self, color: Color) -> Color:
        return tint(color, self.light)


def house(canvas: Canvas, f: SubjectFigure, rng: np.random.Generator) -> None:
    w, wall, roof = 0.43 * f.h, 0.58 * f.h, f.h
    side = rng.choice((-1, 1))
    chimney = f.x + side * 0.5 * w
    canvas.box(chimney - 0.05, f.base - 0.98 * f.h, chimney + 0.05, f.base - 0.6 * f.h, f.lit(WOOD), inked=True)
    for i in range(3):
        puff = (chimney + side * 0.03 * i, f.base - (1.08 + 0.12 * i) * f.h)
        canvas.ellipse(*puff, 0.025 + 0.01 * i, 0.022 + 0.008 * i, f.lit((225, 225, 228)), alpha=0.75)
    canvas.box(f.x - w, f.base - wall, f.x + w, f.base, f.body, inked=True)
    eaves = f.base - wall + 0.01
    canvas.polygon([(f.x - 1.2 * w, eaves), (f.x, f.base - roof), (f.x + 1.2 * w, eaves)], f.lit(SLATE), inked=True)
    canvas.box(f.x - 0.2 * w, f.base - 0.6 * wall, f.x + 0.2 * w, f.base, f.lit(WOOD), inked=True)
    for dx in (-0.62, 0.62):
        x, y, r = f.x + dx * w, f.base - 0.58 * wall, 0.17 * w
        canvas.box(x - r, y - r, x + r, y + r, f.window, inked=True)


def tree(canvas: Canvas, f: SubjectFigure, rng: np.random.Generator) -> None:
    trunk = 0.085 * f.h
    canvas.polygon(
        [
            (f.x - trunk, f.base - 0.5 * f.h),
            (f.x + trunk, f.base - 0.5 * f.h),
            (f.x + 1.5 * trunk, f.base),
            (f.x - 1.5 * trunk, f.base),
        ],
        f.lit(WOOD),
        inked=True,
    )
    angle = rng.uniform(0, 2 * pi)
    y, r = f.base - 0.68 * f.h, 0.23 * f.h
    puffs = [(f.x + 0.24 * f.h * cos(angle + k), y + 0.16 * f.h * sin(angle + k)) for k in np.arange(6) * pi / 3]
    for px, py in puffs:
        canvas.ellipse(px, py, r, r, INK)
    for px, py in puffs:
        canvas.ellipse(px, py, r - canvas.outline, r - canvas.outline, f.shade)
    for px, py in puffs:
        canvas.ellipse(px - 0.012, py - 0.02, 0.76 * r, 0.76 * r, f.body)


def tent(canvas: Canvas, f: SubjectFigure, rng: np.random.Generator) -> None:
    w, top = 0.62 * f.h, f.base - 0.9 * f.h
    pole = top - 0.16 * f.h
    canvas.line([(f.x, top), (f.x, pole)], INK, 0.018)
    wave = rng.choice((-1, 1)) * 0.2 * f.h
    canvas.polygon([(f.x, pole), (f.x + wave, pole + 0.05 * f.h), (f.x, pole + 0.12 * f.h)], f.body, inked=True)
    canvas.polygon([(f.x - w, f.base), (f.x, top), (f.x + w, f.base)], f.body, inked=True)
    canvas.polygon([(f.x + 0.45 * w, f.base), (f.x, top), (f.x + 0.95 * w, f.base)], f.shade)
    inside = LAMP if f.night else mix(WOOD, BLACK, 0.55)
    canvas.polygon([(f.x - 0.3 * w, f.base), (f.x, f.base - 0.58 * f.h), (f.x + 0.3 * w, f.base)], inside, inked=True)


def lighthouse(canvas: Canvas, f: SubjectFigure, rng: np.random.Generator) -> None:
    h = 1.22 * f.h
    foot, neck, gallery, lamp = 0.21 * h, 0.125 * h, f.base - 0.72 * h, f.base - 0.86 * h
    if f.night:
        for side in (-1, 1):
            beam = [(f.x, lamp + 0.05 * h), (f.x + side * 0.8, lamp - 0.12), (f.x + side * 0.8, lamp + 0.14)]
            canvas.polygon(beam, mix(LAMP, WHITE, 0.5), alpha=0.4)

    def width(t: float) -> float:
        return foot + (neck - foot) * t

    def ring(low: float, high: float, color: Color, inked: bool = False) -> None:
        a, b, y0, y1 = width(low), width(high), f.base - 0.72 * h * low, f.base - 0.72 * h * high
        canvas.polygon([(f.x - a, y0), (f.x - b, y1), (f.x + b, y1), (f.x + a, y0)], color, inked=inked)

    ring(0, 1, f.body)
    for low in (0.22, 0.62):
        ring(low, low + 0.16, f.shade)
    canvas.line(
        [
            (f.x - foot, f.base),
            (f.x - neck, gallery),
            (f.x + neck, gallery),
            (f.x + foot, f.base),
            (f.x - foot, f.base),
        ],
        INK,
        canvas.outline,
    )
    canvas.box(f.x - 0.09 * h, lamp, f.x + 0.09 * h, gallery, LAMP, inked=True)
    canvas.polygon([(f.x - 0.14 * h, lamp), (f.x, f.base - h), (f.x + 0.14 * h, lamp)], f.lit(SLATE), inked=True)
    canvas.line([(f.x - 0.17 * h, gallery), (f.x + 0.17 * h, gallery)], INK, 0.026)
    canvas.box(f.x - 0.05 * h, f.base - 0.15 * h, f.x + 0.05 * h, f.base, f.lit(WOOD), inked=True)


def balloon(canvas: Canvas, f: SubjectFigure, rng: np.random.Generator) -> None:
    lift = rng.uniform(0.13, 0.2)
    r = 0.43 * f.h
    y = f.base - lift - 0.66 * f.h
    basket, mouth = f.base - lift + 0.1 * f.h, y + 1.32 * r
    for dx in (-0.07, 0.07):
        canvas.line([(f.x + 2.4 * dx * f.h, y + 0.8 * r), (f.x + dx * f.h, basket)], INK, 0.014)
    skirt = [
        (f.x - 0.86 * r, y + 0.5 * r),
        (f.x - 0.2 * r, mouth),
        (f.x + 0.2 * r, mouth),
        (f.x + 0.86 * r, y + 0.5 * r),
    ]
    canvas.ellipse(f.x, y, r, r, f.body, inked=True)
    canvas.polygon(skirt, f.body)
    canvas.line(skirt, INK, canvas.outline)
    canvas.ellipse(f.x, y, 0.62 * r, 0.94 * r, f.shade)
    canvas.ellipse(f.x, y, 0.36 * r, 0.94 * r, f.body)
    canvas.ellipse(f.x - 0.5 * r, y - 0.45 * r, 0.13 * r, 0.2 * r, mix(f.body, WHITE, 0.6))
    canvas.box(f.x - 0.1 * f.h, basket - 0.02, f.x + 0.1 * f.h, basket + 0.13 * f.h, f.lit(WOOD), inked=True)


def windmill(canvas: Canvas, f: SubjectFigure, rng: np.random.Generator) -> None:
    h = 1.05 * f.h
    foot, neck, top = 0.29 * h, 0.17 * h, f.base - 0.68 * h
    tower = [(f.x - foot, f.base), (f.x - neck, top), (f.x + neck, top), (f.x + foot, f.base)]
    canvas.polygon(tower, f.body, inked=True)
    canvas.polygon(
        [(f.x + 0.45 * neck, top), (f.x + neck, top), (f.x + foot, f.base), (f.x + 0.5 * foot, f.base)], f.shade
    )
    canvas.polygon([(f.x - 1.25 * neck, top), (f.x, top - 0.2 * h), (f.x + 1.25 * neck, top)], f.lit(SLATE), inked=True)
    canvas.box(f.x - 0.06 * h, f.base - 0.2 * h, f.x + 0.06 * h, f.base, f.lit(WOOD), inked=True)
    canvas.box(f.x - 0.05 * h, f.base - 0.42 * h, f.x + 0.05 * h, f.base - 0.32 * h, f.window, inked=True)
    hub, turn, length, breadth = top - 0.04 * h, rng.uniform(0.25, 1.3), 0.46 * h, 0.085 * h
    sail = f.lit((214, 190, 156))
    for k in range(4):
        c, s = cos(turn + k * pi / 2), sin(turn + k * pi / 2)
        tip, start = (f.x + length * c, hub + length * s), (f.x + 0.12 * length * c, hub + 0.12 * length * s)
        blade = [
            start,
            tip,
            (tip[0] - 1.6 * breadth * s, tip[1] + 1.6 * breadth * c),
            (start[0] - breadth * s, start[1] + breadth * c),
        ]
        canvas.polygon(blade, sail, inked=True)
        canvas.line([(f.x, hub), tip], INK, 0.02)
    canvas.ellipse(f.x, hub, 0.03, 0.03, INK)


DRAW_SUBJECT: dict[str, Callable[[Canvas, SubjectFigure, np.random.Generator], None]] = {
    "house": house,
    "tree": tree,
    "tent": tent,
    "lighthouse": lighthouse,
    "balloon": balloon,
    "windmill": windmill,
}
