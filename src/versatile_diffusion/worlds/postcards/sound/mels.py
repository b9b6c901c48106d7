"""What the attribute classifier hears of sounds: mel spectrograms of both channels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Float16
from torch import Tensor

from versatile_diffusion.modalities.mels import MelSpectrum, as_batch
from versatile_diffusion.modalities.sounds import Sound
from versatile_diffusion.worlds.postcards.sound.clip_pool import ClipPool
from versatile_diffusion.worlds.postcards.sound.waves import LENGTH, RATE

SPECTRUM = MelSpectrum(RATE, window=512, hop=320, bands=48, slaney=False)
"""50 frames a second."""
FRAMES = LENGTH // SPECTRUM.hop


def mels_of(sounds: Sequence[Sound]) -> Float[Tensor, "n 2 t bands"]:
    """Returns the left and the right mel spectrogram of sounds, as long as those of postcards."""
    fitting = [sound.with_channels(2).resampled(RATE).in_length(LENGTH) for sound in sounds]
    return torch.stack([SPECTRUM.log_magnitudes(as_batch(list(sound.samples))) for sound in fitting])


def mels_in(pool: ClipPool) -> Float16[np.ndarray, "n 2 t bands"]:
    """Returns those of a whole pool, which are kept there."""
    return pool.heard("mels", mels_of)
