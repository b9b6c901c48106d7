"""Draws a scene before its style: sky, place, subject and weather."""

from collections.abc import Callable
from math import pi

import numpy as np
from jaxtyping import Float
from PIL import Image

from versatile_diffusion._moved import former_names

from .canvas import BLACK, WHITE, Canvas, Color, Light, Point, mix, tint
from .scene import Scene
from .subjects import COLORS, DRAW_SUBJECT, SubjectFigure

SUPERSAMPLING = 4

SKY: dict[str, tuple[Color, Color]] = {
    "day": ((84, 164, 236), (196, 230, 250)),
    "sunset": ((190, 78, 132), (255, 184, 88)),
    "night": ((14, 18, 60), (50, 62, 120)),
}
AIR: dict[str, Color] = {"day": (122, 138, 160), "sunset": (150, 104, 122), "night": (44, 52, 84)}
CLOUD: dict[str, Color] = {"day": (172, 176, 186), "sunset": (160, 128, 142), "night": (98, 102, 124)}
LIGHT: dict[str, Light] = {
    "day": (1.0, 1.0, 1.0),
    "sunset": (0.98, 0.78, 0.72),
    "night": (0.52, 0.58, 0.78),
}
SUBJECT_TINT = 0.3  # so little of the hour's light that the subject keeps its colour
CENTER = {"left": 0.29, "middle": 0.5, "right": 0.71}


class DrawnScene:
    """The canvas of one scene, with what all its parts share: horizon, light and random numbers."""

    def __init__(self, scene: Scene, side: int) -> None:
        self.scene = scene
        self.rng = rng = np.random.default_rng((scene.seed, 0))
        self.horizon = rng.uniform(0.58, 0.66)
        self.base = rng.uniform(0.83, 0.87)
        self.x = CENTER[scene.position] + rng.uniform(-0.03, 0.03)
        self.away = -1 if self.x > 0.5 + rng.uniform(-0.02, 0.02) else 1
        red, green, blue = rng.uniform(0.94, 1.06) * np.array(LIGHT[scene.time])
        self.light: Light = (red, green, blue)
        self.canvas = Canvas(self._sky(side))

    def _sky(self, side: int) -> Image.Image:
        share = {"clear": 0.0, "cloudy": 0.2, "rain": 0.5, "snow": 0.25}[self.scene.weather]
        if self.scene.time == "sunset":
            share *= 0.6
        air = mix(AIR[self.scene.time], WHITE, 0.35 if self.scene.weather == "snow" and self.scene.time == "day" else 0)
        jitter = self.rng.uniform(-9, 9, 3)
        top, bottom = (np.array(mix(color, air, share)) + jitter for color in SKY[self.scene.time])
        t = np.clip(np.linspace(0, 1 / self.horizon, side), 0, 1)[:, None, None]
        column = np.clip(top + (bottom - top) * t, 0, 255).astype(np.uint8)
        return Image.fromarray(column).resize((side, side), Image.Resampling.NEAREST)

    def lit(self, color: Color) -> Color:
        return tint(color, self.light)

    def hill(self, top: float, swell: float, color: Color) -> None:
        """Draws land up to the lower edge, its rim a slow wave about `top`."""
        phase, pace = self.rng.uniform(0, 2 * pi), self.rng.uniform(0.7, 1.2)
        x = np.linspace(0, 1, 17)
        y = top + swell * np.sin(2 * pi * pace * x + phase)
        rim: list[Point] = list(zip(x.tolist(), y.tolist(), strict=True))
        self.canvas.polygon([(0, 1), *rim, (1, 1)], self.lit(color))


def sun_or_moon(p: DrawnScene) -> None:
    x = np.clip(p.x + p.away * p.rng.uniform(0.38, 0.5), 0.2, 0.8)
    if p.scene.time == "night":
        y = p.rng.uniform(0.2, 0.26)
        if p.scene.weather == "clear":
            for sx, sy in p.rng.uniform((0.1, 0.1), (0.9, 0.5), (12, 2)):
                p.canvas.ellipse(sx, sy, 0.012, 0.012, (255, 244, 190))
        p.canvas.ellipse(x, y, 0.13, 0.13, (200, 205, 230), alpha=0.15)
        p.canvas.ellipse(x, y, 0.09, 0.09, (252, 244, 206))
        p.canvas.ellipse(x + 0.045, y - 0.02, 0.075, 0.075, mix(SKY["night"][0], SKY["night"][1], y / p.horizon))
    elif p.scene.time == "sunset":
        y, r = p.horizon - p.rng.uniform(0.02, 0.08), p.rng.uniform(0.12, 0.15)
        p.canvas.ellipse(x, y, 1.6 * r, 1.6 * r, (255, 220, 130), alpha=0.35)
        p.canvas.ellipse(x, y, r, r, (255, 236, 120))
    elif p.scene.weather == "clear":
        y, r = p.rng.uniform(0.2, 0.26), p.rng.uniform(0.075, 0.09)
        p.canvas.ellipse(x, y, 1.5 * r, 1.5 * r, (255, 250, 210), alpha=0.5)
        p.canvas.ellipse(x, y, r, r, (255, 232, 96))


