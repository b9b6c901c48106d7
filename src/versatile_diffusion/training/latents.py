"""Latents and context tokens of postcards, computed once before the diffuser is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from rich.progress import track
from safetensors.torch import load_file, save_file
from torch import Generator, Tensor

from versatile_diffusion.flows import Flow
from versatile_diffusion.modalities.base import Modality

VIEWS = 4
"""Texts of each picture: two that leave out the same things, and two that leave out nothing."""

_LATENTS, _TOKENS, _NOTHING = "latents", "tokens", "nothing"


class PostcardLatents:
    """Latents and tokens of pictures and their texts.

    To-text flows from pictures learn texts that leave out nothing, as the paper trains them on cleaned captions;
    text variations learn from one text to another that says the same.

    Args:
        tensors: "image/latents" (n c h w), "image/tokens" (n k d), "text/latents" (n views l), "text/tokens"
            (n views m d), and "CONTEXT/nothing/OUTPUT" (1 k d) for each flow.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = tensors

    def __len__(self) -> int:
        return len(self.tensors[f"image/{_LATENTS}"])

    def pairs(
        self, flow: Flow, index: Int64[Tensor, "b"], generator: Generator
    ) -> tuple[Float[Tensor, "b *latent"], Float[Tensor, "b n d"]]:
        """See `LatentData.pairs`."""
        view = torch.randint(VIEWS, (len(index),), generator=generator)
        if flow == Flow("image", "text"):
            view = view // 2 + VIEWS // 2
        seen = view ^ 1 if flow == Flow("text", "text") else view  # the other text that says the same
        latents = self._rows(flow.output, _LATENTS, index, view)
        return latents, self._rows(flow.context, _TOKENS, index, seen)

    def unconditional(self, flow: Flow) -> Float[Tensor, "1 n d"]:
        """See `LatentData.unconditional`."""
        return self.tensors[f"{flow.context}/{_NOTHING}/{flow.output}"].float()

    def _rows(self, modality: str, part: str, index: Tensor, view: Tensor) -> Tensor:
        rows = self.tensors[f"{modality}/{part}"]
        return (rows[index, view] if modality == "text" else rows[index]).float()


def encode_postcards(
    modalities: Mapping[str, Modality],
    pictures: Callable[[int, int], Sequence[Any]],
    texts: Sequence[str],
    path: Path,
    batch_size: int = 250,
) -> PostcardLatents:
    """Encodes all pictures and texts, or reads what an earlier run encoded.

    Args:
        modalities: trained.
        pictures: the items of pictures from one index to before another.
        texts: `VIEWS` for each picture.
        path: safetensors file to keep the result in.
        batch_size: pictures encoded at once.
    """
    if path.exists():
        return PostcardLatents(load_file(path))
    image, text = modalities["image"], modalities["text"]
    parts: dict[str, list[Tensor]] = {}
    count = len(texts) // VIEWS
    for start in track(range(0, count, batch_size), f"encoding {count} postcards"):
        stop = min(start + batch_size, count)
        items, views = pictures(start, stop), texts[start * VIEWS : stop * VIEWS]
        for name, rows in (
            (f"image/{_LATENTS}", image.encode(items)),
            (f"image/{_TOKENS}", image.embed(items)),
            (f"text/{_LATENTS}", text.encode(views).unflatten(0, (-1, VIEWS))),
            (f"text/{_TOKENS}", text.embed(views).unflatten(0, (-1, VIEWS))),
        ):
            parts.setdefault(name, []).append(rows.half())
    tensors = {name: torch.cat(rows) for name, rows in parts.items()}
    for context in modalities.values():
        for output in modalities:
            tensors[f"{context.name}/{_NOTHING}/{output}"] = context.unconditional(output)
    unfinished = path.with_suffix(".tmp")
    save_file(tensors, unfinished)
    unfinished.replace(path)
    return PostcardLatents(tensors)
