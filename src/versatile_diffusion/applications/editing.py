# pyright: strict
"""Editing: a picture changed by words.

Two ways, both by a text in between. `rewrite` writes down what the picture shows, changes the words, and paints from
the new text and the old picture. `latent` is the way of the first official release (I2T2I, which its second release
took offline): it changes the latent of the text instead of its words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn.functional import normalize

from versatile_diffusion.applications.rewriting import Change, Reader
from versatile_diffusion.context import Context
from versatile_diffusion.modalities.focus import reduce_rank
from versatile_diffusion.pipeline.conditioning import read_items
from versatile_diffusion.pipeline.outputs import Outputs
from versatile_diffusion.pipeline.pipeline import FlowPipeline
from versatile_diffusion.sampling.options import Sampling
from versatile_diffusion.validation import checked

OFFICIAL_RANK = 10


class Method(StrEnum):
    """How the text in between is changed: its words, or its latent."""

    REWRITE = "rewrite"
    LATENT = "latent"

    @property
    def text_share(self) -> float:
        """Weight of the new text beside the old picture; that of `LATENT` is the official one."""
        return 0.8 if self is Method.REWRITE else 0.67


Words = str | Sequence[str] | None
"""For all pictures, or for each."""


def edit(
    pipe: FlowPipeline,
    image: object,
    prompt: Words,
    remove: Words,
    add: Words,
    method: str,
    text_share: float | None,
    strength: float,
    **options: Any,
) -> Outputs:
    """Edits pictures. See `VersatileDiffusionPipeline.edit`."""
    _check(strength, options)  # before anything is computed
    images = read_items(pipe.modality("image"), image)
    contexts = edited(pipe, images, prompt, remove, add, method, text_share)
    begin = {} if strength == 1 else {"start": images, "strength": strength}
    return pipe.generate("image", contexts, **begin, **options)


def _check(strength: float, options: Mapping[str, Any]) -> None:
    """Raises ValueError if an option of sampling is not usable."""
    named = {name: value for name, value in options.items() if name in Sampling.model_fields and name != "scheduler"}
    checked(Sampling, {"strength": strength, **named})


def edited(
    pipe: FlowPipeline,
    images: Sequence[object],
    prompt: Words,
    remove: Words,
    add: Words,
    method: str,
    text_share: float | None,
) -> list[Context]:
    """Returns what the edited pictures are painted from: new texts beside the old ones."""
    if method not in set(Method):
        raise ValueError(f"method must be {' or '.join(Method)}, got {method!r:.80}.")
    way = Method(method)
    share = way.text_share if text_share is None else text_share
    if not 0 < share <= 1:
        raise ValueError(f"text_share must lie above 0, and at most at 1, got {share!r:.80}.")
    contexts = (_rewritten if way is Method.REWRITE else _moved)(
        pipe, images, _changes(len(images), prompt, remove, add)
    )
    return [Context(weight=weight, **given) for given, weight in zip(contexts, (share, 1 - share), strict=True)]


def _changes(count: int, prompt: Words, remove: Words, add: Words) -> list[Change]:
    """A change for each picture."""
    columns: list[list[str]] = []
    for name, words in (("prompt", prompt), ("remove", remove), ("add", add)):
        column = [words or ""] * count if words is None or isinstance(words, str) else list(words)
        if len(column) != count:
            raise ValueError(f"{count} pictures need one {name}, or {count}, got {len(column)}.")
        columns.append([word.strip() for word in column])
    made = [Change(*row) for row in zip(*columns, strict=True)]
    if Change() in made:
        raise ValueError("Nothing to change: say what with prompt, remove or add.")
    return made


def _rewritten(pipe: FlowPipeline, images: Sequence[object], changes: Sequence[Change]) -> list[dict[str, Any]]:
    """Contexts: the rewritten descriptions, and the pictures."""
    reader = pipe.modality("text")
    if not isinstance(reader, Reader):
        raise ValueError("The texts of this model cannot be rewritten: edit with the method latent.")
    texts = [change.rewrite(text, reader) for change, text in zip(changes, _describe(pipe, images).texts, strict=True)]
    return [{"modality": "text", "data": texts}, {"modality": "image", "data": images}]


def _moved(pipe: FlowPipeline, images: Sequence[object], changes: Sequence[Change]) -> list[dict[str, Any]]:
    """Contexts of the official I2T2I: texts of moved latents beside the new words, and what is coarse in the pictures.

    The latents of descriptions lose their part in the direction of some words, and gain others.
    """
    latents = _describe(pipe, images, output_type="latent").latents
    latents = without(latents, _latents_of(pipe, [change.remove for change in changes]).to(latents))
    come = [change.add or change.prompt for change in changes]
    texts = pipe.decode("text", latents + _latents_of(pipe, come).to(latents), temperature=0)
    tokens = torch.cat([pipe.encode_context("text", part) for part in (texts, come)], dim=1)
    nothing = pipe.encode_context("text", [""]).repeat(1, 2, 1)
    coarse = reduce_rank(pipe.encode_context("image", images)[:, 1:], OFFICIAL_RANK)
    return [
        {"modality": "text", "embedding": tokens, "unconditional": nothing},
        {"modality": "image", "embedding": coarse, "unconditional": "zeros"},
    ]


def without(latents: Float[Tensor, "b d"], words: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
    """Returns latents without their part in the direction of the words' latents; zeros take nothing away."""
    direction = normalize(words, dim=1)
    return latents - (latents * direction).sum(1, keepdim=True) * direction


def _latents_of(pipe: FlowPipeline, words: list[str]) -> Float[Tensor, "b d"]:
    """Latents of words; zeros where there are none."""
    latents = pipe.encode("text", words)
    return latents * torch.tensor([[float(bool(word))] for word in words]).to(latents)


def _describe(pipe: FlowPipeline, images: Sequence[object], **options: Any) -> Outputs:
    """What pictures show: the same words for the same picture, whatever is drawn later."""
    generators = [Generator().manual_seed(0) for _ in images]
    return pipe.generate("text", Context("image", images), generator=generators, **options)
