"""Sizes of models with sound: nine flows between images, texts and sounds."""

from __future__ import annotations

from dataclasses import replace

from versatile_diffusion.diffuser import DiffuserConfig
from versatile_diffusion.model_presets.configs import Config, kl_autoencoder
from versatile_diffusion.model_presets.paper import tiny, vd_four_flow
from versatile_diffusion.model_presets.sizes import Preset, SoundPreset


def vd_sound() -> Preset:
    """Returns the official model with AudioLDM's autoencoder and vocoder, and CLAP: clips of 10.24 s, 16 kHz, mono.

    Latents (8 256 16) have as many positions as the image latents of 512 × 512 pixels. Contexts are CLAP's tokens as
    wide as its network, 768: context layers for them can begin as the official ones for texts or images.
    """
    autoencoder = {"kl": mel_autoencoder(channels=(128, 256, 512), layers=2), "vocoder": hifi_gan(width=1024)}
    return vd_four_flow().with_modalities(sound=SoundPreset(autoencoder, clap_sound()))


def vd_sound_codi() -> Preset:
    """Returns `vd_sound` with the layers of CoDi's sound network (arXiv 2305.11846): 192 channels for 320."""
    return replace(vd_sound(), diffuser=DiffuserConfig(model_channels=192))


def vd_sound_hifi() -> Preset:
    """Returns the official model with Oobleck, for music: latents (64 T) of 44.1 kHz in stereo, 47.6 s by default."""
    oobleck = {
        "encoder_hidden_size": 128,
        "downsampling_ratios": [2, 4, 4, 8, 8],
        "channel_multiples": [1, 2, 4, 8, 16],
        "decoder_channels": 128,
        "decoder_input_channels": 64,
        "audio_channels": 2,
        "sampling_rate": 44100,
    }
    preset = SoundPreset({"oobleck": oobleck}, clap_sound(), scaling_factor=1.0, seconds=1024 * 2048 / 44100)
    return vd_four_flow().with_modalities(sound=preset)


def tiny_sound() -> Preset:
    """Returns `tiny` with sounds of 1 s at 2 kHz, for tests: latents (4 25 8)."""
    autoencoder = {
        "kl": mel_autoencoder(channels=(32, 32), layers=1, latent_channels=4),
        "vocoder": hifi_gan(width=16, bands=16, rate=2000, rates=(5, 4, 2), kernels=(15, 8, 4)),
        "spectrum": {"rate": 2000, "window": 64, "hop": 40, "bands": 16, "highest": 1000.0},
    }
    spectrum = {"rate": 2000, "window": 64, "hop": 20, "bands": 16, "lowest": 0.0, "highest": 1000.0}
    clap = clap_sound(width=8, depths=(1, 1), heads=(2, 2), size=64, bands=16, projection=24)
    encoder = {**clap, "window_size": 4, "spectrum": spectrum, "seconds": 2}
    return tiny().with_modalities(sound=SoundPreset(autoencoder, encoder, 1.0, seconds=1.0, projected=True))


def mel_autoencoder(channels: tuple[int, ...], layers: int, latent_channels: int = 8, stereo: bool = False) -> Config:
    """Returns the arguments of AutoencoderKL for spectrograms, halved at every level but the first."""
    config = kl_autoencoder(channels, layers, size=1024, latent_channels=latent_channels)
    return {**config, "in_channels": 1 + stereo, "out_channels": 1 + stereo}


def hifi_gan(
    width: int,
    bands: int = 64,
    rate: int = 16000,
    rates: tuple[int, ...] = (5, 4, 2, 2, 2),
    kernels: tuple[int, ...] = (16, 16, 8, 4, 4),
) -> Config:
    """Returns a SpeechT5HifiGanConfig. The rates multiply to the samples of a frame."""
    return {
        "model_in_dim": bands,
        "sampling_rate": rate,
        "upsample_initial_channel": width,
        "upsample_rates": list(rates),
        "upsample_kernel_sizes": list(kernels),
        "normalize_before": False,
    }


def clap_sound(
    width: int = 96,
    depths: tuple[int, ...] = (2, 2, 6, 2),
    heads: tuple[int, ...] = (4, 8, 16, 32),
    size: int = 256,
    bands: int = 64,
    projection: int = 512,
) -> Config:
    """Returns a ClapAudioConfig, by default that of laion/clap-htsat-unfused; levels double their width."""
    return {
        "patch_embeds_hidden_size": width,
        "hidden_size": width * 2 ** (len(depths) - 1),
        "depths": list(depths),
        "num_hidden_layers": len(depths),
        "num_attention_heads": list(heads),
        "spec_size": size,
        "num_mel_bins": bands,
        "projection_dim": projection,
    }
