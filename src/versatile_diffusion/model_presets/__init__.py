"""Sizes of models: functions that return frozen dataclasses, and what builds a model of random weights from them."""

from versatile_diffusion.model_presets.configs import Config, clip_text, clip_vision, kl_autoencoder, optimus, t5_text
from versatile_diffusion.model_presets.paper import stable_diffusion_v1, tiny, vd_four_flow
from versatile_diffusion.model_presets.sizes import (
    ImagePreset,
    ModalityPreset,
    Preset,
    SoundPreset,
    TextPreset,
    build,
    preset_wanted,
)
from versatile_diffusion.model_presets.sounds import tiny_sound, vd_sound, vd_sound_codi, vd_sound_hifi

__all__ = [
    "Config",
    "ImagePreset",
    "ModalityPreset",
    "Preset",
    "SoundPreset",
    "TextPreset",
    "build",
    "clip_text",
    "clip_vision",
    "kl_autoencoder",
    "optimus",
    "preset_wanted",
    "stable_diffusion_v1",
    "t5_text",
    "tiny",
    "tiny_sound",
    "vd_four_flow",
    "vd_sound",
    "vd_sound_codi",
    "vd_sound_hifi",
]
