"""Latents and context tokens of postcards, computed once before the diffuser is trained, and anew if need be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from rich.progress import track
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Generator, Tensor

from versatile_diffusion.flows import Flow
from versatile_diffusion.processes import processes
from versatile_diffusion.worlds.postcards.material import VIEWS

Encode = Callable[[int, int], Tensor]
"""Rows of the postcards from one index to before another; for texts (n views …)."""


class PostcardLatents:
    """Latents and tokens of pictures and their texts, each computed when it is first asked for, and kept on disk.

    What is kept is used as long as its origin is the same.

    To-text flows from pictures learn texts that leave out nothing, as the paper trains them on cleaned captions;
    text variations learn from one text to another that says the same.

    Args:
        count: how many postcards there are.
        encoders: "image/latents", "image/tokens", "text/latents" and "text/tokens".
        origin: what a part of these names comes from, in words.
        nothing: the unconditional tokens of a flow.
        folder: where results are kept.
        batch_size: postcards encoded at once.
    """

    def __init__(
        self,
        count: int,
        encoders: Mapping[str, Encode],
        origin: Callable[[str], str],
        nothing: Callable[[Flow], Float[Tensor, "1 n d"]],
        folder: Path,
        batch_size: int = 250,
    ) -> None:
        self.count, self.encoders, self.origin, self.nothing = count, encoders, origin, cache(nothing)
        self.folder, self.batch_size = folder, batch_size
        self._parts: dict[str, Tensor] = {}

    def __len__(self) -> int:
        return self.count

    def pairs(
        self, flow: Flow, index: Int64[Tensor, "b"], generator: Generator
    ) -> tuple[Float[Tensor, "b *latent"], Float[Tensor, "b n d"]]:
        """See `LatentData.pairs`."""
        view = torch.randint(VIEWS, (len(index),), generator=generator)
        if flow == Flow("image", "text"):
            view = view // 2 + VIEWS // 2
        seen = view ^ 1 if flow == Flow("text", "text") else view  # the other text that says the same
        return self._rows(flow.output, "latents", index, view), self._rows(flow.context, "tokens", index, seen)

    def unconditional(self, flow: Flow) -> Float[Tensor, "1 n d"]:
        """See `LatentData.unconditional`."""
        return self.nothing(flow)

    def part(self, name: str) -> Tensor:
        """All rows of "image/latents" and the like."""
        if name not in self._parts:
            path = self.folder / f"{name.replace('/', '-')}.safetensors"
            with processes().main_process_first():
                if not path.exists() or _origin(path) != self.origin(name):
                    self._encode(name, path)
            self._parts[name] = load_file(path)[name]
        return self._parts[name]

    def _encode(self, name: str, path: Path) -> None:
        starts = range(0, self.count, self.batch_size)
        rows = [
            self.encoders[name](start, min(start + self.batch_size, self.count)).half()
            for start in track(starts, f"encoding {name} of {self.count} postcards")
        ]
        unfinished = path.with_suffix(".tmp")
        save_file({name: torch.cat(rows).contiguous()}, unfinished, metadata={"origin": self.origin(name)})
        unfinished.replace(path)

    def _rows(self, modality: str, part: str, index: Tensor, view: Tensor) -> Tensor:
        rows = self.part(f"{modality}/{part}")
        return (rows[index, view] if modality == "text" else rows[index]).float()


def _origin(path: Path) -> str | None:
    with safe_open(path, "pt") as file:
        return (file.metadata() or {}).get("origin")
