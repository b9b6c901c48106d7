"""Mel spectrograms of postcards' sounds on disk, rendered once and read as an array.

Written in parts, each whole or not at all: what was interrupted goes on with the parts that are missing. Their names
hold what the first sound is like, so that a renderer, an engine or a spectrum that has changed renders anew.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float16
from rich.progress import track
from torch import Tensor

from versatile_diffusion.modalities.mels import MelSpectrum, as_batch
from versatile_diffusion.modalities.sounds import Sound
from versatile_diffusion.worlds.postcards.data import Postcards
from versatile_diffusion.worlds.postcards.sound.render import render_sound
from versatile_diffusion.worlds.postcards.sound.waves import LENGTH, RATE

SPECTRUM = MelSpectrum(RATE, window=512, hop=320, bands=48, slaney=False)
"""What the attribute classifier sees: 50 frames a second."""
FRAMES = LENGTH // SPECTRUM.hop
PART = 100


def mels_of(sound: Sound) -> Float[Tensor, "2 t bands"]:
    """Returns the left and the right mel spectrogram of a sound, as long as a postcard's."""
    fitting = sound.with_channels(2).resampled(RATE).in_length(LENGTH)
    return SPECTRUM.log_magnitudes(as_batch(list(fitting.samples)))


def mel_pool(postcards: Postcards, folder: Path) -> Float16[np.ndarray, "n 2 t bands"]:
    """Returns the mel spectrograms of all `postcards`, read from `folder`, rendered where missing.

    Raises:
        ImportError: if an engine is missing; it says what to install.
        TypeError: if the postcards have no end.
    """
    folder.mkdir(parents=True, exist_ok=True)
    starts = range(0, len(postcards), PART)
    first = sha256(_rendered(postcards, range(1)).tobytes()).hexdigest()[:8]
    beginning = folder / f"mels-{first}-{postcards.seed}-{postcards.split.value}"
    parts = (_part(postcards, start, beginning) for start in track(starts, "rendering sounds", transient=True))
    return np.concatenate(list(parts))


def _part(postcards: Postcards, start: int, beginning: Path) -> Float16[np.ndarray, "n 2 t bands"]:
    stop = min(start + PART, len(postcards))
    file = beginning.with_name(f"{beginning.name}-{start}-{stop}.npy")
    if not file.exists():
        unfinished = file.with_suffix(".tmp")
        with unfinished.open("wb") as stream:
            np.save(stream, _rendered(postcards, range(start, stop)))
        unfinished.replace(file)
    return np.load(file)


def _rendered(postcards: Postcards, numbers: range) -> Float16[np.ndarray, "n 2 t bands"]:
    sounds = (render_sound(postcards.scene(number)) for number in numbers)
    return torch.stack([mels_of(sound) for sound in sounds]).half().numpy()
