"""Sounds: AudioLDM's autoencoder and vocoder or Oobleck, CLAP, and data layers that suit their latents."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from diffusers.configuration_utils import register_to_config  # pyright: ignore[reportUnknownVariableType] - untyped
from jaxtyping import Float
from torch import Generator, Tensor, nn

from versatile_diffusion.diffuser.data_layers import DataLayers
from versatile_diffusion.diffuser.plan import Plan
from versatile_diffusion.modalities.base import OFFICIAL_GUIDANCE_SCALE, Presented
from versatile_diffusion.modalities.clap import ClapSoundEncoder
from versatile_diffusion.modalities.mels import as_batch
from versatile_diffusion.modalities.parts import ModalityOfParts, loaded
from versatile_diffusion.modalities.sound_autoencoder import SoundAutoencoder, sound_autoencoder
from versatile_diffusion.modalities.sound_spec import SOUND
from versatile_diffusion.modalities.sounds import Sound, read_sounds

_BEYOND = 4
"""Times the length of training that a sound may have where the configuration does not say."""
_CLIPPED = 0.01
"""The share of clipped samples that is worth a warning."""


class SoundModality(ModalityOfParts[Sound]):
    """Sounds. Items are `Sound`, of any rate and channels; those that it makes have its own, in levels of 16 bits.

    Args:
        autoencoder: arguments of `MelAutoencoder` or `OobleckAutoencoder`; None leaves it out.
        context_encoder: a transformers ClapAudioConfig as a dict; see `ClapSoundEncoder`. None leaves it out.
        scaling_factor: brings latents to about unit variance; the default is AudioLDM's.
        guidance_scale: default for outputs; see `Guidance`.
        seconds: of outputs where the user does not say.
        longest: seconds that an output may have; None is four times `seconds`.
        projected: whether CLAP projects its tokens; see `ClapSoundEncoder`.
    """

    spec = SOUND

    @register_to_config
    def __init__(
        self,
        autoencoder: dict[str, Any] | None = None,
        context_encoder: dict[str, Any] | None = None,
        scaling_factor: float = 0.9227914214134216,
        guidance_scale: float = OFFICIAL_GUIDANCE_SCALE,
        seconds: float = 10.24,
        longest: float | None = None,
        projected: bool = True,
    ) -> None:
        super().__init__()
        self.autoencoder = None if autoencoder is None else sound_autoencoder(autoencoder)
        self.context_encoder = None if context_encoder is None else ClapSoundEncoder(context_encoder, projected)

    @property
    def context_dim(self) -> int:
        """Width of the context tokens."""
        return self._context_encoder().dim

    @property
    def context_lengths(self) -> tuple[int, ...]:
        """A sound has one token for the whole and one for each of CLAP's last patches, or these alone."""
        tokens = self._context_encoder().tokens
        return (tokens, tokens - 1)

    @property
    def packable(self) -> tuple[nn.Module, ...]:
        """See `Modality.packable`."""
        return () if self.autoencoder is None else (self.autoencoder,)

    @property
    def rate(self) -> int:
        """Samples a second of the sounds that it makes."""
        return self._autoencoder().rate

    def data_layers(self, plan: Plan) -> DataLayers:
        """See `Modality.data_layers`."""
        return self._autoencoder().data_layers(plan)

    def extent(
        self, height: int | None, width: int | None, decoding: Mapping[str, object]
    ) -> tuple[int | None, int | None]:
        """See `Modality.extent`: the width of a sound is its length in samples.

        Raises:
            ValueError: if it is given a size in pixels, or is longer than the model makes.
        """
        if height is not None or width is not None:
            raise ValueError("Sounds have no height and width: leave them out, and say how many seconds they last.")
        seconds = cast("float | None", decoding.get("seconds"))
        return None, None if seconds is None else max(1, round(seconds * self.rate))

    def latent_shape(self, height: int | None = None, width: int | None = None) -> tuple[int, ...]:
        """Returns the shape of the latent of a sound of `width` samples, by default as long as in training.

        Raises:
            ValueError: if it is longer than the model makes, or has a height.
        """
        if height is not None:
            raise ValueError("Sounds have no height: leave it out.")
        samples = round(self.config["seconds"] * self.rate) if width is None else width
        return self._autoencoder().latent_shape(self._positions(samples))

    def read(self, data: object) -> list[Sound]:
        """See `read_sounds`. Warns of sounds that are cut off at full scale."""
        sounds = read_sounds(data)
        for sound in sounds:
            if sound.clipped > _CLIPPED:
                told = (
                    f"The sound is clipped: {sound.clipped:.0%} of its samples are cut off. A quieter recording helps."
                )
                warnings.warn(told, UserWarning, stacklevel=3)
        return sounds

    def fit(self, items: Sequence[Sound], height: int | None = None, width: int | None = None) -> list[Sound]:
        """Returns the beginnings of sounds, of `width` samples at the model's rate, silent where they are shorter.

        Without a width they are as long as the longest of them.
        """
        own = [item.resampled(self.rate) for item in items]
        count = max(item.samples.shape[1] for item in own) if width is None else width
        return [item.in_length(count) for item in own]

    def crop(self, item: Sound, multiple: int, size: int | None = None) -> Sound:
        """See `Modality.crop`: the beginning of a sound, as long as in training; a shorter one ends in silence."""
        hop = self._autoencoder().hop
        positions = round(self.config["seconds"] * self.rate) // hop // multiple * multiple
        return item.resampled(self.rate).in_length(max(positions, multiple) * hop)

    def latent_shape_of(self, item: Sound) -> tuple[int, ...]:
        """See `Modality.latent_shape_of`."""
        return self.latent_shape(width=item.resampled(self.rate).samples.shape[1])

    @torch.no_grad()
    def encode(self, items: Sequence[Sound]) -> Float[Tensor, "b *latent"]:
        """Returns the latents of sounds, which are padded with silence to the longest of them."""
        autoencoder = self._autoencoder()
        own = [item.resampled(self.rate).with_channels(autoencoder.channels) for item in items]
        positions = self._positions(max(item.samples.shape[1] for item in own))
        waves = as_batch([item.in_length(positions * autoencoder.hop).samples for item in own])
        return autoencoder.encode(waves).to(self.device, self.dtype) * self.config["scaling_factor"]

    @torch.no_grad()
    def decode(
        self,
        latents: Float[Tensor, "b *latent"],
        generators: Sequence[Generator] | None = None,
        *,
        seconds: float | None = None,
        loudness: float | None = None,
    ) -> list[Sound]:
        """Returns the sounds of latents; nothing is drawn.

        Args:
            latents: one for each sound.
            generators: not needed.
            seconds: where a sound ends; by default at the end of its latent.
            loudness: mean power in decibels of full scale; see `Sound.at_loudness`. By default a sound is as loud as
                the model makes it, and never louder than full scale.
        """
        scaled = latents.to(self.device, self.dtype) / self.config["scaling_factor"]
        waves = self._autoencoder().decode(scaled).float().cpu().numpy()
        count = waves.shape[-1] if seconds is None else max(1, min(round(seconds * self.rate), waves.shape[-1]))
        sounds = [Sound(wave[:, :count], self.rate) for wave in waves]
        if loudness is not None:
            sounds = [sound.at_loudness(loudness) for sound in sounds]
        return [sound.at_full_scale() for sound in sounds]

    @torch.no_grad()
    def embed(self, items: Sequence[Sound], masks: object = None) -> Float[Tensor, "b n d"]:
        """Returns the context tokens of sounds.

        Raises:
            ValueError: if there are masks, which sounds do not have.
        """
        if masks is not None:
            raise ValueError("Sounds have no masks.")
        encoder = self._context_encoder()
        return encoder(encoder.features(items).to(self.device, self.dtype))

    def unconditional(self, output: str) -> Float[Tensor, "1 n d"]:
        """Returns zeros, as images have where they are made."""
        encoder = self._context_encoder()
        return torch.zeros(1, encoder.tokens, encoder.dim, device=self.device, dtype=self.dtype)

    def present(self, items: Sequence[Sound], output_type: str) -> Presented:
        """Returns sounds as they are, or the samples of sounds of one length as a tensor or an array (b c n)."""
        if output_type == "pil":
            return list(items)
        samples = np.stack([item.samples for item in items])
        return torch.as_tensor(samples) if output_type == "pt" else samples

    def _positions(self, samples: int) -> int:
        """How many positions a latent of so many samples has."""
        most = self.config["longest"] or _BEYOND * self.config["seconds"]
        if samples > most * self.rate:
            raise ValueError(
                f"A sound of {samples / self.rate:.1f} seconds is too long for this model, which makes up to {most:g}."
            )
        return max(2, math.ceil(samples / self._autoencoder().hop))  # one alone cannot be normalised

    def _autoencoder(self) -> SoundAutoencoder:
        return loaded(self.autoencoder, "sound autoencoder", "that makes sounds")

    def _context_encoder(self) -> ClapSoundEncoder:
        return loaded(self.context_encoder, "sound context encoder", "from sounds")
