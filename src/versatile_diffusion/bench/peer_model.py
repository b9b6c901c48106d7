"""A model of random weights in diffusers' layout, and processes that open it, ours and diffusers'."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.pipelines.deprecated.versatile_diffusion.pipeline_versatile_diffusion import VersatileDiffusionPipeline
from torch import nn
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from versatile_diffusion.bench import image_job
from versatile_diffusion.bench.diffuser import random_peer
from versatile_diffusion.bench.image_job import ImageJob
from versatile_diffusion.bench.sizes import empty, kept_folder, require_room, stored_bytes
from versatile_diffusion.bundled import DRAWN_WORLD
from versatile_diffusion.checkpoints.components import official_scheduler
from versatile_diffusion.checkpoints.diffusers_folder import recognises
from versatile_diffusion.checkpoints.folder import replacing
from versatile_diffusion.modalities.vocabulary import word_tokenizers
from versatile_diffusion.model_presets import Preset
from versatile_diffusion.worlds.registry import get_world

_STORED = torch.float16  # diffusers maps what it need not cast, so that its figures depend on this
_WORDS = 50


def peer_folder(cache: Path | None, preset: Preset) -> AbstractContextManager[Path]:
    """Opens the folder of the saved model: one that is kept in the cache, or else one that is removed at the end."""

    def make(folder: Path) -> None:
        require_room(folder.parent, stored_bytes(empty(preset), _STORED))
        with replacing(folder) as target:
            random_pipeline(preset).save_pretrained(target)  # pyright: ignore[reportUnknownMemberType] - typed in part

    return kept_folder(cache, "random-model-of-diffusers", recognises, make)


def random_pipeline(preset: Preset) -> VersatileDiffusionPipeline:
    """Builds diffusers' pipeline of all flows that it has, with random weights and a tokenizer of some words."""
    vision, text = preset.image.context_encoder, preset.text.context_encoder
    assert vision is not None
    tokenizer: Any = word_tokenizers(sample.text for sample in get_world(DRAWN_WORLD).samples(0, _WORDS)).clip
    tokenizer.model_max_length = text["max_position_embeddings"]
    ends = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    size = vision["image_size"]
    with torch.random.fork_rng():  # pyright: ignore[reportUnknownMemberType] - torch leaves parameters untyped
        torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType] - torch leaves a parameter untyped
        modules: dict[str, nn.Module] = {
            "text_encoder": CLIPTextModelWithProjection(
                CLIPTextConfig(**text | ends | {"vocab_size": max(text["vocab_size"], len(tokenizer))})
            ),
            "image_encoder": CLIPVisionModelWithProjection(CLIPVisionConfig(**vision)),
            "vae": AutoencoderKL(**preset.image.autoencoder, scaling_factor=preset.image.scaling_factor),
        }
    modules |= {f"{output}_unet": random_peer(preset, output) for output in ("image", "text")}
    parts: dict[str, Any] = {name: module.to(_STORED).eval() for name, module in modules.items()}
    parts["scheduler"] = official_scheduler()
    return VersatileDiffusionPipeline(  # its annotations name other classes than those that it takes
        tokenizer=tokenizer,
        image_feature_extractor=CLIPImageProcessor(size={"shortest_edge": size}, crop_size=size),
        **parts,
    )


def done(job: ImageJob, on_step: Callable[[int], None] = lambda step: None) -> dict[str, float]:
    """Runs a job in a process of its own, and returns what it took: see `image_job.main`.

    Raises:
        RuntimeError: If the process fails.
    """
    command = [sys.executable, "-m", image_job.__name__, json.dumps(asdict(job))]
    found: dict[str, float] = {}
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            found = json.loads(line)
            if "step" in found:
                on_step(int(found["step"]))
        if process.wait() != 0:
            errors.seek(0)
            raise RuntimeError(f"{' '.join(command)} failed: {errors.read()[-2000:]}")
    return found
