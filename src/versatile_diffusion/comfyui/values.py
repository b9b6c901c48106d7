"""What nodes of ours pass to each other: a model with LoRAs, and latents that were made. Contexts are tuples."""

from __future__ import annotations

from collections.abc import Generator as Iterated
from collections.abc import Iterable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import Generator, Tensor

from versatile_diffusion.context import Context

if TYPE_CHECKING:
    from versatile_diffusion.applications.versatile import VersatileDiffusionPipeline
    from versatile_diffusion.pipeline.request import Request

Contexts = tuple[Context, ...]


@dataclass(frozen=True)
class LoadedModel:
    """A pipeline, and the LoRAs that it is to have when it is used.

    Nodes may share the pipeline, so no node changes it for others: LoRAs are switched on for the time of a call.
    """

    pipe: VersatileDiffusionPipeline
    loras: tuple[tuple[Path, float], ...] = ()

    def with_lora(self, path: Path, scale: float) -> LoadedModel:
        """Returns the same model with another LoRA."""
        return replace(self, loras=(*self.loras, (path, scale)))

    @contextmanager
    def ready(self) -> Iterated[VersatileDiffusionPipeline]:
        """The pipeline with these LoRAs and no others."""
        from versatile_diffusion.checkpoints.lora_files import few_steps_of

        pipe = self.pipe
        before, scales = pipe.few_step_lora, dict[str, float]()
        try:
            for path, scale in self.loras:
                if few_steps_of(path) is not None:
                    pipe.load_lora(path, scale=scale)
                    continue
                name = _name_of(path)
                if name not in pipe.adapters:
                    pipe.load_lora(path, name, scale)
                scales[name] = scale
            if scales or pipe.adapters:
                pipe.set_adapters(scales)
            yield pipe
        finally:
            pipe.few_step_lora = before


@dataclass(frozen=True)
class Latents:
    """Latents of a modality, that were made or encoded.

    Attributes:
        model: that made them, and decodes them.
        modality: their name.
        values: (b *latent), in the diffuser's scale.
        request: what they were made for, with its options of decoding; None of those that were encoded.
        states: of the generators that they were drawn with, one for each, from which decoding goes on.
    """

    model: LoadedModel
    modality: str
    values: Tensor
    request: Request | None = None
    states: tuple[Tensor, ...] = ()

    def generators(self) -> list[Generator] | None:
        """Generators that go on where sampling ended, new ones at each call, so that decoding is repeatable."""
        made = [Generator().set_state(state) for state in self.states]
        return made or None


def items_in(contexts: Iterable[Context], start: Latents | None) -> int:
    """Returns how many items a batch of contexts, and of what it starts from, has."""
    held = [context.data if context.embedding is None else context.embedding for context in contexts]
    sizes = [len(cast("list[object] | Tensor", each)) for each in held]
    return max([*sizes, 1 if start is None else len(start.values)])


def seeded(seed: int, count: int) -> list[Generator]:
    """Returns generators with this seed and those after it."""
    return [torch.Generator().manual_seed((seed + number) % 2**64) for number in range(count)]


def _name_of(path: Path) -> str:
    """A name for a LoRA, which is another where its file has changed."""
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    told = [(str(file.resolve()), file.stat().st_mtime_ns) for file in files if file.exists()]
    return f"comfyui_{sha256(repr(told).encode()).hexdigest()[:16]}"
