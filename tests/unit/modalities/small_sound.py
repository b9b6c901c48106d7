"""Sounds for tests, and the smallest modality of sounds with weights that can be heard."""

from math import pi

import numpy as np
import torch

from versatile_diffusion.modalities.sound import SoundModality
from versatile_diffusion.modalities.sounds import Sound
from versatile_diffusion.model_presets import tiny_sound


def sine(frequency: float = 220.0, seconds: float = 0.5, rate: int = 8000, channels: int = 1) -> Sound:
    """A tone at half of full scale, a quarter turn later in each channel."""
    turns = np.arange(round(seconds * rate)) * frequency / rate
    return Sound(0.5 * np.sin(2 * pi * (turns + np.arange(channels)[:, None] / 4)), rate)


def small_sound() -> SoundModality:
    """The modality of `tiny_sound` with random weights, wide enough for its vocoder to be heard."""
    preset = tiny_sound().sound
    with torch.random.fork_rng():
        torch.manual_seed(0)
        modality = SoundModality(**vars(preset)).eval()
        assert modality.autoencoder is not None
        for name, parameter in modality.autoencoder.named_parameters():
            if name.startswith("vocoder") and parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=2 * parameter[0].numel() ** -0.5)
    return modality
