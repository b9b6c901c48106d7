"""Training text-to-image on the same files, with the same network, by `vd train` and by the loop of diffusers' example.

The peer is the loop of examples/text_to_image/train_text_to_image.py with `--use_ema --random_flip`, written anew from
diffusers', transformers' and accelerate's parts without what is no part of a step: arguments, the hub, checkpoints and
validation. It reads a picture and encodes it and its caption whenever they are drawn, as that loop does.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, init_empty_weights  # pyright: ignore[reportMissingTypeStubs] - accelerate has no types
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.optimization import get_scheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.training_utils import EMAModel
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, Dataset

from versatile_diffusion.applications.versatile import VersatileDiffusionPipeline
from versatile_diffusion.bench.report import Figure, Settings
from versatile_diffusion.bench.timing import alternate, ratios, seconds
from versatile_diffusion.bundled import DRAWN_WORLD
from versatile_diffusion.checkpoints.diffuser_layouts import diffusers_unet
from versatile_diffusion.checkpoints.keys import to_ours
from versatile_diffusion.diffuser import Diffuser, DiffuserConfig
from versatile_diffusion.flows import Flow
from versatile_diffusion.modalities import ImageModality, TextModality
from versatile_diffusion.processes import forget_precision
from versatile_diffusion.training.loop.task import TrainingConfig
from versatile_diffusion.training.loop.trainer import Trainer
from versatile_diffusion.training.own_data.finetuning import FineTuning
from versatile_diffusion.training.samples.sample_cache import TRAINING
from versatile_diffusion.training.settings.choices import CachePolicy
from versatile_diffusion.training.settings.training_settings import TrainingSettings
from versatile_diffusion.training.tasks.diffuser import DiffuserTask
from versatile_diffusion.worlds.registry import get_world

SIZES = DiffuserConfig(64, (1, 2, 3), (2, 2, 2), (True, True, True), num_heads=8)
"""Of the network, which diffusers' U-Net can have as well; the bundled model's first level is as none of theirs."""
BATCH, PICTURES = 32, 512
"""Samples of a step, and of the data set."""
_RATE, _FLOW = 1e-5, Flow.parse("text-to-image")
_CACHED, _ON_THE_WAY, _PEER = "ours, encoded first", "ours, encoded on the way", "diffusers' loop"
_AT_LEAST = {_CACHED: 1.5, _ON_THE_WAY: 1.0}
_TOLERANCE = 0.25
"""Of mean losses: both loops begin with the same weights, but draw other samples and other noise."""


def peer_figures(settings: Settings, precision: str) -> Iterator[Figure]:
    """Times steps of all three, in turns.

    Args:
        settings: of the benchmark; its model encodes pictures and captions.
        precision: "bf16" or "no".

    Raises:
        RuntimeError: If they do not reach about the same losses.
    """
    pipe = VersatileDiffusionPipeline.from_pretrained(settings.model, flows=[str(_FLOW)], torch_dtype=torch.float32)
    with TemporaryDirectory() as place:
        folder = Path(place)
        write_pictures(folder / "pictures", PICTURES)
        unet = peer_unet(pipe)
        works: dict[str, Callable[[int], float]] = {}
        for name, policy in ((_CACHED, CachePolicy.ALWAYS), (_ON_THE_WAY, CachePolicy.NEVER)):
            trainer = _trainer(pipe, unet, policy, settings.model, folder, precision)
            works[name] = lambda number, trainer=trainer: trainer.update()[str(_FLOW)]
        peer = ExampleLoop(pipe, unet, folder / "pictures", precision)
        works[_PEER] = lambda number: peer.update()
        for work in works.values():
            work(0)
        found = alternate(works, settings.rounds)
    losses = {name: sum(run.output for run in runs) / len(runs) for name, runs in found.items()}
    for name, loss in losses.items():
        if abs(loss - losses[_PEER]) > _TOLERANCE * losses[_PEER]:
            raise RuntimeError(f"{name} reaches a loss of {loss:.4f}, and {_PEER} one of {losses[_PEER]:.4f}.")
    for name, runs in found.items():
        yield Figure(f"text-to-image by {name}", "samples/s", [BATCH / each for each in seconds(runs)])
    for name, least in _AT_LEAST.items():
        yield Figure(f"{_PEER} / {name}", "×", ratios(found[name], found[_PEER]), at_least=least)


def write_pictures(folder: Path, count: int) -> None:
    """Writes pictures of the bundled world with captions beside them."""
    folder.mkdir(parents=True)
    for number, sample in enumerate(get_world(DRAWN_WORLD).samples(0, count)):
        Image.fromarray(sample.image).save(folder / f"{number:05d}.png")
        (folder / f"{number:05d}.txt").write_text(sample.text)


def peer_unet(pipe: VersatileDiffusionPipeline) -> UNet2DConditionModel:
    """Returns diffusers' U-Net of `SIZES`, for the latents and the tokens of a model, with random weights."""
    kinds = ["CrossAttn{}Block2D" if attends else "{}Block2D" for attends in SIZES.with_context]
    with torch.random.fork_rng():  # pyright: ignore[reportUnknownMemberType] - torch leaves parameters untyped
        torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType] - torch leaves a parameter untyped
        return UNet2DConditionModel(
            in_channels=pipe.modality("image").latent_shape()[0],
            out_channels=pipe.modality("image").latent_shape()[0],
            down_block_types=tuple(kind.format("Down") for kind in kinds),
            up_block_types=tuple(kind.format("Up") for kind in reversed(kinds)),
            block_out_channels=SIZES.channels,
            layers_per_block=SIZES.num_res_blocks[0],
            cross_attention_dim=pipe.modality("text").context_dim,
            attention_head_dim=SIZES.num_heads,  # diffusers' name for the number of heads
        )


