"""A vocoder learns to make waveforms of spectrograms."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np
import torch
from jaxtyping import Float, Int16
from torch import Generator, Tensor
from torch.nn.functional import l1_loss
from transformers import SpeechT5HifiGan

from versatile_diffusion.modalities.mels import MelSpectrum
from versatile_diffusion.training.loop.task import Batch, Pass, Task

WINDOWS = (128, 256, 512, 1024)
"""Samples of the windows in which waveforms are compared: short ones tell when, long ones how high."""
_FLOOR = 1e-4


class VocoderTask(Task[SpeechT5HifiGan]):
    """How far the waveform is from the original in short-time spectra of several windows (arXiv 1910.11480).

    Args:
        vocoder: to train; see `MelAutoencoder`.
        waves: of all sounds, one channel each.
        spectrum: what the vocoder sees of a waveform.
        frames: of the parts of sounds that it learns from.

    Raises:
        ValueError: if sounds are shorter than that, with what is heard beyond both edges.
    """

    def __init__(
        self,
        vocoder: SpeechT5HifiGan,
        waves: Int16[np.ndarray, "n samples"],
        spectrum: MelSpectrum,
        frames: int = 48,
    ) -> None:
        self.model, self.waves, self.spectrum, self.frames = vocoder, waves, spectrum, frames
        self.margin = math.ceil(spectrum.window / spectrum.hop)
        if (least := (frames + 2 * self.margin) * spectrum.hop) > waves.shape[1]:
            raise ValueError(f"Sounds have {waves.shape[1]} samples, where parts of {frames} frames need {least}.")

    def draw(self, generator: Generator, size: int) -> Batch:
        """See `Task.draw`: parts of sounds with what is heard of them, where nothing is beyond their edges."""
        margin, hop, inner = self.margin, self.spectrum.hop, self.frames * self.spectrum.hop
        length = inner + 2 * margin * hop
        index = torch.randint(len(self.waves), (size,), generator=generator).numpy()
        starts = torch.randint(self.waves.shape[1] - length + 1, (size,), generator=generator).numpy()
        parts = self.waves[index[:, None], starts[:, None] + np.arange(length)]
        waves = torch.as_tensor(parts).float() / 2**15
        mels = self.spectrum.log_magnitudes(waves)[:, margin : margin + self.frames]
        return {"mels": mels, "waves": waves[:, margin * hop : margin * hop + inner]}

    def passes(self, batch: Batch) -> Iterator[Pass]:
        """See `Task.passes`."""

        def speak() -> dict[str, Tensor]:
            made = cast(Tensor, self.model(batch["mels"]))
            return spectral_errors(made.float(), batch["waves"])

        yield speak


def spectral_errors(
    made: Float[Tensor, "b n"], real: Float[Tensor, "b n"], windows: Sequence[int] = WINDOWS
) -> dict[str, Float[Tensor, ""]]:
    """Returns the errors of magnitudes, relative to their norm, and of their logarithms, as means over windows."""
    pairs = [(magnitudes(made, window), magnitudes(real, window)) for window in windows]
    convergence = [(a - b).square().sum().sqrt() / b.square().sum().sqrt().clamp(min=_FLOOR) for a, b in pairs]
    logarithms = [l1_loss(a.log(), b.log()) for a, b in pairs]
    return {"convergence": torch.stack(convergence).mean(), "logarithms": torch.stack(logarithms).mean()}


def magnitudes(waves: Float[Tensor, "b n"], window: int) -> Float[Tensor, "b f t"]:
    """Returns the magnitudes of short-time spectra, whose windows overlap by three quarters."""
    hann = torch.hann_window(window, device=waves.device)
    spectra = torch.stft(waves, window, window // 4, window=hann, return_complex=True)
    power = spectra.real.square() + spectra.imag.square()
    return power.clamp(min=_FLOOR**2).sqrt()
