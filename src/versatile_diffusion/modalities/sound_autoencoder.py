"""Autoencoders of sounds: AudioLDM's on mel spectrograms with a vocoder, and Oobleck on waveforms."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, cast

from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from jaxtyping import Float
from torch import Tensor, nn

from versatile_diffusion.diffuser.data_layers import ConvolutionalLayers, DataLayers
from versatile_diffusion.diffuser.plan import Plan
from versatile_diffusion.modalities.mels import MelSpectrum
from versatile_diffusion.modalities.sequence_layers import SequenceLayers

PEAK = 0.5
"""The peak that AudioLDM brings sounds to before it encodes them, so that latents do not depend on their loudness."""


class SoundAutoencoder(nn.Module, ABC):
    """Waveforms ↔ latents.

    Attributes:
        rate: samples a second.
        channels: of the waveforms.
        hop: samples of a channel that one position of a latent stands for.
    """

    rate: int
    channels: int
    hop: int

    @abstractmethod
    def data_layers(self, plan: Plan) -> DataLayers:
        """Returns the layers that denoise the latents."""

    @abstractmethod
    def latent_shape(self, positions: int) -> tuple[int, ...]:
        """Returns the shape of the latent of a sound of so many positions in time."""

    @abstractmethod
    def encode(self, waves: Float[Tensor, "b c n"]) -> Float[Tensor, "b *latent"]:
        """Returns the modes of the posteriors of waveforms whose lengths are multiples of `hop`."""

    @abstractmethod
    def decode(self, latents: Float[Tensor, "b *latent"]) -> Float[Tensor, "b c n"]:
        """Returns the waveforms of latents."""


class MelAutoencoder(SoundAutoencoder):
    """AudioLDM's (arXiv 2301.12503): AutoencoderKL on logarithms of mel spectrograms, and HiFi-GAN back to waveforms.

    Where the autoencoder takes two channels, sounds are stereo, and the vocoder makes each channel by itself.

    Args:
        kl: arguments of diffusers' AutoencoderKL; its images are frames × bands, one for each channel of a sound.
        vocoder: a transformers SpeechT5HifiGanConfig as a dict.
        spectrum: arguments of `MelSpectrum`.
    """

    def __init__(
        self, kl: Mapping[str, Any], vocoder: Mapping[str, Any], spectrum: Mapping[str, Any] | None = None
    ) -> None:
        from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig  # which Oobleck does without

        super().__init__()
        self.spectrum = MelSpectrum(**(spectrum or {}))
        self.kl = AutoencoderKL(**kl)
        self.vocoder = SpeechT5HifiGan(SpeechT5HifiGanConfig(**vocoder))
        self._frames = 2 ** (len(self.kl.config["block_out_channels"]) - 1)
        self.rate, self.channels = self.spectrum.rate, self.kl.config["in_channels"]
        self.hop = self.spectrum.hop * self._frames
        self._require_fit()

    def data_layers(self, plan: Plan) -> ConvolutionalLayers:
        """See `SoundAutoencoder.data_layers`."""
        return ConvolutionalLayers(plan, self.kl.config["latent_channels"])

    def latent_shape(self, positions: int) -> tuple[int, ...]:
        """See `SoundAutoencoder.latent_shape`: channels, positions in time and in pitch."""
        return self.kl.config["latent_channels"], positions, self.spectrum.bands // self._frames

    def encode(self, waves: Float[Tensor, "b channels n"]) -> Float[Tensor, "b c t f"]:
        """See `SoundAutoencoder.encode`."""
        mels = self.log_mels(waves)
        return self.kl.encode(mels.to(self.kl.device, self.kl.dtype), return_dict=False)[0].mode()

    def decode(self, latents: Float[Tensor, "b c t f"]) -> Float[Tensor, "b channels n"]:
        """See `SoundAutoencoder.decode`."""
        mels = self.decoded_mels(latents)
        waves = cast(Tensor, self.vocoder(mels.flatten(0, 1)))
        return waves.view(*mels.shape[:2], -1)

    def log_mels(self, waves: Float[Tensor, "b channels n"]) -> Float[Tensor, "b channels frames bands"]:
        """Returns what is encoded of waveforms: the spectrogram of each channel, of sounds at `PEAK`."""
        mels = self.spectrum.log_magnitudes(at_peak(waves).flatten(0, 1))
        return mels.view(*waves.shape[:2], *mels.shape[1:])

    def decoded_mels(self, latents: Float[Tensor, "b c t f"]) -> Float[Tensor, "b channels frames bands"]:
        """Returns the spectrograms that latents stand for."""
        decode: Callable[..., tuple[Tensor]] = self.kl.decode  # pyright: ignore - typed in part in diffusers
        return decode(latents, return_dict=False)[0]

    def _require_fit(self) -> None:
        config = self.vocoder.config
        made = math.prod(config.upsample_rates)
        wrong = {
            "bands": (config.model_in_dim, self.spectrum.bands),
            "samples a second": (config.sampling_rate, self.rate),
            "samples a frame": (made, self.spectrum.hop),
        }
        for what, (theirs, ours) in wrong.items():
            if theirs != ours:
                raise ValueError(f"The vocoder makes sounds of {theirs} {what}, and the spectrum has {ours}.")


class OobleckAutoencoder(SoundAutoencoder):
    """Stable Audio's (arXiv 2404.10301): waveforms ↔ latents in one dimension, for music.

    Args:
        oobleck: arguments of diffusers' AutoencoderOobleck.
    """

    def __init__(self, oobleck: Mapping[str, Any]) -> None:
        from diffusers.models.autoencoders.autoencoder_oobleck import AutoencoderOobleck

        super().__init__()
        self.oobleck: nn.Module = AutoencoderOobleck(**oobleck)
        config = cast(Any, self.oobleck).config
        self.rate, self.channels = config["sampling_rate"], config["audio_channels"]
        self.hop = math.prod(config["downsampling_ratios"])
        self._latent_channels = int(config["decoder_input_channels"])

    def data_layers(self, plan: Plan) -> SequenceLayers:
        """See `SoundAutoencoder.data_layers`."""
        return SequenceLayers(plan, self._latent_channels)

    def latent_shape(self, positions: int) -> tuple[int, ...]:
        """See `SoundAutoencoder.latent_shape`: channels and positions in time."""
        return self._latent_channels, positions

    def encode(self, waves: Float[Tensor, "b c n"]) -> Float[Tensor, "b d t"]:
        """See `SoundAutoencoder.encode`."""
        model = cast(Any, self.oobleck)
        return model.encode(waves.to(model.device, model.dtype)).latent_dist.mode()

    def decode(self, latents: Float[Tensor, "b d t"]) -> Float[Tensor, "b c n"]:
        """See `SoundAutoencoder.decode`."""
        return cast(Any, self.oobleck).decode(latents).sample


def sound_autoencoder(config: Mapping[str, Any]) -> SoundAutoencoder:
    """Returns the autoencoder of these arguments: Oobleck where they tell of one."""
    return OobleckAutoencoder(**config) if "oobleck" in config else MelAutoencoder(**config)


def at_peak(waves: Float[Tensor, "b c n"]) -> Float[Tensor, "b c n"]:
    """Returns waveforms around zero, with `PEAK` as their peaks, as AudioLDM's recipe does; silence stays silent."""
    centred = waves - waves.mean(dim=-1, keepdim=True)
    return centred / (centred.abs().amax(dim=(1, 2), keepdim=True) + 1e-8) * PEAK
