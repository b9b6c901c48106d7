"""Conditioning: what a user conditions on, as tokens that the diffuser attends to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_diffusion.context import Context, as_sequence
from versatile_diffusion.diffuser.model import ContextTokens
from versatile_diffusion.modalities.base import Modality


def used_contexts(contexts: Context | Sequence[Context]) -> list[Context]:
    """Returns contexts of any weight: those at 0 take no part, and cost nothing.

    Raises:
        ValueError: if none is left.
    """
    used = [context for context in as_sequence(contexts) if context.weight > 0]
    if not used:
        raise ValueError("Nothing to condition on: give at least one context with a weight above 0.")
    return used


def read_items(modality: Modality, data: object) -> list[Any]:
    """See `Modality.read`.

    Raises:
        ValueError: if there are no items.
    """
    items = modality.read(data)
    if not items:
        raise ValueError(f"The {modality.name} batch holds no item: give one at least.")
    return items


@dataclass(frozen=True)
class Conditioner:
    """Encodes contexts.

    Attributes:
        modality: finds a modality by its name.
        widths: of the tokens that the diffuser takes from each context modality.
    """

    modality: Callable[[str], Modality]
    widths: Mapping[str, int]

    def conditional(self, contexts: Sequence[Context]) -> list[ContextTokens]:
        """Returns tokens of each context, with as many rows as it holds items.

        Raises:
            ValueError: if an embedding does not fit, or the diffuser takes no contexts of a modality.
        """
        return [ContextTokens(context.modality, self._tokens(context), context.weight) for context in contexts]

    def unconditional(
        self,
        output: str,
        contexts: Sequence[Context],
        conditional: Sequence[ContextTokens],
        negative: Context | Sequence[Context] | None,
    ) -> list[ContextTokens]:
        """What to move away from: negative contexts, and no condition in the modalities that have none of these.

        The negative contexts of a modality share what its contexts weigh together, in proportion to their own weights.
        Those of a modality without contexts are mixed in with their own. One of weight 0 is left out.

        Raises:
            ValueError: if an embedding does not fit, or the diffuser takes no contexts of a modality.
        """
        negatives = [context for context in as_sequence(negative or []) if context.weight > 0]
        given, told = _weights(contexts), _weights(negatives)
        waiting: dict[str, list[ContextTokens]] = {name: [] for name in told}
        for c in negatives:
            share = c.weight / told[c.modality] * given.get(c.modality, told[c.modality])
            waiting[c.modality].append(ContextTokens(c.modality, self._tokens(c), share))
        away: list[ContextTokens] = []
        for c, tokens in zip(contexts, conditional, strict=True):  # in their order, so that both can be one batch
            if c.modality in told:
                away += waiting.pop(c.modality, [])
            else:
                away.append(replace(tokens, tokens=self._nothing(output, c, tokens.tokens)))
        return [*away, *chain.from_iterable(waiting.values())]

    def _tokens(self, context: Context) -> Float[Tensor, "b n d"]:
        if context.modality not in self.widths:
            raise ValueError(
                f"This model takes contexts of {' or '.join(self.widths)}, not of {context.modality!r}. If that was "
                f"left out in loading, load it with a flow such as '{context.modality}-to-…', or with all flows."
            )
        modality = self.modality(context.modality)
        if context.embedding is None:
            tokens = modality.embed(read_items(modality, context.data), masks=context.mask)
        else:
            tokens = self._checked(context.embedding, context.modality)
        return tokens if context.focus == 0.5 else modality.focus(tokens, context.focus)

    def _nothing(self, output: str, context: Context, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "r m d"]:
        match context.unconditional:
            case "default":
                return self.modality(context.modality).unconditional(output)
            case "zeros":
                return torch.zeros_like(tokens[:1])
            case embedding:
                return self._checked(embedding, context.modality, "unconditional")

    def _checked(self, embedding: Tensor, modality: str, what: str = "embedding") -> Float[Tensor, "b n d"]:
        width = self.widths[modality]
        if embedding.ndim != 3 or embedding.shape[-1] != width or 0 in embedding.shape:
            raise ValueError(
                f"The {modality} {what} must have shape (batch, tokens, {width}), got {tuple(embedding.shape)}."
            )
        lengths = self.modality(modality).context_lengths
        if lengths and all(embedding.shape[1] % length for length in lengths):
            raise ValueError(
                f"The {modality} {what} must have {' or '.join(map(str, lengths))} tokens, or those of several "
                f"items one after the other, got {embedding.shape[1]}. Compute it as `encode_context` does."
            )
        return embedding


@dataclass(frozen=True)
class Batch:
    """Which rows belong to which output.

    Attributes:
        items: how many items the batch of the user holds.
        num_outputs: outputs for each item.
    """

    items: int
    num_outputs: int

    @classmethod
    def of(cls, contexts: Iterable[ContextTokens], start: Tensor | None, num_outputs: int) -> Batch:
        """Returns the batch of contexts and a start (b *latent), each of which holds one item for all or one for each.

        Raises:
            ValueError: if their sizes do not go together.
        """
        if num_outputs < 1:
            raise ValueError(f"num_outputs must be 1 or more, got {num_outputs}.")
        sizes = [(f"{context.modality} context", len(context.tokens)) for context in contexts]
        if start is not None:
            sizes.append(("start", len(start)))
        several = {size for _, size in sizes if size != 1}
        if len(several) > 1:
            listed = ", ".join(f"{what}: {size}" for what, size in sizes)
            raise ValueError(f"All must hold 1 item, or the same number of them, got {listed}.")
        return cls(several.pop() if several else 1, num_outputs)

    def __len__(self) -> int:
        return self.items * self.num_outputs

    def rows(self, tensor: Float[Tensor, "i *rest"]) -> Float[Tensor, "b *rest"]:
        """Returns one row for each output, those of the first item first."""
        return tensor.expand(self.items, *tensor.shape[1:]).repeat_interleave(self.num_outputs, dim=0)

    def tokens(
        self, contexts: Sequence[ContextTokens], device: torch.device, dtype: torch.dtype
    ) -> list[ContextTokens]:
        """The same contexts, with one row for each output."""
        return [replace(c, tokens=self.rows(c.tokens.to(device, dtype))) for c in contexts]


def of_rows(contexts: Iterable[ContextTokens], rows: Sequence[int]) -> list[ContextTokens]:
    """Returns the same contexts, with these rows alone."""
    return [c if len(rows) == len(c.tokens) else replace(c, tokens=c.tokens[rows]) for c in contexts]


def _weights(contexts: Iterable[Context]) -> dict[str, float]:
    """What the contexts of each modality weigh together."""
    weights: dict[str, float] = {}
    for context in contexts:
        weights[context.modality] = weights.get(context.modality, 0) + context.weight
    return weights
