"""Mel spectrograms: how AudioLDM and CLAP see sounds.

They are computed in float64 on the CPU: bands near the floor of the logarithm would show the rounding of float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from transformers.audio_utils import mel_filter_bank

_FLOOR_OF_MAGNITUDE, _FLOOR_OF_POWER = 1e-5, 1e-10


@dataclass(frozen=True)
class MelSpectrum:
    """Bands of a mel scale, in short windows of a sound. The defaults are AudioLDM's.

    Attributes:
        rate: samples a second.
        window: samples of a window.
        hop: samples from one window to the next.
        bands: how many.
        lowest, highest: frequencies in Hz.
        slaney: whether bands are of Slaney's scale and of equal area, as librosa has them; else of HTK's and equal
            height, as torchaudio has them.
    """

    rate: int = 16000
    window: int = 1024
    hop: int = 160
    bands: int = 64
    lowest: float = 0.0
    highest: float = 8000.0
    slaney: bool = True

    def log_magnitudes(self, waves: Float[Tensor, "b n"]) -> Float[Tensor, "b t bands"]:
        """Returns natural logarithms of magnitudes, as AudioLDM and its vocoder take them: one frame for each hop."""
        mels = self._filtered(self._transformed(waves).abs())[:, : max(1, waves.shape[1] // self.hop)]
        return mels.clamp(min=_FLOOR_OF_MAGNITUDE).log().float()

    def decibels(self, waves: Float[Tensor, "b n"]) -> Float[Tensor, "b t bands"]:
        """Returns decibels of powers, as CLAP takes them: one frame more than hops."""
        mels = self._filtered(self._transformed(waves).abs().square())
        return (10 * mels.clamp(min=_FLOOR_OF_POWER).log10()).float()

    def _transformed(self, waves: Float[Tensor, "b n"]) -> Tensor:
        window = torch.hann_window(self.window, dtype=torch.float64)
        return torch.stft(
            waves.detach().cpu().double(), self.window, self.hop, window=window, pad_mode="reflect", return_complex=True
        )

    def _filtered(self, spectrum: Float[Tensor, "b f t"]) -> Float[Tensor, "b t bands"]:
        return spectrum.transpose(1, 2) @ torch.as_tensor(_filters(self))


@cache
def _filters(spectrum: MelSpectrum) -> np.ndarray:
    """What each frequency counts in each band: (window / 2 + 1, bands)."""
    return mel_filter_bank(
        num_frequency_bins=spectrum.window // 2 + 1,
        num_mel_filters=spectrum.bands,
        min_frequency=spectrum.lowest,
        max_frequency=spectrum.highest,
        sampling_rate=spectrum.rate,
        norm="slaney" if spectrum.slaney else None,
        mel_scale="slaney" if spectrum.slaney else "htk",
    )


def as_batch(waves: Sequence[np.ndarray]) -> Float[Tensor, "b *c n"]:
    """Returns waveforms of one length as a tensor."""
    return torch.as_tensor(np.stack(list(waves)))
