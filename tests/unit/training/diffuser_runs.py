"""A tiny diffuser with latents of all flows, and its gradients, for tests in one process or several."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from safetensors.torch import save_file
from torch import nn

from versatile_diffusion.diffuser import Diffuser, DiffuserConfig
from versatile_diffusion.flows import Flow
from versatile_diffusion.modalities import ImageModality, TextModality
from versatile_diffusion.processes import processes
from versatile_diffusion.training.loop.sharding import whole
from versatile_diffusion.training.loop.task import Batch, Pass, Task, TrainingConfig
from versatile_diffusion.training.loop.trainer import Trainer
from versatile_diffusion.training.settings.choices import AveragePlace, OptimizerName
from versatile_diffusion.training.stages.latent_cache import LatentCache
from versatile_diffusion.training.tasks.data import CaptionRoles
from versatile_diffusion.training.tasks.diffuser import GRADIENT_SCALES, DiffuserTask

ALL_FLOWS = [Flow(context, output) for context in ("image", "text") for output in ("image", "text")]


ROLES = CaptionRoles(complete=(2, 2, 3, 3), paraphrase=(1, 0, 3, 2))
"""Four texts of each image: two that leave out the same things, then two that leave out nothing."""


def rows_of(rows: torch.Tensor, start: int, stop: int) -> torch.Tensor:
    return rows[start:stop]


def nothing(flow: Flow) -> torch.Tensor:
    return torch.full((1, 5 if flow.context == "image" else 7, 8), 9.0)


def four_flow_task(flows: list[Flow] = ALL_FLOWS, channels: int = 32, **options: object) -> DiffuserTask:
    """A tiny diffuser and random latents, the same in every process."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    tensors = {
        "image/latents": random(24, 4, 4, 4),
        "image/tokens": random(24, 5, 8),
        "text/latents": random(24, 4, 6),
        "text/tokens": random(24, 4, 7, 8),
    }
    encoders = {name: partial(rows_of, rows) for name, rows in tensors.items()}
    with TemporaryDirectory() as folder:
        data = LatentCache(24, encoders, "{} of this test".format, nothing, Path(folder), {"text": ROLES})
        for name in tensors:
            data.part(name)
    image = ImageModality({"latent_channels": 4, "block_out_channels": [4], "norm_num_groups": 2}, None)
    text = TextModality(None, None, positions=4, latent_dim=6)
    layers = {"image": image.data_layers, "text": text.data_layers}
    with torch.random.fork_rng():
        torch.manual_seed(1)
        diffuser = Diffuser(
            DiffuserConfig(channels, (1, 2), (1, 1), (True, False), num_heads=4), layers, {"image": 8, "text": 8}
        )
        for parameter in diffuser.parameters():  # no layer starts at zero, so that gradients reach all
            torch.nn.init.normal_(parameter, std=0.05)
    scheduler = DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    return DiffuserTask(diffuser, flows, data, scheduler, **options)  # pyright: ignore


def gradients(batch_size: int) -> dict[str, torch.Tensor]:
    """What one step of four flows leaves on the parameters, over all processes that run this."""
    task = four_flow_task(min_snr=5.0, gradient_scales=GRADIENT_SCALES)
    trainer = Trainer(task, TrainingConfig(steps=1, batch_size=batch_size, learning_rate=1e-3), Path("unused"))
    trainer.backward()
    return {name: p.grad.contiguous() for name, p in trainer.model.named_parameters() if p.grad is not None}


def save_gradients(path: str, batch_size: str) -> None:
    """Leaves the gradients in a file."""
    assert processes().num_processes == 2
    found = gradients(int(batch_size))
    if processes().is_main_process:
        save_file(found, path)


SHARDED = TrainingConfig(
    steps=20, batch_size=3, learning_rate=1e-4, warmup_steps=2, checkpoint_every=10, keep_checkpoints=5, log_every=1
)
"""A run of several processes; alone, one process takes twice the batch."""


class Branching(nn.Module):
    """Small layers, of which each branch uses its own: what flows are to a diffuser, and quick."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv1d(width, width, 1), *(nn.Linear(width, width) for _ in range(3))])

    def forward(self, x: torch.Tensor, branch: int) -> torch.Tensor:
        x = torch.tanh(self.layers[0](x[..., None])[..., 0])
        for number in (branch, 3):
            x = torch.tanh(self.layers[number](x))
        return x


class Branches(Task[Branching]):
    """Learns to turn vectors around, by two branches."""

    def __init__(self, width: int = 16) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.model = Branching(width)
        self.width = width

    def draw(self, generator: torch.Generator, size: int) -> Batch:
        return {name: torch.randn(size, self.width, generator=generator) for name in ("first", "second")}

    def passes(self, batch: Batch) -> Iterator[Pass]:
        for branch, (name, x) in enumerate(batch.items(), start=1):
            yield partial(self._losses, name, branch, x)

    def units(self) -> Iterator[nn.Module]:
        yield from self.model.layers

    def _losses(self, name: str, branch: int, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {name: (self.model(x, branch) - x.flip(-1)).square().mean()}


def train_flows(folder: str, batch_size: str) -> None:
    """Trains two flows of a diffuser, sharded over all processes."""
    # With 32 channels each is a group of its norms, which leaves biases before them no gradients but rounding.
    flows = [Flow("text", "image"), Flow("image", "text")]
    task = four_flow_task(flows, channels=64, min_snr=5.0, gradient_scales=GRADIENT_SCALES)
    train(task, folder, replace(SHARDED, steps=3, batch_size=int(batch_size), checkpoint_every=3))


def train_branches(folder: str, batch_size: str) -> None:
    """Trains small layers, sharded over all processes."""
    train(Branches(), folder, replace(SHARDED, batch_size=int(batch_size), learning_rate=1e-2))


WAYS: dict[str, tuple[dict[str, Any], str, bool]] = {
    "accumulate": ({"accumulate": 3}, "no", True),
    "adamw-8bit": ({"optimizer": OptimizerName.ADAMW_8BIT}, "no", True),
    "muon": ({"optimizer": OptimizerName.MUON, "average": AveragePlace.CPU}, "no", True),
    "muon-whole": ({"optimizer": OptimizerName.MUON}, "no", False),
    "bf16": ({}, "bf16", True),
    "fp16": ({}, "fp16", True),
}
"""Ways to take steps: what is changed of SHARDED, the precision, and whether processes share the model out."""


def train_in_all_ways(folder: str, batch_size: str) -> None:
    """Trains layers that are large enough to be remembered in 8 bits, in each way in a folder of its own."""
    for name, (changes, precision, sharded) in WAYS.items():
        size = int(batch_size) // changes.get("accumulate", 1)
        config = replace(SHARDED, steps=6, checkpoint_every=3, batch_size=size, learning_rate=1e-2, **changes)
        train(Branches(width=128), f"{folder}/{name}", config, precision, sharded)


def train(task: Task[Any], folder: str, config: TrainingConfig, precision: str = "no", sharded: bool = True) -> None:
    """Trains a task in a folder, and saves the averaged weights there."""
    trainer = Trainer(task, config, Path(folder), mixed_precision=precision, sharded=sharded)
    trainer.run()
    found = {name: tensor.contiguous() for name, tensor in whole(trainer.trained).items()}
    if processes().is_main_process:
        save_file(found, Path(folder) / "averaged.safetensors")
