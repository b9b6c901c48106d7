"""What sounds are made of: tones, noise, envelopes and echoes, each a mono waveform at `RATE`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from jaxtyping import Float
from scipy.signal import butter, sosfilt  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

RATE = 16_000
SECONDS = 3.0
LENGTH = round(RATE * SECONDS)
"""Samples of a clip."""

Wave = Float[np.ndarray, "_"]
Stereo = Float[np.ndarray, "2 _"]


def times(seconds: float) -> Wave:
    """Returns the time of each sample, in seconds."""
    return np.arange(round(seconds * RATE)) / RATE


def glide(points: Sequence[float], seconds: float) -> Wave:
    """Returns values that move from point to point, which are evenly apart."""
    n = round(seconds * RATE)
    return np.interp(np.linspace(0, 1, n), np.linspace(0, 1, len(points)), points)


def tone(frequency: Wave, overtones: Sequence[float] = (1.0,)) -> Wave:
    """Returns a tone of changing frequency.

    Args:
        frequency: at each sample, in Hz.
        overtones: amplitudes of the fundamental and its multiples; those above half of the rate are left out.
    """
    phase = 2 * np.pi * np.cumsum(frequency) / RATE
    heard = [a * np.sin((k + 1) * phase) for k, a in enumerate(overtones) if (k + 1) * frequency.max() < RATE / 2]
    return np.sum(heard, axis=0)


def struck(partials: Sequence[tuple[float, float, float]], seconds: float) -> Wave:
    """Returns something that is struck once.

    Args:
        partials: frequency in Hz, amplitude, and seconds in which each falls to a third.
        seconds: how long.
    """
    t = times(seconds)
    rung = np.sum([a * np.sin(2 * np.pi * f * t) * np.exp(-t / fall) for f, a, fall in partials], axis=0)
    return rung * np.minimum(1, t / 0.003)


def noise(rng: np.random.Generator, seconds: float, low: float, high: float) -> Wave:
    """Returns noise between two frequencies in Hz, of unit power."""
    kind = "bandpass" if low > 0 and high < RATE / 2 else ("lowpass" if low <= 0 else "highpass")
    edges = {"bandpass": [low, high], "lowpass": [high], "highpass": [low]}[kind]
    return _unit(_filtered(rng.standard_normal(round(seconds * RATE)), edges, kind))


def muffled(wave: Wave, above: float) -> Wave:
    """Returns a waveform without what is above a frequency in Hz."""
    return _filtered(wave, [above], "lowpass")


def without_rumble(wave: Wave) -> Wave:
    """Returns a waveform without what is below 40 Hz, its mean included, which nobody hears."""
    return _filtered(wave, [40], "highpass")


def swell(rng: np.random.Generator, seconds: float, low: float, per_second: float) -> Wave:
    """Returns a slowly moving envelope from `low` to 1, with so many turns in a second."""
    count = max(3, round(seconds * per_second) + 2)
    return glide(cast("list[float]", rng.uniform(low, 1, count).tolist()), seconds)


def hann(seconds: float) -> Wave:
    """Returns an envelope that rises and falls once."""
    return np.hanning(round(seconds * RATE))


def faded(wave: Wave, seconds: float) -> Wave:
    """Returns a waveform that begins and ends softly."""
    ramp = np.minimum(1, (np.arange(len(wave)) + 1) / (seconds * RATE))
    return wave * ramp * ramp[::-1]


def placed(parts: Sequence[tuple[float, Wave]]) -> Wave:
    """Returns a clip with waveforms at their times in seconds; what does not fit is cut off."""
    clip = np.zeros(LENGTH)
    for at, wave in parts:
        start = round(at * RATE)
        kept = wave[: max(0, LENGTH - start)]
        clip[start : start + len(kept)] += kept
    return clip


def echoed(wave: Wave, delay: float, share: float) -> Wave:
    """Returns a clip with its echoes, each so many seconds later and quieter by a share."""
    step, out = round(delay * RATE), wave.copy()
    for k in range(1, 4):
        if k * step < len(wave):
            out[k * step :] += share**k * wave[: -k * step]
    return out


def level(wave: Wave) -> float:
    """Returns the power of the loud parts as an amplitude: of the tenth of a second that nine in ten stay below."""
    frames = wave[: len(wave) // 1600 * 1600].reshape(-1, 1600)
    return float(np.quantile(np.sqrt(np.square(frames).mean(axis=1)), 0.9)) if len(frames) else 0.0


def at_level(wave: Wave, decibels: float) -> Wave:
    """Returns a waveform whose loud parts are at so many decibels of full scale."""
    return wave * 10 ** (decibels / 20) / max(level(wave), 1e-9)


def _unit(wave: Wave) -> Wave:
    return wave / max(float(np.sqrt(np.square(wave).mean())), 1e-9)


def _filtered(wave: Wave, edges: Sequence[float], kind: str) -> Wave:
    sections = cast(Any, butter)(2, edges if len(edges) > 1 else edges[0], kind, fs=RATE, output="sos")
    return np.asarray(sosfilt(sections, wave), float)
