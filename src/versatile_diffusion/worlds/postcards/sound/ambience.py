"""What one hears around a postcard: the place, the weather and the time of day, each in a few lines of synthesis."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from versatile_diffusion.worlds.postcards.sound.waves import (
    LENGTH,
    SECONDS,
    Wave,
    echoed,
    faded,
    glide,
    hann,
    muffled,
    noise,
    placed,
    struck,
    swell,
    times,
    tone,
)

Ambience = Callable[[np.random.Generator], Wave]


def meadow(rng: np.random.Generator) -> Wave:
    """A cuckoo, and a bee that comes by."""
    high, seconds = rng.uniform(640, 760), rng.uniform(0.17, 0.22)
    low = high / rng.uniform(1.18, 1.27)
    call = [(0.0, high), (rng.uniform(0.3, 0.36), low)]
    cuckoo = [
        (start + at, tone(glide([pitch, pitch * 0.985], seconds * 1.3), (1, 0.12)) * hann(seconds * 1.3) * 1.2)
        for start in np.arange(rng.uniform(0.05, 0.5), SECONDS - 0.6, rng.uniform(0.95, 1.2))
        for at, pitch in call
    ]
    hum = tone(glide((rng.uniform(170, 240) * rng.uniform(0.9, 1.1, 9)).tolist(), SECONDS), (1, 0.8, 0.6, 0.5, 0.3))
    return placed(cuckoo) + 0.25 * hum * swell(rng, SECONDS, 0.1, 1.5)


def desert(rng: np.random.Generator) -> Wave:
    """Wind that whistles, and the rattle of a snake."""
    pitch = glide(rng.uniform(500, 1150, 6).tolist(), SECONDS)
    flutter = noise(rng, SECONDS, 0, 25)
    whistle = (
        tone(pitch * (1 + 0.012 * flutter)) * swell(rng, SECONDS, 0.3, 2) * (1 + 0.35 * noise(rng, SECONDS, 0, 40))
    )
    rattles: list[tuple[float, Wave]] = []
    for start in (rng.uniform(0.1, 1.0), rng.uniform(1.4, 2.3)):
        seconds = rng.uniform(0.45, 0.7)
        beat = np.maximum(0, np.sin(2 * np.pi * rng.uniform(38, 50) * times(seconds))) ** 2
        rattles.append((start, noise(rng, seconds, 3500, 6500) * beat * hann(seconds)))
    return 0.8 * whistle + 0.7 * placed(rattles)


def sea(rng: np.random.Generator) -> Wave:
    """Surf that comes in and draws back, and a gull."""
    period, phase = rng.uniform(1.4, 2.2), rng.uniform(0, 1)
    wave = (times(SECONDS) / period + phase) % 1.0
    crest = np.minimum(wave / 0.3, 1) * np.exp(-np.maximum(0, wave - 0.3) * 3)
    surf = noise(rng, SECONDS, 150, 1500) * crest + 0.5 * noise(rng, SECONDS, 1500, 4500) * crest**3
    base = rng.uniform(950, 1250)
    cries: list[tuple[float, Wave]] = []
    for at in np.arange(rng.uniform(0.1, 0.9), SECONDS - 0.3, rng.uniform(0.38, 0.6))[: rng.integers(2, 4)]:
        seconds = rng.uniform(0.24, 0.34)
        rise = glide([base, 1.45 * base, 1.3 * base, 0.95 * base], seconds)
        cries.append((float(at), tone(rise, (1, 0.7, 0.5, 0.25)) * hann(seconds)))
    return surf + 0.7 * placed(cries)


def mountains(rng: np.random.Generator) -> Wave:
    """Cowbells, with their echo."""
    bells: list[tuple[float, Wave]] = []
    for pitch in rng.uniform(560, 900, 2):
        partials = [
            (pitch * r, a, f) for r, a, f in ((1, 1, 0.13), (1.51, 0.8, 0.1), (2.65, 0.6, 0.06), (4.1, 0.35, 0.04))
        ]
        at = rng.uniform(0, 0.4)
        while at < SECONDS - 0.2:
            bells.append((at, rng.uniform(0.5, 1) * struck(partials, 0.5)))
            at += rng.choice((0.21, 0.42, 0.63)) * rng.uniform(0.9, 1.15)
    return echoed(placed(bells), rng.uniform(0.24, 0.36), 0.45)


def city(rng: np.random.Generator) -> Wave:
    """Engines that hum, a car that passes, and horns."""
    idle = tone(
        glide((rng.uniform(70, 95) * rng.uniform(0.93, 1.07, 5)).tolist(), SECONDS), (1, 0.9, 0.8, 0.6, 0.5, 0.4)
    )
    passing = noise(rng, SECONDS, 250, 1100) * np.exp(-(((times(SECONDS) - rng.uniform(0.5, 2.5)) / 0.5) ** 2))
    low = rng.uniform(370, 440)
    horns: list[tuple[float, Wave]] = []
    at = rng.uniform(0.1, 1.2)
    for _ in range(rng.integers(2, 4)):
        seconds = rng.uniform(0.16, 0.4)
        chord = sum(tone(np.full(len(times(seconds)), f), (1, 0.9, 0.7, 0.6, 0.4)) for f in (low, 1.26 * low))
        horns.append((at, faded(np.asarray(chord), 0.015)))
        at += seconds + rng.uniform(0.08, 0.4)
    return 0.35 * idle + 0.6 * passing + 0.3 * placed(horns)


def clear(rng: np.random.Generator) -> Wave:
    """Nothing at all."""
    return np.zeros(LENGTH)


def cloudy(rng: np.random.Generator) -> Wave:
    """Wind in gusts: a low rumble, which no other weather has."""
    gusts = swell(rng, SECONDS, 0.25, 2)
    return noise(rng, SECONDS, 60, 320) * gusts + 0.25 * noise(rng, SECONDS, 300, 900) * gusts**2


def rain(rng: np.random.Generator) -> Wave:
    """Rain on leaves: a hiss of high frequencies, and single drops."""
    drops = placed(
        [
            (float(at), rng.uniform(0.3, 1) * struck([(rng.uniform(1500, 4500), 3.0, 0.006)], 0.03))
            for at in rng.uniform(0, SECONDS, rng.integers(60, 110))
        ]
    )
    return 0.7 * noise(rng, SECONDS, 2500, 7600) * swell(rng, SECONDS, 0.75, 2) + drops


def snow(rng: np.random.Generator) -> Wave:
    """Steps in the snow, which crunch."""
    steps: list[tuple[float, Wave]] = []
    pace, at = rng.uniform(0.42, 0.56), rng.uniform(0.0, 0.3)
    while at < SECONDS - 0.1:
        seconds = rng.uniform(0.16, 0.22)
        grains = np.maximum(0, noise(rng, seconds, 30, 140)) * noise(rng, seconds, 900, 2800)
        steps.append((at, grains * hann(seconds) ** 0.7))
        at += pace * rng.uniform(0.93, 1.07)
    return placed(steps)


def day(rng: np.random.Generator) -> Wave:
    """Song birds, many at once."""
    calls: list[tuple[float, Wave]] = []
    for _ in range(rng.integers(5, 8)):
        base, at, seconds = rng.uniform(2600, 4600), rng.uniform(0, SECONDS - 0.5), rng.uniform(0.05, 0.11)
        shape = base * rng.uniform(0.8, 1.35, 3)
        for k in range(rng.integers(3, 7)):
            calls.append(
                (at + 1.35 * k * seconds, rng.uniform(0.6, 1) * tone(glide(shape.tolist(), seconds)) * hann(seconds))
            )
    return placed(calls)


def sunset(rng: np.random.Generator) -> Wave:
    """A church bell."""
    pitch = rng.uniform(290, 420)
    ratios = (
        (0.5, 0.5, 1.6),
        (1, 1, 1.2),
        (1.19, 0.7, 0.9),
        (1.5, 0.5, 0.7),
        (2, 0.9, 0.6),
        (2.74, 0.4, 0.35),
        (3.76, 0.3, 0.2),
    )
    partials = [(pitch * ratio, amplitude, fall) for ratio, amplitude, fall in ratios]
    first, pause = rng.uniform(0.0, 0.35), rng.uniform(1.0, 1.4)
    return placed([(first + k * pause, struck(partials, SECONDS)) for k in range(3)])


def night(rng: np.random.Generator) -> Wave:
    """Crickets, and sometimes an owl."""
    t, song = times(SECONDS), np.zeros(LENGTH)
    for _ in range(rng.integers(1, 3)):
        pitch, chirps = rng.uniform(4000, 5400), rng.uniform(2.2, 3.4)
        trill = np.maximum(0, np.sin(2 * np.pi * rng.uniform(38, 50) * t))
        turn = (t * chirps + rng.uniform(0, 1)) % 1.0
        sings = np.interp(turn, (0, 0.05, 0.5, 0.55), (0, 1, 1, 0))  # without clicks
        song += rng.uniform(0.6, 1) * np.sin(2 * np.pi * pitch * t) * trill * sings
    if rng.random() < 0.5:
        pitch, at = rng.uniform(330, 400), rng.uniform(0, 1.8)
        for start, seconds in ((0, 0.2), (0.32, 0.55)):
            hoot = tone(glide([pitch, 1.04 * pitch, 0.97 * pitch], seconds), (1, 0.1)) * hann(seconds)
            song += 0.8 * placed([(at + start, hoot)])
    return song


PLACES: Mapping[str, Ambience] = {
    "meadow": meadow,
    "desert": desert,
    "sea": sea,
    "mountains": mountains,
    "city": city,
}
WEATHERS: Mapping[str, Ambience] = {"clear": clear, "cloudy": cloudy, "rain": rain, "snow": snow}
TIMES: Mapping[str, Ambience] = {"day": day, "sunset": sunset, "night": night}


def ambience(place: str, weather: str, time: str, seed: int) -> tuple[Wave, Wave, Wave]:
    """Returns what is heard of a place, its weather and the time of day; snow takes the heights from the place."""
    near = PLACES[place](np.random.default_rng((seed, 11)))
    around = WEATHERS[weather](np.random.default_rng((seed, 12)))
    hour = TIMES[time](np.random.default_rng((seed, 13)))
    return (muffled(near, 1800) if weather == "snow" else near), around, hour
