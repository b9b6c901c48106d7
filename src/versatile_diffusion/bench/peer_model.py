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
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from versatile_diffusion.bench import painter
from versatile_diffusion.bench.diffuser import random_peer
from versatile_diffusion.bench.painter import Job
from versatile_diffusion.bench.sizes import empty, kept_folder, require_room, stored_bytes
from versatile_diffusion.bundled import DEFAULT_MODEL
from versatile_diffusion.checkpoints.components import official_scheduler
from versatile_diffusion.checkpoints.diffusers_folder import recognises
from versatile_diffusion.checkpoints.folder import replacing
from versatile_diffusion.modalities.vocabulary import word_tokenizers
from versatile_diffusion.model_presets import Preset
from versatile_diffusion.worlds.registry import get_world

_STORED = torch.float16  # diffusers maps what it need not cast, so that its figures depend on this
_WORDS = 50


def peer_folder(cache: Path | None, preset: Preset) -> AbstractContextManager[Path]:
    """The saved model: one that is kept in the cache, or else one that is removed at the end."""

    def make(folder: Path) -> None:
        require_room(folder.parent, stored_bytes(empty(preset), _STORED))
        with replacing(folder) as target:
            random_pipeline(preset).save_pretrained(target)

    return kept_folder(cache, "random-model-of-diffusers", recognises, make)


def random_pipeline(preset: Preset) -> Any:
    """diffusers' pipeline of all flows that it has, with a tokenizer of some words."""
    vision, text = preset.image.context_encoder, preset.text.context_encoder
    assert vision is not None
    tokenizer: Any = word_tokenizers(sample.text for sample in get_world(DEFAULT_MODEL).samples(0, _WORDS)).clip
    tokenizer.model_max_length = text["max_position_embeddings"]
    ends = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    size = vision["image_size"]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        modules = {
            "text_encoder": CLIPTextModelWithProjection(
                CLIPTextConfig(**text | ends | {"vocab_size": max(text["vocab_size"], len(tokenizer))})
            ),
            "image_encoder": CLIPVisionModelWithProjection(CLIPVisionConfig(**vision)),
            "vae": AutoencoderKL(**preset.image.autoencoder, scaling_factor=preset.image.scaling_factor),
        }
    modules |= {f"{output}_unet": random_peer(preset, output) for output in ("image", "text")}
    scheduler: Any = official_scheduler()
    return VersatileDiffusionPipeline(
        tokenizer=tokenizer,
        image_feature_extractor=CLIPImageProcessor(size={"shortest_edge": size}, crop_size=size),
        scheduler=scheduler,
        **{name: module.to(_STORED).eval() for name, module in modules.items()},
    )


def done(job: Job, on_step: Callable[[int], None] = lambda step: None) -> dict[str, float]:
    """Runs a job in a process of its own and gives back what it took.

    Raises:
        RuntimeError: if the process fails.
    """
    command = [sys.executable, "-m", painter.__name__, json.dumps(asdict(job))]
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
