"""Sounds before their model is loaded: their files, and the options of making them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from versatile_diffusion.fields import Flag
from versatile_diffusion.modalities.spec import Codec, DecodingOptions, ModalitySpec, ShownAs
from versatile_diffusion.validation import Number

if TYPE_CHECKING:  # these take long, which commands that only ask need not wait for
    from torch import Tensor

    from versatile_diffusion.modalities.sounds import Sound

LONGEST = 3600
"""Seconds that a sound may have, at any rate."""


class SoundDecoding(DecodingOptions):
    """How sounds are made of their latents."""

    seconds: Annotated[
        Number | None,
        Field(gt=0, le=LONGEST, description="Of sounds that are made; as long as in training if left out."),
        Flag(metavar="SECONDS"),
    ] = None
    loudness: Annotated[
        Number | None,
        Field(
            ge=-70,
            le=0,
            description="Mean power in decibels of full scale, as far as peaks allow, such as -20; as the model makes "
            "it if left out.",
        ),
    ] = None


class SoundCodec(Codec):
    """Sounds as WAV files of 16 bits, which hold their record as a comment. Items are `Sound`.

    Reads what libsndfile does, with any rate and any number of channels.
    """

    suffixes = (".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".w64")
    suffix = ".wav"
    media_type = "audio/wav"
    shown_as = ShownAs.AUDIO
    keeps_record = True
    libraries = ("soundfile", "soxr")
    extra = "sound"

    def decode(self, content: bytes, most: int | None = None) -> Sound:
        """See `Codec.decode`."""
        from versatile_diffusion.modalities.sound_files import open_sound

        return open_sound(content, most)

    def encode(self, item: object, record: Mapping[str, str] | None = None) -> bytes:
        """See `Codec.encode`."""
        from versatile_diffusion.modalities.sound_files import encode_sound

        return encode_sound(_sound(item), self.suffix, record)

    def values(self, data: object) -> list[Tensor]:
        """See `Codec.values`: bytes that hold rate and samples, in 16 bits where these hold the sound exactly."""
        import torch

        from versatile_diffusion.modalities.sound_files import packed
        from versatile_diffusion.modalities.sounds import read_sounds

        return [torch.frombuffer(bytearray(packed(sound)), dtype=torch.uint8) for sound in read_sounds(data)]

    def restored(self, value: str | Tensor) -> Sound:
        """See `Codec.restored`.

        Raises:
            ValueError: if it is not such a value.
        """
        import torch

        from versatile_diffusion.modalities.sound_files import unpacked

        if isinstance(value, str) or value.dtype != torch.uint8 or value.ndim != 1:
            raise ValueError("This is no value of a sound.")
        return unpacked(value.numpy().tobytes())

    def picture(self, item: object) -> bytes:
        """See `Codec.picture`: a spectrogram."""
        from versatile_diffusion.modalities.spectrograms import spectrogram_png

        return spectrogram_png(_sound(item))

    def measure(self, item: object) -> int:
        """See `Codec.measure`: samples of all channels."""
        return _sound(item).samples.size

    def read(self, file: Path) -> Sound:
        """See `Codec.read`."""
        from versatile_diffusion.modalities.sounds import read_sounds

        return read_sounds(file)[0]

    def require(self, file: Path) -> None:
        """See `Codec.require`: what is told by the beginning of the file."""
        from versatile_diffusion.modalities.sound_files import require_sound

        require_sound(file)

    def read_record(self, content: bytes) -> dict[str, str]:
        """See `Codec.read_record`: what the comment of the file holds."""
        from versatile_diffusion.modalities.sound_files import read_record

        return read_record(content)


def _sound(item: object) -> Sound:
    from versatile_diffusion.modalities.sounds import Sound

    if not isinstance(item, Sound):
        raise TypeError(f"A Sound(samples, rate) is expected, got {type(item)}.")
    return item


SOUND = ModalitySpec("sound", SoundCodec(), "versatile_diffusion.modalities.sound:SoundModality", SoundDecoding)
