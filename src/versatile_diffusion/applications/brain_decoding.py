# pyright: strict
"""Brain decoding: pictures from CLIP embeddings that were predicted from scans."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral
from typing import Any, TypeGuard

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn.functional import cosine_similarity

from versatile_diffusion.arrays import as_tensor
from versatile_diffusion.context import Context
from versatile_diffusion.pipeline.initial_latents import is_latent, one_each
from versatile_diffusion.pipeline.outputs import Origin, check_output_type
from versatile_diffusion.pipeline.pipeline import FlowPipeline

Start = Tensor | list[Tensor] | None
"""Latents (b c y x), or images (3 h w)."""

RANKINGS = ("image", "tokens")
_PER_OUTPUT = ("negative", "colors_of", "num_outputs")


@dataclass
class Reconstructions:
    """Pictures of scans.

    Attributes:
        images: for each scan its pictures, the best first if they are ranked.
        scores: for each picture its cosine similarity to the predicted embedding, or None if they are not ranked.
        order: for each picture which of the scan's outputs it is: 0 drew from the first seed, 1 from the next.
        origins: of each picture, without the inputs of its request: they would take more room than the results.
    """

    images: list[list[Any]]
    scores: list[list[float]] | None
    order: list[list[int]]
    origins: list[list[Origin]] = field(default_factory=list[list[Origin]])

    @property
    def best(self) -> list[Any]:
        """The first picture of each scan."""
        return [pictures[0] for pictures in self.images]


@dataclass(frozen=True)
class Scans:
    """What is known of scans. All of it has one row for each scan, or one for all.

    Attributes:
        count: how many scans there are.
        contexts: of pictures made from them.
        target: the predicted embedding of the picture, to rank by.
        start: pictures, latents (b c y x), or None.
    """

    count: int
    contexts: list[Context]
    target: Float[Tensor, "_ n d"] | None = None
    start: Start = None

    @classmethod
    def of(
        cls,
        pipe: FlowPipeline,
        embeddings: Mapping[str, object],
        weights: Mapping[str, float],
        unconditional: Mapping[str, object],
        start: object = None,
    ) -> Scans:
        """Checks embeddings of modalities, of which some may be None, and a start.

        Raises:
            ValueError: if there are none, or one does not fit the model or the others.
        """
        given = {name: read_embedding(pipe, name, each) for name, each in embeddings.items() if each is not None}
        if not given:
            raise ValueError("Nothing to reconstruct from: give an image_embedding, a text_embedding or both.")
        contexts = [
            Context(name, embedding=each, weight=weights[name], unconditional=nothing)
            for name, each in given.items()
            for nothing in [_unconditional(pipe, name, unconditional[name])]
        ]
        starts = None if start is None else _read_start(pipe, start)
        sizes = {f"{name}_embedding": len(each) for name, each in given.items()}
        sizes |= {
            f"{c.modality}_unconditional": len(c.unconditional)
            for c in contexts
            if isinstance(c.unconditional, Tensor) and c.unconditional.ndim == 3
        }
        sizes |= {} if starts is None else {"start": len(starts)}
        if len(several := {size for size in sizes.values() if size != 1}) > 1:
            listed = ", ".join(f"{name}: {size}" for name, size in sizes.items())
            raise ValueError(f"All must hold one row for each scan, or one for all, got {listed}.")
        return cls(several.pop() if several else 1, contexts, given.get("image"), starts)

    def rows(self, scans: Sequence[int]) -> tuple[list[Context], dict[str, Any]]:
        """Contexts, and options of `generate`, with one row for each of these scans."""
        contexts = [
            c.changed(embedding=_rows(c.embedding, scans), unconditional=_rows(c.unconditional, scans))
            for c in self.contexts
        ]
        return contexts, {} if self.start is None else {"start": _rows(self.start, scans)}


def reconstruct(
    pipe: FlowPipeline,
    scans: Scans,
    *,
    num_outputs: int,
    rank_by: str | None,
    batch_size: int,
    draw: Callable[[int], Generator],
    output_type: str = "pil",
    latents: object = None,
    on_batch: Callable[[Sequence[Origin]], None] | None = None,
    **options: Any,
) -> Reconstructions:
    """See `VersatileDiffusionPipeline.reconstruct`.

    Args:
        pipe: the model.
        scans: what is known of them.
        num_outputs, rank_by, batch_size, output_type, options: see there.
        draw: gives the generator of an output, counted over all scans.
        latents: noise to start from (b *latent), one row for each output; a tensor or an array.
        on_batch: called with the origins of each batch while its inputs are at hand, such as records are made of.
    """
    check_output_type(output_type)
    _check_request(scans, rank_by, options)
    total = scans.count * num_outputs
    given = None if latents is None else as_tensor(latents, "latents")
    if given is not None and given.shape[:1] != (total,):
        raise ValueError(f"latents must hold one row for each of the {total} outputs, got {tuple(given.shape)}.")
    pictures: list[Any] = []
    scores: list[float] = []
    origins: list[Origin] = []
    for outputs in _batches(total, batch_size):
        of = [output // num_outputs for output in outputs]
        contexts, start = scans.rows(of)
        noise = {} if given is None else {"latents": given[outputs]}
        made = pipe.generate(
            "image",
            contexts,
            generator=[draw(output) for output in outputs],
            output_type="latent" if output_type == "latent" and rank_by is None else "pt",
            **start,
            **noise,
            **options,
        )
        if rank_by is not None and scans.target is not None:
            seen = pipe.encode_context("image", made.items)
            scores += similarity(seen, scans.target[_indices(len(scans.target), of)].to(seen.device), rank_by)
        if on_batch is not None:
            on_batch(made.origins)
        origins += _without_inputs(made.origins)
        items = made.latents if output_type == "latent" else made.items
        pictures += items.cpu() if output_type == "latent" else _present(pipe, items, output_type)
    return _grouped(pictures, scores, origins, num_outputs)


def similarity(seen: Float[Tensor, "b n d"], predicted: Float[Tensor, "b n d"], rank_by: str) -> list[float]:
    """Returns cosine similarities of context tokens: "image" is of the class tokens, "tokens" the mean of all."""
    if rank_by == "image":
        seen, predicted = seen[:, :1], predicted[:, :1]
    return [float(each) for each in cosine_similarity(seen.float(), predicted.float(), dim=-1).mean(dim=1)]


def seeds(
    seed: int | None, generator: Generator | Sequence[Generator] | None, scans: int, num_outputs: int
) -> Callable[[int], Generator]:
    """Returns what gives the generator of each output, counted over all scans.

    Raises:
        ValueError: if there are both a seed and generators, too few or too many of these, or the seed is no whole
            number or too large.
        TypeError: if a generator is none.
    """
    if seed is not None and generator is not None:
        raise ValueError("Give a seed or generators, not both.")
    if seed is not None and not (_is_whole(seed) and 0 <= seed <= 2**64 - num_outputs):
        raise ValueError(f"seed must be a whole number from 0 to {2**64 - num_outputs}, got {seed!r:.80}.")
    if generator is not None and not isinstance(generator, Generator):
        each = one_each(generator, scans * num_outputs)
        return (each or []).__getitem__
    device = None if generator is None else generator.device
    first = int(torch.randint(2**31, (), generator=generator, device=device)) if seed is None else seed
    return lambda output: Generator().manual_seed(first + output % num_outputs)


def read_embedding(pipe: FlowPipeline, modality: str, embedding: object) -> Float[Tensor, "b n d"]:
    """Returns an embedding as a batch.

    Args:
        pipe: whose contexts it must be like.
        modality: "image" or "text".
        embedding: a tensor or array (n d) or (b n d).

    Raises:
        ValueError: if it has another shape than the model's contexts, or is not finite.
    """
    return _tokens(pipe, modality, embedding, f"{modality}_embedding")


def context_shape(pipe: FlowPipeline, modality: str) -> tuple[int, int]:
    """Returns how many tokens a context of a picture or a text has, and their width.

    Raises:
        ValueError: if the model takes no such contexts.
    """
    if modality not in pipe.diffuser.config["context_dims"]:
        raise ValueError(
            f"This model takes no {modality} contexts. If they were left out in loading, load it with the flow "
            f"'{modality}-to-image', or with all flows."
        )
    return pipe.modalities[modality].context_shape


# ---- details ----


def check_counts(**counts: object) -> None:
    """Finds numbers that are not whole, or not 1 or more.

    Raises:
        ValueError: if there is one; the message names it.
    """
    for name, number in counts.items():
        if not _is_whole(number) or number < 1:
            raise ValueError(f"{name} must be 1 or more, and a whole number, got {number!r:.80}.")


def _is_whole(number: object) -> TypeGuard[int]:
    return not isinstance(number, bool) and isinstance(number, Integral)


def _check_request(scans: Scans, rank_by: str | None, options: Mapping[str, object]) -> None:
    if rank_by is not None and rank_by not in RANKINGS:
        raise ValueError(f"rank_by must be None, {' or '.join(map(repr, RANKINGS))}, got {rank_by!r}.")
    if rank_by is not None and scans.target is None:
        raise ValueError("Ranking compares pictures with the predicted image_embedding: give it, or leave rank_by out.")
    if refused := [name for name in _PER_OUTPUT if name in options]:
        raise TypeError(f"reconstruct takes no {', '.join(refused)}: call `generate` for that.")


def _read_start(pipe: FlowPipeline, start: object) -> Tensor | list[Tensor]:
    """Latents (b c y x) as a tensor, or a list of pictures."""
    image = pipe.modalities.named("image")
    return as_tensor(start, "start") if is_latent(start, image.latent_shape()) else image.read(start)


def _tokens(pipe: FlowPipeline, modality: str, value: object, name: str) -> Float[Tensor, "b n d"]:
    """Context tokens of a modality, (n d) or (b n d), as a batch; errors call them `name`."""
    tokens, width = context_shape(pipe, modality)
    tensor = as_tensor(value, name)
    given = tuple(tensor.shape)
    tensor = tensor[None] if tensor.ndim == 2 else tensor
    if tensor.ndim != 3 or tensor.shape[1:] != (tokens, width) or not len(tensor):
        raise ValueError(f"{name} must have shape ({tokens}, {width}) or (scans, {tokens}, {width}), got {given}.")
    return tensor


def _unconditional(pipe: FlowPipeline, modality: str, value: object) -> object:
    """What stands for no condition: a word, or tokens as a batch."""
    return value if isinstance(value, str) else _tokens(pipe, modality, value, f"{modality}_unconditional")


def _rows(values: Start | str, scans: Sequence[int]) -> Start | str:
    """One row for each of these scans, of rows for each or for all."""
    if values is None or isinstance(values, str):
        return values
    index = _indices(len(values), scans)
    return values[index] if isinstance(values, Tensor) else [values[i] for i in index]


def _indices(count: int, scans: Sequence[int]) -> list[int]:
    return [scan if count > 1 else 0 for scan in scans]


def _batches(total: int, batch_size: int) -> Iterator[list[int]]:
    for first in range(0, total, batch_size):
        yield list(range(first, min(first + batch_size, total)))


def _present(pipe: FlowPipeline, pictures: Float[Tensor, "b 3 h w"], output_type: str) -> list[Any]:
    return list(pipe.modalities.named("image").present(list(pictures.cpu()), output_type))


def _without_inputs(origins: Sequence[Origin]) -> list[Origin]:
    """Origins of a batch that do not keep its embeddings, its start and its noise in memory."""
    if not origins:
        return []
    request = origins[0].request.model_copy(update={"contexts": (), "negative": (), "start": None, "latents": None})
    return [replace(origin, request=request) for origin in origins]


def _grouped(
    pictures: Sequence[Any], scores: Sequence[float], origins: Sequence[Origin], num_outputs: int
) -> Reconstructions:
    """The pictures of each scan, those of the highest scores first."""
    orders = [list(range(num_outputs)) for _ in range(len(pictures) // num_outputs)]
    if scores:
        orders = [
            sorted(order, key=lambda j, scan=scan: -scores[scan * num_outputs + j]) for scan, order in enumerate(orders)
        ]
    places = [[scan * num_outputs + j for j in order] for scan, order in enumerate(orders)]
    return Reconstructions(
        images=[[pictures[place] for place in row] for row in places],
        scores=[[scores[place] for place in row] for row in places] if scores else None,
        order=orders,
        origins=[[origins[place] for place in row] for row in places],
    )
