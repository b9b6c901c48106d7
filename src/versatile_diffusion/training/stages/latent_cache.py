"""Latents and context tokens, computed once before the diffuser is trained, and anew where their origin changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.lib.format import open_memmap
from rich.progress import track
from torch import Generator, Tensor

from versatile_diffusion._moved import former_names
from versatile_diffusion.files import write_whole
from versatile_diffusion.flows import Flow
from versatile_diffusion.processes import processes
from versatile_diffusion.training.loop.batch_share import WHOLE, BatchShare
from versatile_diffusion.training.tasks.data import CaptionRoles

__getattr__ = former_names(
    __name__,
    {
        "PostcardLatents": "versatile_diffusion.training.stages.latent_cache:LatentCache",
    },
)

Encode = Callable[[int, int], Tensor]
"""What encodes the samples from one index to before another; (n variants …) where a sample has several variants."""


class LatentCache:
    """Latents and context tokens of samples, each computed when it is first asked for, and kept on disk.

    They are kept in half precision. What is kept is memory-mapped, and used as long as its origin is the same.

    Args:
        count: how many samples there are.
        encoders: what computes a part, by "MODALITY/latents" and "MODALITY/tokens".
        origin: what a part comes from, in words, by the same names.
        unconditional: the tokens of a flow that stand for no context.
        folder: where results are kept.
        variants: the modalities of which a sample has several variants, as an image has several texts, with the roles
            of these. All have equally many.
        batch_size: samples encoded at once.
    """

    def __init__(
        self,
        count: int,
        encoders: Mapping[str, Encode],
        origin: Callable[[str], str],
        unconditional: Callable[[Flow], Float[Tensor, "1 n d"]],
        folder: Path,
        variants: Mapping[str, CaptionRoles] | None = None,
        batch_size: int = 250,
    ) -> None:
        self.count, self.encoders, self.origin, self.folder = count, encoders, origin, folder
        self.variants, self.batch_size = variants or {}, batch_size
        self._unconditional = cache(unconditional)
        self._parts: dict[str, Tensor] = {}

    def __len__(self) -> int:
        """Returns how many samples there are."""
        return self.count

    def draw(
        self, flow: Flow, count: int, generator: Generator, share: BatchShare = WHOLE
    ) -> tuple[Float[Tensor, "own *latent"], Float[Tensor, "own n d"]]:
        """See `LatentData.draw`."""
        return self.pairs(flow, torch.randint(self.count, (count,), generator=generator), generator, share)

    def first(self, flow: Flow, count: int) -> tuple[Float[Tensor, "b *latent"], Float[Tensor, "b n d"]]:
        """See `LatentData.first`."""
        return self.pairs(flow, torch.arange(min(count, self.count)), Generator().manual_seed(0))

    def pairs(
        self, flow: Flow, index: Int64[Tensor, "b"], generator: Generator, share: BatchShare = WHOLE
    ) -> tuple[Float[Tensor, "own *latent"], Float[Tensor, "own n d"]]:
        """Returns latents of the flow's output with tokens of its context, each of a variant that is drawn."""
        count = max((roles.count for roles in self.variants.values()), default=1)
        drawn = share.of(torch.randint(count, (len(index),), generator=generator))
        index = share.of(index)
        shown = seen = drawn
        if (roles := self.variants.get(flow.output)) is not None:
            if flow.output == flow.context:
                seen = torch.tensor(roles.paraphrase)[drawn]
            else:
                shown = torch.tensor(roles.complete)[drawn]
        return self._rows(flow.output, "latents", index, shown), self._rows(flow.context, "tokens", index, seen)

    def unconditional(self, flow: Flow) -> Float[Tensor, "1 n d"]:
        """See `LatentData.unconditional`."""
        return self._unconditional(flow)

    def teaches(self, flow: Flow) -> bool:
        """See `LatentData.teaches`: every sample has everything."""
        return len(self) > 0

    def part(self, name: str) -> Tensor:
        """Returns all rows of a part, such as "image/latents", in half precision."""
        if name not in self._parts:
            path = self.folder / f"{name.replace('/', '-')}.npy"
            with processes().main_process_first():
                if not path.exists() or _origin_of(path) != self.origin(name):
                    self._encode(name, path)
            self._parts[name] = torch.as_tensor(np.load(path, mmap_mode="c"))
        return self._parts[name]

    def _encode(self, name: str, path: Path) -> None:
        """Writes a part as it is computed, so that it is never held whole, and its origin once it is whole."""
        unfinished, kept = path.with_suffix(".unfinished"), None
        for start in track(range(0, self.count, self.batch_size), f"encoding {name} of {self.count} samples"):
            rows = self.encoders[name](start, min(start + self.batch_size, self.count)).half().cpu().numpy()
            if kept is None:
                shape = (self.count, *rows.shape[1:])
                kept = open_memmap(unfinished, mode="w+", dtype=rows.dtype, shape=shape)
            kept[start : start + len(rows)] = rows
        if kept is None:
            raise ValueError(f"There are no samples to encode {name} of.")
        kept.flush()
        _origin_file(path).unlink(missing_ok=True)
        unfinished.replace(path)
        write_whole(_origin_file(path), json.dumps({"origin": self.origin(name)}).encode())
        path.with_suffix(".safetensors").unlink(missing_ok=True)  # as earlier versions kept it

    def _rows(
        self, modality: str, part: str, index: Int64[Tensor, "b"], variant: Int64[Tensor, "b"]
    ) -> Float[Tensor, "b ..."]:
        rows = self.part(f"{modality}/{part}")
        return (rows[index, variant] if modality in self.variants else rows[index]).float()


def _origin_file(path: Path) -> Path:
    return path.with_suffix(".json")


def _origin_of(path: Path) -> str | None:
    file = _origin_file(path)
    return json.loads(file.read_text())["origin"] if file.exists() else None
