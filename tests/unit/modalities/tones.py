"""A modality that no file of the package knows: short tones. It is all that a third modality has to bring.

`install` makes it known to other processes, as a package does that users install.
"""

import io
import wave
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import torch
from diffusers.configuration_utils import register_to_config
from pydantic import Field
from torch import Generator, Tensor, nn

from versatile_diffusion.diffuser import FullyConnectedLayers, Plan
from versatile_diffusion.modalities import registry
from versatile_diffusion.modalities.parts import ModalityOfParts, loaded
from versatile_diffusion.modalities.spec import Codec, DecodingOptions, ModalitySpec, ShownAs

SAMPLES, FRAMES, RATE, LOUDEST = 32, 4, 8000, 32767
TONES = torch.sin(torch.outer(torch.tensor([0.3, 0.5, 0.8, 1.2]), torch.arange(SAMPLES)))


class ToneDecoding(DecodingOptions):
    """How tones are played."""

    volume: Annotated[float, Field(ge=0, le=1, description="How loud they are.")] = 1.0


class ToneCodec(Codec):
    """Tones as .wav files of 16 bits. Items are float32 tensors (32,) in [-1, 1]."""

    suffixes = (".wav", ".wave")
    suffix = ".wav"
    media_type = "audio/wav"
    shown_as = ShownAs.AUDIO

    def decode(self, content: bytes, most: int | None = None) -> Tensor:
        try:
            with wave.open(io.BytesIO(content)) as file:
                if most is not None and file.getnframes() > most:
                    raise ValueError(f"A tone may have {most} samples, got {file.getnframes()}.")
                levels = torch.frombuffer(bytearray(file.readframes(SAMPLES)), dtype=torch.int16)
        except (wave.Error, EOFError) as error:
            raise ValueError(f"A tone must be a whole .wav file: {error}.") from error
        return read_tones(levels.float() / LOUDEST)[0]

    def encode(self, item: object, record: Mapping[str, str] | None = None) -> bytes:
        (tone,) = read_tones(item)
        content = io.BytesIO()
        with wave.open(content, "wb") as file:
            file.setparams((1, 2, RATE, SAMPLES, "NONE", "not compressed"))
            file.writeframes((tone * LOUDEST).round().to(torch.int16).numpy().tobytes())
        return content.getvalue()

    def values(self, data: object) -> list[Tensor]:
        return read_tones(data)

    def measure(self, item: object) -> int:
        return read_tones(item)[0].numel()


TONE = ModalitySpec("tone", ToneCodec(), "tests.unit.modalities.tones:ToneModality", ToneDecoding)


def read_tones(data: object) -> list[Tensor]:
    items = list(data) if isinstance(data, list | tuple) else [data]
    tones = [item for item in items if isinstance(item, Tensor) and item.shape == (SAMPLES,)]
    if len(tones) != len(items):
        raise TypeError(f"A tone must be a tensor of {SAMPLES} samples.")
    return tones


class ToneModality(ModalityOfParts[Tensor]):
    """Short waveforms. Items are float32 tensors (32,) in [-1, 1]."""

    spec = TONE

    @register_to_config
    def __init__(
        self, autoencoder: dict[str, Any] | None = None, context_encoder: dict[str, Any] | None = None
    ) -> None:
        super().__init__()
        self.autoencoder = None if autoencoder is None else nn.Linear(SAMPLES, autoencoder["latent_dim"], bias=False)
        self.context_encoder = None if context_encoder is None else nn.Linear(SAMPLES // FRAMES, context_encoder["dim"])

    @property
    def context_dim(self) -> int:
        return self._context_encoder().out_features

    @property
    def context_lengths(self) -> tuple[int, ...]:
        return (FRAMES,)

    @property
    def latent_dim(self) -> int:
        return self._autoencoder().out_features

    def data_layers(self, plan: Plan) -> FullyConnectedLayers:
        return FullyConnectedLayers(plan, self.latent_dim, positions=4)

    def latent_shape(self, height: int | None = None, width: int | None = None) -> tuple[int, ...]:
        return (self.latent_dim,)

    def read(self, data: object) -> list[Tensor]:
        return read_tones(data)

    def encode(self, items: Sequence[Tensor]) -> Tensor:
        return self._autoencoder()(torch.stack(list(items)))

    def decode(
        self, latents: Tensor, generators: Sequence[Generator] | None = None, *, volume: float = 1
    ) -> list[Tensor]:
        return list(volume * torch.tanh(latents @ self._autoencoder().weight))

    def embed(self, items: Sequence[Tensor], masks: object = None) -> Tensor:
        return self._context_encoder()(torch.stack(list(items)).unflatten(1, (FRAMES, -1)))

    def unconditional(self, output: str) -> Tensor:
        return torch.zeros(1, FRAMES, self.context_dim)

    def present(self, items: Sequence[Tensor], output_type: str) -> list[Tensor]:
        return list(items)

    def _autoencoder(self) -> nn.Linear:
        return loaded(self.autoencoder, "tone autoencoder", "that makes tones")

    def _context_encoder(self) -> nn.Linear:
        return loaded(self.context_encoder, "tone context encoder", "from tones")


def small_tones() -> ToneModality:
    """The modality with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ToneModality(autoencoder={"latent_dim": 12}, context_encoder={"dim": 20}).eval()


@contextmanager
def known() -> Iterator[None]:
    """Tones are known in this process."""
    registry.register(TONE)
    try:
        yield
    finally:
        registry.unregister(TONE)


def install(folder: Path) -> None:
    """Writes what says of a package that it brings tones, as far as processes look for packages in that folder."""
    info = folder / "tones-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tones\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{TONE.name} = {__name__}:TONE\n")
