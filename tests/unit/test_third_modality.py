"""A new modality adds files and changes none: this one is all that tones need."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from diffusers.configuration_utils import register_to_config
from PIL import Image
from torch import Generator, Tensor, nn

from versatile_diffusion import Context, VersatileDiffusionPipeline
from versatile_diffusion.checkpoints import CheckpointError
from versatile_diffusion.diffuser import Diffuser, DiffuserConfig, FullyConnectedLayers, Plan
from versatile_diffusion.flows import Flow
from versatile_diffusion.modalities import Modality
from versatile_diffusion.modalities.parts import ModalityOfParts, loaded
from versatile_diffusion.training.task import TrainingConfig
from versatile_diffusion.training.tasks.diffuser import DiffuserTask
from versatile_diffusion.training.trainer import Trainer

SAMPLES, FRAMES = 32, 4


class ToneModality(ModalityOfParts):
    """Short waveforms. Items are float32 tensors (32,) in [-1, 1]."""

    name: ClassVar[str] = "tone"

    @register_to_config
    def __init__(
        self, autoencoder: dict[str, Any] | None = None, context_encoder: dict[str, Any] | None = None
    ) -> None:
        super().__init__()
        self.autoencoder = None if autoencoder is None else nn.Linear(SAMPLES, autoencoder["latent_dim"], bias=False)
        self.context_encoder = None if context_encoder is None else nn.Linear(SAMPLES // FRAMES, context_encoder["dim"])

    @property
    def context_dim(self) -> int:
        return loaded(self.context_encoder, "tone context encoder", "from tones").out_features

    @property
    def latent_dim(self) -> int:
        return loaded(self.autoencoder, "tone autoencoder", "that makes tones").out_features

    def data_layers(self, plan: Plan) -> FullyConnectedLayers:
        return FullyConnectedLayers(plan, self.latent_dim, positions=4)

    def latent_shape(self, height: int | None = None, width: int | None = None) -> tuple[int, ...]:
        return (self.latent_dim,)

    def read(self, data: Any) -> list[Tensor]:
        items = [data] if isinstance(data, Tensor) else list(data)
        if not all(isinstance(item, Tensor) and item.shape == (SAMPLES,) for item in items):
            raise TypeError(f"A tone must be a tensor of {SAMPLES} samples.")
        return items

    def encode(self, items: Sequence[Tensor]) -> Tensor:
        return self.autoencoder(torch.stack(list(items)))  # pyright: ignore[reportOptionalCall]

    def decode(
        self, latents: Tensor, generators: Sequence[Generator] | None = None, *, volume: float = 1
    ) -> list[Tensor]:
        return list(volume * torch.tanh(latents @ self.autoencoder.weight))  # pyright: ignore

    def embed(self, items: Sequence[Tensor], masks: Any = None) -> Tensor:
        return self.context_encoder(torch.stack(list(items)).unflatten(1, (FRAMES, -1)))  # pyright: ignore

    def unconditional(self, output: str) -> Tensor:
        return torch.zeros(1, FRAMES, self.context_dim)

    def present(self, items: list[Tensor], output_type: str) -> list[Tensor]:
        return items


TONES = torch.sin(torch.outer(torch.tensor([0.3, 0.5, 0.8, 1.2]), torch.arange(SAMPLES)))
TEXTS = ["a red tent", "a blue lighthouse", "a green house", "a tree"]


class Pairs:
    """Each tone with its text."""

    def __init__(self, modalities: dict[str, Modality]) -> None:
        items = {"tone": list(TONES), "text": TEXTS}
        self.modalities = modalities
        with torch.no_grad():
            self.latents = {name: modalities[name].encode(items[name]) for name in items}
            self.tokens = {name: modalities[name].embed(items[name]) for name in items}

    def __len__(self) -> int:
        return len(TEXTS)

    def pairs(self, flow: Flow, index: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        return self.latents[flow.output][index], self.tokens[flow.context][index]

    def unconditional(self, flow: Flow) -> Tensor:
        return self.modalities[flow.context].unconditional(flow.output)


@pytest.fixture(scope="module")
def three(session_pipe: VersatileDiffusionPipeline) -> VersatileDiffusionPipeline:
    torch.manual_seed(0)
    tone = ToneModality(autoencoder={"latent_dim": 12}, context_encoder={"dim": 20}).eval()
    known: dict[str, Any] = dict(session_pipe.modalities.items())
    modalities: dict[str, Modality] = {**known, "tone": tone}
    config = DiffuserConfig(64, (1,), (1,), (True,), num_heads=4)
    data_layers = {name: modality.data_layers for name, modality in modalities.items()}
    context_dims = {name: modality.context_dim for name, modality in modalities.items()}
    diffuser = Diffuser(config, data_layers, context_dims).eval()
    pipe = VersatileDiffusionPipeline(diffuser, session_pipe.scheduler, modalities)
    pipe.set_progress_bar_config(disable=True)
    return pipe


DATA = {"tone": TONES[0], "text": "a red tent", "image": Image.new("RGB", (20, 20), "teal")}


@pytest.mark.parametrize(("context", "output"), product(DATA, DATA))
def test_all_nine_flows_run(three: VersatileDiffusionPipeline, context: str, output: str) -> None:
    generator = Generator().manual_seed(0)
    made = three.generate(output, Context(context, DATA[context]), num_inference_steps=2, generator=generator)
    assert made.latents.isfinite().all()
    (item,) = made.items
    if output == "tone":
        assert item.shape == (SAMPLES,)
    assert three.modalities[output].read(item)  # pyright: ignore


def test_a_mixture_of_all_three_with_a_start(three: VersatileDiffusionPipeline) -> None:
    contexts = [Context(name, data, weight=i + 1) for i, (name, data) in enumerate(DATA.items())]
    options: dict[str, Any] = {"num_inference_steps": 4, "start": TONES[1], "strength": 0.5, "volume": 0.5}
    made = three.generate("tone", contexts, num_outputs=2, **options)
    assert [item.shape for item in made.items] == [(SAMPLES,)] * 2
    assert max(item.abs().max() for item in made.items) <= 0.5


def test_a_third_modality_is_trained_saved_and_loaded(three: VersatileDiffusionPipeline, tmp_path: Path) -> None:
    flows = [Flow.parse(name) for name in ("tone-variation", "text-to-tone")]
    task = DiffuserTask(three.diffuser, flows, Pairs(dict(three.modalities.items())), three.scheduler)  # pyright: ignore
    config = TrainingConfig(30, 8, 3e-3, warmup_steps=5, checkpoint_every=30)

    @torch.no_grad()
    def loss() -> dict[str, float]:
        batch = task.draw(Generator().manual_seed(1), 32)
        return {name: float(value) for compute in task.passes(batch) for name, value in compute().items()}

    before = loss()
    trained = Trainer(task, config, tmp_path / "run").run()
    after = loss()
    assert set(before) == {"tone-variation", "text-to-tone"}
    assert all(after[name] < 0.8 * before[name] for name in before), (before, after)

    assert isinstance(trained, Diffuser)
    pipe = VersatileDiffusionPipeline(trained.eval(), three.scheduler, dict(three.modalities.items()))  # pyright: ignore
    pipe.set_progress_bar_config(disable=True)
    pipe.save_pretrained(tmp_path / "model")

    def made(pipe: VersatileDiffusionPipeline, context: str) -> Tensor:
        generator = Generator().manual_seed(2)
        return pipe.generate(
            "tone", Context(context, DATA[context]), num_inference_steps=2, generator=generator
        ).latents

    opened = VersatileDiffusionPipeline.from_pretrained(tmp_path / "model", modalities=[ToneModality])
    assert all(torch.equal(made(opened, context), made(pipe, context)) for context in DATA)
    alone = VersatileDiffusionPipeline.from_pretrained(
        tmp_path / "model", flows=["tone-variation"], modalities=[ToneModality]
    )
    assert list(alone.modalities) == ["tone"]
    assert torch.equal(made(alone, "tone"), made(pipe, "tone"))
    with pytest.raises(CheckpointError, match="Pass their classes"):
        VersatileDiffusionPipeline.from_pretrained(tmp_path / "model")