def with_weights_of(unet: UNet2DConditionModel, pipe: VersatileDiffusionPipeline) -> Diffuser:
    """Returns our network of that flow with the weights of diffusers'."""
    with init_empty_weights(include_buffers=False):
        layers, dims = {"image": pipe.modality("image").data_layers}, {"text": pipe.modality("text").context_dim}
        diffuser = Diffuser(SIZES, layers, dims)
    state = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    diffuser.load_state_dict(to_ours(diffusers_unet(diffuser.plan, "image", "text"), state), assign=True)
    return diffuser.requires_grad_(True)


class PicturesWithCaptions(Dataset[dict[str, Tensor]]):
    """The pictures of a folder as the example's transforms make them: resized, cropped, flipped, in [-1, 1]."""

    def __init__(self, folder: Path, size: int, tokenize: Callable[[str], Tensor]) -> None:
        self.files, self.size, self.tokenize = sorted(folder.glob("*.png")), size, tokenize

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        file = self.files[index]
        image = Image.open(file).convert("RGB")
        shorter = min(image.size)
        sides = [round(side * self.size / shorter) for side in image.size]
        image = image.resize((sides[0], sides[1]), Image.Resampling.BILINEAR)
        left, top = (random.randint(0, side - self.size) for side in sides)
        image = image.crop((left, top, left + self.size, top + self.size))
        if random.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 127.5 - 1  # pyright: ignore[reportUnknownMemberType] - torch types it in part
        return {"pixel_values": pixels, "input_ids": self.tokenize(file.with_suffix(".txt").read_text())}


class ExampleLoop:
    """The example's training loop, one step at a time.

    Args:
        pipe: whose autoencoder and text encoder are used, as copies.
        unet: is trained, as a copy.
        folder: of pictures and captions.
        precision: "bf16" or "no".
    """

    def __init__(
        self, pipe: VersatileDiffusionPipeline, unet: UNet2DConditionModel, folder: Path, precision: str
    ) -> None:
        image, text = pipe.modality("image"), pipe.modality("text")
        assert isinstance(image, ImageModality) and isinstance(text, TextModality)
        forget_precision()
        self.accelerator: Any = Accelerator(mixed_precision=precision)
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self.vae: Any = self._frozen(image.autoencoder, dtype)
        self.text_encoder: Any = self._frozen(text.context_encoder, dtype)
        made: Any = DDPMScheduler.from_config(pipe.scheduler.config)  # pyright: ignore - untyped in part in diffusers
        self.dtype, self.schedule = dtype, made
        own = copy.deepcopy(unet).train()
        self.ema = EMAModel(own.parameters())
        optimizer = torch.optim.AdamW(own.parameters(), lr=_RATE, weight_decay=1e-2)
        rates = get_scheduler("constant", optimizer=optimizer)
        size = image.size
        assert size is not None
        data = PicturesWithCaptions(folder, size, lambda words: text.context_ids([words])[0])
        loader = DataLoader(data, BATCH, shuffle=True)
        self.unet, self.optimizer, self.loader, self.rates = self.accelerator.prepare(own, optimizer, loader, rates)
        self.ema.to(self.accelerator.device)  # pyright: ignore[reportUnknownMemberType] - diffusers leaves parameters untyped
        self.batches = self._forever()

    def update(self) -> float:
        """Takes one step, and returns its loss."""
        accelerator, batch = self.accelerator, next(self.batches)
        with accelerator.accumulate(self.unet):
            latents = self.vae.encode(batch["pixel_values"].to(self.dtype)).latent_dist.sample()
            latents = latents * self.vae.config.scaling_factor
            noise = torch.randn_like(latents)
            timesteps = torch.randint(0, len(self.schedule.betas), (len(latents),), device=latents.device)
            noisy = self.schedule.add_noise(latents, noise, timesteps)
            tokens = self.text_encoder(batch["input_ids"])
            predicted = self.unet(noisy, timesteps, tokens, return_dict=False)[0]
            loss = mse_loss(predicted.float(), noise.float())
            average = accelerator.gather(loss.repeat(BATCH)).mean()
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(self.unet.parameters(), 1.0)
            self.optimizer.step()
            self.rates.step()
            self.optimizer.zero_grad()
        self.ema.step(self.unet.parameters())
        return average.item()

    def _frozen(self, module: nn.Module | None, dtype: torch.dtype) -> nn.Module:
        assert module is not None
        return nn.Module.to(copy.deepcopy(module).requires_grad_(False), self.accelerator.device, dtype)

    def _forever(self) -> Iterator[dict[str, Tensor]]:
        while True:
            yield from self.loader


def _trainer(
    pipe: VersatileDiffusionPipeline,
    unet: UNet2DConditionModel,
    policy: CachePolicy,
    model: str,
    folder: Path,
    precision: str,
) -> Trainer[Diffuser]:
    """What `vd train` trains with, on the pictures of the peer."""
    pictures = str(folder / "pictures")
    settings = TrainingSettings(data=pictures, start=model, flows=(str(_FLOW),), cache=policy, validation=0.0)
    run = FineTuning(settings, folder / policy.value)
    samples = run.samples[TRAINING]
    task = DiffuserTask(with_weights_of(unet, pipe), [_FLOW], samples, run.schedule, context_dropout=0.0)
    config = TrainingConfig(10**6, BATCH, _RATE, warmup_steps=0, final_rate=1.0)
    return Trainer(task, config, folder / f"{policy.value}-run", mixed_precision=precision)
