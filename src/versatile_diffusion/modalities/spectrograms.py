"""Pictures of sounds: time from left to right, pitch from below, brightness for loudness."""

from __future__ import annotations

import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from versatile_diffusion.modalities.sounds import Sound

Numbers = NDArray[np.float64]

HEIGHT, LONGEST = 160, 1200
_LOWEST = 40.0  # Hz
_QUIETEST = -70.0  # decibels below the loudest, which are black
_SECONDS_OF_COLUMN = 0.01
_COLOURS = np.array([[0, 0, 4], [51, 16, 104], [137, 34, 106], [212, 72, 66], [251, 155, 6], [252, 255, 164]], float)
"""From silent to loud, evenly apart; of rising lightness, so that it can be read without colours, too."""


def spectrogram_png(sound: Sound) -> bytes:
    """Returns a picture of a sound as a PNG of `HEIGHT` rows, each for as many cents of pitch."""
    file = io.BytesIO()
    Image.fromarray(_coloured(_levels(sound))).save(file, "PNG")
    return file.getvalue()


def _levels(sound: Sound) -> Numbers:
    """Loudness from 0 to 1 as (rows, columns), the highest pitch in the first row."""
    powers, frequencies = _powers(sound)
    cents = np.linspace(math.log(min(_LOWEST, frequencies[1])), math.log(frequencies[-1]), HEIGHT)
    rows: Numbers = np.exp(cents)
    above: NDArray[np.intp] = np.clip(np.searchsorted(frequencies, rows), 1, len(frequencies) - 1)
    below = frequencies[above - 1]
    share: Numbers = np.clip((rows - below) / (frequencies[above] - below), 0, 1)[:, None]
    pitched: Numbers = powers[above - 1] * (1 - share) + powers[above] * share
    decibels: Numbers = 10 * np.log10(np.maximum(pitched, 1e-12) / max(float(np.max(pitched)), 1e-9))
    return np.clip(1 - decibels / _QUIETEST, 0, 1)[::-1]


def _powers(sound: Sound) -> tuple[Numbers, Numbers]:
    """Powers in short windows (f t), and their frequencies (f)."""
    wave: Numbers = sound.with_channels(1).samples[0].astype(float)
    window = 2 ** max(4, round(math.log2(0.046 * sound.rate)))
    hop = max(1, round(_SECONDS_OF_COLUMN * sound.rate), -(-len(wave) // LONGEST))
    padded: Numbers = np.pad(wave, (window // 2, window // 2 + hop))
    frames: Numbers = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop]
    powers: Numbers = np.square(np.abs(np.fft.rfft(frames * np.hanning(window), axis=1))).T
    return powers, np.asarray(np.fft.rfftfreq(window, 1 / sound.rate), float)


def _coloured(levels: Numbers) -> NDArray[np.uint8]:
    places = np.linspace(0, 1, len(_COLOURS))
    channels = [np.interp(levels, places, _COLOURS[:, channel]) for channel in range(3)]
    return np.round(np.stack(channels, axis=-1)).astype(np.uint8)
