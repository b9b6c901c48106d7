"""Sounds as numbers: `Sound`, whatever can be read as one, other rates and channels, and how loud it is.

Nothing here imports PyTorch, so that a server can check what it is sent.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from jaxtyping import Float32
from numpy.typing import NDArray

from versatile_diffusion.extras import extra
from versatile_diffusion.files import is_data_url, quoted, read_base64, require_file, write_whole

MOST_CHANNELS = 64
LOWEST_RATE, HIGHEST_RATE = 1000, 768_000
LEVELS = 2**15
"""Steps of 16 bits from silence to full scale."""

Samples = Float32[np.ndarray, "channels n"]


@dataclass(frozen=True, eq=False, repr=False)
class Sound:
    """A sound: samples and how many of them make a second.

    Args:
        samples: (channels n) or (n), numbers in [-1, 1] or integers of 16 or 32 bits; an array, a tensor or a list.
            Numbers beyond full scale are allowed: `at_full_scale` brings them back.
        rate: samples of a channel in a second.

    Raises:
        TypeError: if samples are no numbers.
        ValueError: if there are none, if one is not finite, or if they cannot be a sound.
    """

    samples: Samples
    rate: int

    def __init__(self, samples: object, rate: int) -> None:
        if isinstance(rate, bool) or int(rate) != rate or not LOWEST_RATE <= rate <= HIGHEST_RATE:
            raise ValueError(f"A sound has {LOWEST_RATE} to {HIGHEST_RATE} samples a second, got {rate!r:.80}.")
        object.__setattr__(self, "samples", _checked(samples))
        object.__setattr__(self, "rate", int(rate))

    @property
    def channels(self) -> int:
        """1 of mono, 2 of stereo."""
        return len(self.samples)

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.samples.shape[1] / self.rate

    @property
    def size(self) -> tuple[int, int, int]:
        """Channels, samples of each, and the rate: what sounds must share to be computed as one batch."""
        return *self.samples.shape, self.rate

    @property
    def peak(self) -> float:
        """The largest magnitude; 1 is full scale."""
        return float(np.abs(self.samples).max())

    @property
    def clipped(self) -> float:
        """The share of samples that stand in a row at one magnitude of 0.98 or more: where a recording was cut off."""
        loud = np.abs(self.samples)
        level = loud == loud.max()
        in_row = level & (np.roll(level, 1, axis=1) | np.roll(level, -1, axis=1))
        return float(in_row.mean()) if loud.max() >= 0.98 else 0.0

    def resampled(self, rate: int) -> Sound:
        """Returns it at another rate, by soxr, which keeps all below half of the lower rate and nothing above."""
        if rate == self.rate:
            return self
        with extra("sound", "a sound of another rate"):
            import soxr  # pyright: ignore[reportMissingTypeStubs]
        made = cast(Any, soxr).resample(np.ascontiguousarray(self.samples.T, float), self.rate, rate, quality="VHQ")
        count = max(1, round(self.samples.shape[1] * rate / self.rate))
        return Sound(_in_length(np.asarray(made, np.float32).T, count), rate)

    def with_channels(self, channels: int) -> Sound:
        """Returns it with so many channels: their mean as mono, mono in each, or the first of several."""
        if channels == self.channels:
            return self
        if channels == 1:
            return Sound(self.samples.mean(axis=0, keepdims=True), self.rate)
        if self.channels == 1:
            return Sound(np.repeat(self.samples, channels, axis=0), self.rate)
        return Sound(np.resize(self.samples, (channels, self.samples.shape[1])), self.rate)

    def in_length(self, count: int) -> Sound:
        """Returns its first `count` samples, with silence where it is shorter."""
        return self if count == self.samples.shape[1] else Sound(_in_length(self.samples, count), self.rate)

    def at_full_scale(self) -> Sound:
        """Returns it as a file of 16 bits holds it: as quiet as its peak asks for, and rounded to its levels."""
        highest = (LEVELS - 1) / LEVELS
        scaled = self.samples * min(1.0, highest / max(self.peak, 1e-12))
        return Sound(np.round(scaled * LEVELS) / LEVELS + 0.0, self.rate)  # no negative zeros, as files hold none

    def at_loudness(self, decibels: float) -> Sound:
        """Returns it so loud that its mean power is at so many decibels of full scale, or its peak is at full scale."""
        power = float(np.square(self.samples, dtype=float).mean())
        if not power:
            return self
        gain = min(10 ** (decibels / 20) / np.sqrt(power), (LEVELS - 1) / LEVELS / self.peak)
        return Sound(self.samples * gain, self.rate)

    def save(self, file: str | Path) -> None:
        """Writes it as the suffix says: .wav, .flac, .ogg, .opus or .mp3."""
        from versatile_diffusion.modalities.sound_files import encode_sound

        write_whole(Path(file), encode_sound(self, Path(file).suffix.lower()))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.samples, dtype=dtype, copy=copy)

    def __repr__(self) -> str:
        return f"Sound({self.channels} × {self.samples.shape[1]} samples at {self.rate} Hz, {self.seconds:.2f} s)"

    def _repr_html_(self) -> str:
        from versatile_diffusion.modalities.sound_files import encode_sound

        content = base64.b64encode(encode_sound(self, ".wav")).decode()
        return f'<audio controls src="data:audio/wav;base64,{content}"></audio>'


def read_sounds(data: object) -> list[Sound]:
    """Returns one sound or a list of them as a list.

    A sound is a `Sound`, a file or a data URL that holds one, or a mapping with "array" and "sampling_rate", as
    `datasets` has them.

    Raises:
        TypeError: if it is something else.
        ValueError: if a file cannot be read, or holds no sound.
    """
    if isinstance(data, list | tuple):
        return [_sound(item) for item in cast("Sequence[object]", data)]  # of anything, which is checked
    return [_sound(data)]


def _sound(item: object) -> Sound:
    from versatile_diffusion.modalities.sound_files import open_sound

    match item:
        case Sound():
            return item
        case {"array": object() as array, "sampling_rate": int() as rate}:
            return Sound(array, rate)
        case str() if is_data_url(item):
            return open_sound(read_base64(item))
        case str() | Path():
            require_file(Path(item))
            try:
                return open_sound(Path(item))
            except (OSError, ValueError) as error:
                raise ValueError(f"Cannot read {quoted(item)}: {error}") from error
        case Mapping():
            raise TypeError('A sound as a mapping needs "array" and "sampling_rate".')
        case _:
            raise TypeError(
                f"A sound must be a Sound(samples, rate) or the path of a file, or a list of them, got {item!r:.80}."
            )


def _checked(samples: object) -> Samples:
    """Samples as float32 (channels n)."""
    detached = samples.detach().cpu().float() if hasattr(samples, "detach") else samples  # pyright: ignore - a tensor
    try:
        found: NDArray[Any] = np.asarray(cast(Any, detached))
    except (TypeError, ValueError) as error:
        raise TypeError(f"Samples must be numbers: {error}.") from error
    if found.dtype.kind not in "iuf":
        raise TypeError(f"Samples must be real numbers, got {found.dtype}.")
    if found.dtype.kind == "i" and found.dtype.itemsize in (2, 4):
        found = found / -float(np.iinfo(found.dtype).min)
    elif found.dtype.kind != "f":
        raise TypeError(f"Samples must be numbers in [-1, 1], or integers of 16 or 32 bits, got {found.dtype}.")
    found = np.atleast_2d(found).astype(np.float32)
    if found.ndim != 2 or not found.size:
        raise ValueError(f"A sound has samples (channels n), at least one, got the shape {found.shape}.")
    if len(found) > MOST_CHANNELS:
        raise ValueError(
            f"A sound of {len(found)} channels cannot be: channels come first, so transpose samples (n channels)."
        )
    if not np.isfinite(found).all():
        raise ValueError("The sound holds samples that are no finite numbers: make it anew.")
    return found


def _in_length(samples: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    kept = samples[:, :count]
    return np.pad(kept, ((0, 0), (0, count - kept.shape[1])))