def meadow(p: DrawnScene) -> None:
    p.hill(p.horizon, 0.035, (150, 204, 104))
    p.hill(p.horizon + 0.12, 0.03, (108, 178, 74))
    petals = ((255, 246, 250), (250, 150, 190), (255, 226, 120))
    for i, (x, y) in enumerate(p.rng.uniform((0.08, p.horizon + 0.2), (0.92, 0.92), (14, 2))):
        p.canvas.ellipse(x, y, 0.014, 0.014, p.lit(petals[i % 3]))


def desert(p: DrawnScene) -> None:
    p.hill(p.horizon, 0.04, (246, 210, 140))
    p.hill(p.horizon + 0.12, 0.045, (232, 182, 100))
    green, x, y = p.lit((70, 130, 80)), p.x + p.away * p.rng.uniform(0.38, 0.44), p.horizon + 0.16
    x = float(np.clip(x, 0.16, 0.84))
    p.canvas.line([(x, y), (x, y - 0.24)], green, 0.055)
    p.canvas.ellipse(x, y - 0.24, 0.027, 0.027, green)
    for side, low in ((-1, 0.07), (1, 0.11)):
        arm = x + side * 0.07
        p.canvas.line([(x, y - low), (arm, y - low), (arm, y - low - 0.08)], green, 0.036)


def sea(p: DrawnScene) -> None:
    p.canvas.box(0, p.horizon, 1, 1, p.lit((66, 146, 204)))
    p.canvas.box(0, p.horizon + 0.14, 1, 1, p.lit((44, 116, 182)))
    foam = p.lit((206, 232, 244))
    for row in range(4):
        y = p.horizon + 0.05 + 0.09 * row
        for x in np.arange(-0.1, 1.0, 0.3) + p.rng.uniform(0, 0.2):
            x = float(x)
            p.canvas.line([(x, y), (x + 0.05, y - 0.018), (x + 0.1, y)], foam, 0.016)
    if p.scene.subject != "balloon":
        p.canvas.ellipse(p.x, p.base + 0.03, 0.3, 0.085, foam)
        p.canvas.ellipse(p.x, p.base + 0.015, 0.27, 0.065, p.lit((238, 208, 140)), inked=True)


def mountains(p: DrawnScene) -> None:
    for x in (0.12, 0.85, 0.48):
        x, peak, w = x + p.rng.uniform(-0.06, 0.06), p.rng.uniform(0.22, 0.36), p.rng.uniform(0.3, 0.38)
        foot = p.horizon + 0.08
        rock, dark = p.lit((128, 132, 158)), p.lit((100, 104, 134))
        p.canvas.polygon([(x - w, foot), (x, peak), (x + w, foot)], rock)
        p.canvas.polygon([(x, peak), (x + w, foot), (x + 0.1 * w, foot)], dark)
        t = 0.34
        y = peak + t * (foot - peak)
        cap = [
            (x, peak),
            (x + t * w, y),
            (x + 0.15 * w, y - 0.04),
            (x, y + 0.02),
            (x - 0.15 * w, y - 0.04),
            (x - t * w, y),
        ]
        p.canvas.polygon(cap, p.lit((244, 246, 252)))
    p.hill(p.horizon + 0.06, 0.02, (112, 136, 112))
    p.hill(p.horizon + 0.16, 0.02, (134, 150, 126))


def city(p: DrawnScene) -> None:
    x = -0.05
    window = (255, 222, 110) if p.scene.time == "night" else p.lit((222, 234, 242))
    tones = ((134, 128, 146), (112, 110, 132), (152, 140, 148))
    i = 0
    while x < 1:
        w, top = p.rng.uniform(0.13, 0.19), p.rng.uniform(0.26, 0.46)
        p.canvas.box(x, top, x + w, p.horizon + 0.1, p.lit(tones[i % 3]))
        for wy in np.arange(top + 0.04, p.horizon, 0.085):
            for wx in (x + 0.2 * w, x + 0.58 * w):
                p.canvas.box(wx, float(wy), wx + 0.24 * w, float(wy) + 0.045, window)
        x, i = x + w, i + 1
    p.canvas.box(0, p.horizon + 0.08, 1, 1, p.lit((176, 172, 174)))
    p.canvas.box(0, 0.89, 1, 1, p.lit((92, 92, 102)))


