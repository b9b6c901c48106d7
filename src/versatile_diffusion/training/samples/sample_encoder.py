"""Samples become what the diffuser learns from: latents of outputs, tokens of contexts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import torch
from jaxtyping import Float
from torch import Tensor, nn

from versatile_diffusion.data.cleaning import clean_caption
from versatile_diffusion.data.sample import Sample
from versatile_diffusion.data.tags import CaptionTags
from versatile_diffusion.flows import Flow
from versatile_diffusion.modalities.base import Modality

Items = tuple[object, ...]

LATENTS, TOKENS, ROWS = "latents", "tokens", "rows"
_AT_ONCE = 2**16
"""Numbers of the latents of items that are encoded at once, at most."""
Bucket = tuple[tuple[str, tuple[int, ...]], ...]
"""The modalities of a sample, each with the shape of its latents: only samples of one bucket fit in one batch."""


@dataclass(frozen=True)
class FittedSample:
    """A sample as it is encoded: its items in the sizes that are trained, and as the context encoders see them.

    Attributes:
        key: the sample's.
        shown: items that become latents, by modality.
        seen: items that become tokens, by modality.
    """

    key: str
    shown: Mapping[str, Items]
    seen: Mapping[str, Items]

    def teaches(self, flow: Flow) -> bool:
        """Tells whether a flow can be learnt from it."""
        return flow.output in self.shown and flow.context in self.seen

    @property
    def nbytes(self) -> int:
        """Bytes that it takes in memory; texts take next to none."""
        items = (item for held in (self.shown, self.seen) for several in held.values() for item in several)
        return sum(item.nbytes for item in items if isinstance(item, Tensor))


class SampleEncoder:
    """Encodes what some flows need of samples, with the frozen encoders of a model.

    Args:
        modalities: by name.
        flows: that are learnt.
        multiple: positions that the sides of a latent must be a multiple of, where it has sides.
        size: pixels of a side, as in `Modality.crop`; None is the model's own.
        tags: how captions are varied as contexts; those that are outputs stay as they are.
    """

    def __init__(
        self,
        modalities: Mapping[str, Modality],
        flows: Sequence[Flow],
        multiple: int,
        size: int | None = None,
        tags: CaptionTags | None = None,
    ) -> None:
        names = dict.fromkeys(name for flow in flows for name in (flow.context, flow.output))
        self.modalities = {name: modalities[name] for name in names}
        self.flows, self.multiple, self.size = tuple(flows), multiple, size
        self.tags = CaptionTags() if tags is None else tags
        self.made = {flow.output for flow in flows}
        self.seen = {flow.context for flow in flows}
        self.unconditional = cache(self._unconditional)

    def hold_in(self, dtype: torch.dtype) -> None:
        """Holds and computes all encoders in these numbers from here on."""
        for modality in self.modalities.values():
            nn.Module.to(modality, dtype=dtype)
        self.unconditional = cache(self._unconditional)

    def teaches(self, sample: Sample) -> list[Flow]:
        """Returns the flows that can be learnt from a sample."""
        return [flow for flow in self.flows if flow.output in sample.items and flow.context in sample.items]

    def fit(self, sample: Sample, varied: bool = True) -> FittedSample:
        """Returns a sample as it is encoded; outputs are cropped, not stretched.

        Args:
            sample: as it was read.
            varied: whether tags are, which are not where something is measured.
        """
        shown, seen = dict[str, Items](), dict[str, Items]()
        for name, items in sample.items.items():
            modality = self.modalities[name]
            if name in self.made:
                shown[name] = tuple(modality.crop(item, self.multiple, self.size) for item in items)
            if name in self.seen:
                contexts = self._varied(sample.key, items) if varied and self.tags.are_varied else items
                seen[name] = tuple(map(modality.context_view, contexts))
        return FittedSample(sample.key, shown, seen)

    def _varied(self, key: str, items: Items) -> Items:
        """The items of a modality, each caption in all its ways."""
        return tuple(
            way
            for place, item in enumerate(items)
            for way in (self.tags.variants(item, f"{key}/{place}") if isinstance(item, str) else [item])
        )

    def bucket(self, sample: FittedSample) -> Bucket:
        """Returns the bucket of a sample."""
        shapes = {name: self.modalities[name].latent_shape_of(items[0]) for name, items in sample.shown.items()}
        return tuple(sorted({**dict.fromkeys(sample.seen, ()), **shapes}.items()))

    def bytes_of(self, sample: FittedSample) -> int:
        """Returns how many bytes a sample takes once it is encoded, in half precision."""
        numbers = 0
        for name, items in sample.shown.items():
            numbers += len(items) * math.prod(self.modalities[name].latent_shape_of(items[0]))
        for name, items in sample.seen.items():
            numbers += len(items) * self._token_numbers[name]
        return 2 * numbers

    @cached_property
    def _token_numbers(self) -> dict[str, int]:
        """By modality, how many numbers the context tokens of an item are."""
        found: dict[str, int] = {}
        for flow in self.flows:
            modality = self.modalities[flow.context]
            fixed = bool(modality.context_lengths)
            numbers = math.prod(modality.context_shape) if fixed else self.unconditional(flow).numel()
            found[flow.context] = numbers
        return found

    @torch.no_grad()
    def encode(self, samples: Sequence[FittedSample]) -> dict[str, Tensor]:
        """Encodes samples of one bucket.

        Returns:
            By "MODALITY/latents" and "MODALITY/tokens" a row for each item, in half precision and on the CPU; and by
            "MODALITY/rows" the place, among the samples, of the one that each item belongs to. Where contexts are
            more than outputs, "MODALITY/tokens/rows" says it of the tokens.
        """
        encoded: dict[str, Tensor] = {}
        for name, modality in self.modalities.items():
            shown = [(row, item) for row, sample in enumerate(samples) for item in sample.shown.get(name, ())]
            seen = [(row, item) for row, sample in enumerate(samples) for item in sample.seen.get(name, ())]
            if shown or seen:
                encoded[f"{name}/{ROWS}"] = torch.tensor([row for row, _ in shown or seen], dtype=torch.int32)
            if shown:
                told = [clean_caption(item) if isinstance(item, str) else item for _, item in shown]
                encoded[f"{name}/{LATENTS}"] = _latents(modality, told)
            if seen:
                encoded[f"{name}/{TOKENS}"] = _kept(modality.embed([item for _, item in seen]))
            if shown and len(seen) > len(shown):
                encoded[f"{name}/{TOKENS}/{ROWS}"] = torch.tensor([row for row, _ in seen], dtype=torch.int32)
        return encoded

    def unconditional_of_all(self) -> None:
        """Encodes what stands for no context in each flow, after which the context encoders are not needed."""
        for flow in self.flows:
            self.unconditional(flow)

    def _unconditional(self, flow: Flow) -> Float[Tensor, "1 n d"]:
        return self.modalities[flow.context].unconditional(flow.output).float().cpu()


def _latents(modality: Modality, items: Sequence[object]) -> Tensor:
    """The latents of items of one size, a few at once where they are large: each takes many times its own memory."""
    count = max(1, _AT_ONCE // math.prod(modality.latent_shape_of(items[0])))
    pieces = [modality.encode(items[start : start + count]) for start in range(0, len(items), count)]
    return _kept(torch.cat(pieces))


def _kept(rows: Tensor) -> Tensor:
    return rows.half().cpu().contiguous()
