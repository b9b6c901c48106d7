"""Samples as the diffuser learns from them: latents and context tokens, in memory or in a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import save  # pyright: ignore[reportUnknownVariableType] - safetensors leaves a parameter untyped
from torch import Tensor

from versatile_diffusion.files import write_whole
from versatile_diffusion.flows import Flow
from versatile_diffusion.training.samples.sample_encoder import LATENTS, ROWS, TOKENS, FittedSample, SampleEncoder

BATCH = 16
"""Samples that are encoded at once."""


class EncodedSamples:
    """Samples of one bucket, encoded.

    Args:
        keys: what the samples are called.
        load: returns their tensors, named as `SampleEncoder.encode` names them; called once, when they are needed.
    """

    def __init__(self, keys: Sequence[str], load: Callable[[], Mapping[str, Tensor]]) -> None:
        self.keys, self._load = tuple(keys), load

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def tensors(self) -> Mapping[str, Tensor]:
        """All that is known of them."""
        return self._load()

    def teaches(self, flow: Flow) -> bool:
        """Tells whether a flow can be learnt from them."""
        return f"{flow.output}/{LATENTS}" in self.tensors and f"{flow.context}/{TOKENS}" in self.tensors

    def items(self, name: str, part: str, row: int, choice: float) -> tuple[Tensor, int, int]:
        """Returns one item of a sample, with its place and their number.

        Args:
            name: of the modality.
            part: "latents" or "tokens".
            row: of the sample.
            choice: of its items, from 0 to 1.
        """
        bounds = self._bounds.get(f"{name}/{part}", self._bounds.get(name))
        assert bounds is not None  # of a modality that samples have; see `teaches`
        start, stop = (int(bounds[row + end]) for end in (0, 1))
        place = min(int(choice * (stop - start)), stop - start - 1)
        return self.tensors[f"{name}/{part}"][start + place], place, stop - start

    @cached_property
    def _bounds(self) -> dict[str, Tensor]:
        """Where the items of each sample begin: by modality, and by its part where that has rows of its own."""
        rows = {name.removesuffix(f"/{ROWS}"): of for name, of in self.tensors.items() if name.endswith(f"/{ROWS}")}
        numbers = torch.arange(len(self) + 1, dtype=torch.int32)
        return {name: torch.searchsorted(of, numbers) for name, of in rows.items()}


def encoded(encoder: SampleEncoder, samples: Sequence[FittedSample]) -> EncodedSamples:
    """Returns samples of one bucket, encoded when they are needed."""
    return EncodedSamples([sample.key for sample in samples], partial(_encode, encoder, samples))


def pairs(
    flow: Flow, samples: Sequence[tuple[EncodedSamples, int]], choices: Float[Tensor, "b 2"]
) -> tuple[Float[Tensor, "b *latent"], Float[Tensor, "b n d"]]:
    """Returns latents and tokens of samples. A variation is learnt from another item of a sample that has several.

    Args:
        flow: that is learnt.
        samples: each by those that it is among, and its row there.
        choices: of their items, from 0 to 1: of the output, and of the context.
    """
    latents, tokens = list[Tensor](), list[Tensor]()
    for (among, row), choice in zip(samples, choices, strict=True):
        shown, seen = map(float, choice)
        latent, place, count = among.items(flow.output, LATENTS, row, shown)
        if flow.output == flow.context and count > 1:
            chosen = min(int(seen * (count - 1)), count - 2)
            rest = 0.01 + 0.98 * min(seen * (count - 1) - chosen, 1.0)  # of the ways in which that item is written
            seen = ((place + 1 + chosen) % count + rest) / count
        latents.append(latent)
        tokens.append(among.items(flow.context, TOKENS, row, seen)[0])
    return torch.stack(latents).float(), torch.stack(tokens).float()


def open_shard(path: Path) -> EncodedSamples:
    """Opens a file of samples; tensors are read, memory-mapped, when they are needed."""
    with _opened(path) as file:
        return EncodedSamples(json.loads(file.metadata()["keys"]), partial(_read, path))


def write_shard(path: Path, samples: EncodedSamples, most: int | None = None) -> int:
    """Writes a file of samples, whole or not at all, and returns how many bytes it takes.

    Args:
        path: of the file.
        samples: of one bucket.
        most: bytes that it may take; a larger one is not written.
    """
    content = save(dict(samples.tensors), {"keys": json.dumps(samples.keys)})
    if most is None or len(content) <= most:
        write_whole(path, content)
    return len(content)


def _encode(encoder: SampleEncoder, samples: Sequence[FittedSample]) -> dict[str, Tensor]:
    parts: dict[str, list[Tensor]] = {}
    for start in range(0, len(samples), BATCH):
        for name, rows in encoder.encode(samples[start : start + BATCH]).items():
            parts.setdefault(name, []).append(rows + start if name.endswith(ROWS) else rows)
    return {name: torch.cat(rows) for name, rows in parts.items()}


def _read(path: Path) -> dict[str, Tensor]:
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping


def _opened(path: Path) -> Any:
    return safe_open(path, framework="pt")  # pyright: ignore[reportUnknownVariableType] - safetensors has no types