def snow_on_ground(p: DrawnScene) -> None:
    white = mix(p.lit(WHITE), WHITE, 0.35)
    for i, y in enumerate(np.linspace(p.horizon + 0.1, 0.92, 4)):
        x = p.rng.uniform(0.0, 0.3) + 0.45 * (i % 2)
        for dx in (0.0, 0.62 * (-1) ** i):
            p.canvas.ellipse(x + dx, float(y), 0.19, 0.045, white)


def clouds(p: DrawnScene, color: Color, height: float) -> None:
    """Draws a row of heaps across the upper sky, lighter on top."""
    for x in np.linspace(0.08, 0.92, 4) + p.rng.uniform(-0.06, 0.06, 4):
        y, r = height + p.rng.uniform(-0.04, 0.05), p.rng.uniform(0.08, 0.1)
        puffs = [
            (float(x) + dx * r, y + dy * r, s * r) for dx, dy, s in ((-1, 0.2, 0.75), (1, 0.2, 0.8), (0, -0.2, 1.0))
        ]
        for px, py, pr in puffs:
            p.canvas.ellipse(px, py + 0.015, pr * 1.15, pr, mix(color, BLACK, 0.22))
        for px, py, pr in puffs:
            p.canvas.ellipse(px, py - 0.012, pr * 1.05, pr * 0.85, mix(color, WHITE, 0.1))


def scattered(p: DrawnScene, rows: int, first: Point, step: Point) -> np.ndarray:
    """Returns jittered points, (6 rows, 2): evenly spread, so that none of the picture lacks its weather."""
    grid = [(first[0] + step[0] * (i % 6), first[1] + step[1] * (i // 6)) for i in range(6 * rows)]
    return p.rng.uniform(-0.06, 0.06, (6 * rows, 2)) + grid


def rain(p: DrawnScene) -> None:
    drop = mix((224, 240, 255), AIR[p.scene.time], 0.1)
    for x, y in scattered(p, 5, (0.1, 0.22), (0.17, 0.16)):
        p.canvas.line([(x + 0.025, y - 0.05), (x - 0.025, y + 0.05)], drop, 0.02, alpha=0.85)


def snow(p: DrawnScene) -> None:
    for x, y in scattered(p, 6, (0.08, 0.1), (0.17, 0.15)):
        r = 0.02 + 0.004 * p.rng.random()
        p.canvas.ellipse(x, y, r, r, WHITE)


def subject(p: DrawnScene) -> None:
    red, green, blue = 1 - SUBJECT_TINT * (1 - np.array(LIGHT[p.scene.time]))
    light = (red, green, blue)
    red, green, blue = (
        np.clip(tint(COLORS[p.scene.color], light) + p.rng.uniform(-9, 9, 3), 0, 255).astype(int).tolist()
    )
    height = p.rng.uniform(0.42, 0.5)
    figure = SubjectFigure(p.x, p.base, height, (red, green, blue), light, p.scene.time == "night")
    DRAW_SUBJECT[p.scene.subject](p.canvas, figure, p.rng)


DRAW_PLACE: dict[str, Callable[[DrawnScene], None]] = {
    "meadow": meadow,
    "desert": desert,
    "sea": sea,
    "mountains": mountains,
    "city": city,
}


def draw(scene: Scene, size: int) -> Float[np.ndarray, "size size 3"]:
    """Returns the scene without its style: float32 (size, size, 3) in [0, 255]."""
    p = DrawnScene(scene, size * SUPERSAMPLING)
    sun_or_moon(p)
    if scene.weather == "cloudy":
        clouds(p, CLOUD[scene.time], 0.2)
    elif scene.weather == "rain":
        clouds(p, mix(CLOUD[scene.time], AIR[scene.time], 0.9), 0.13)
    DRAW_PLACE[scene.place](p)
    if scene.weather == "snow":
        snow_on_ground(p)
    subject(p)
    if scene.weather == "rain":
        rain(p)
    elif scene.weather == "snow":
        snow(p)
    return np.asarray(p.canvas.image.reduce(SUPERSAMPLING), dtype=np.float32)


__getattr__ = former_names(__name__, {"Picture": "versatile_diffusion.worlds.postcards.data.drawing:DrawnScene"})
