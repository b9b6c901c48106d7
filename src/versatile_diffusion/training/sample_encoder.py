"""Samples become what the diffuser learns from: latents of outputs, tokens of contexts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_diffusion.flows import Flow
from versatile_diffusion.modalities.base import Modality
from versatile_diffusion.training.reading.cleaning import clean_caption
from versatile_diffusion.training.reading.sample import Sample

LATENTS, TOKENS, ROWS = "latents", "tokens", "rows"
Bucket = tuple[tuple[str, tuple[int, ...]], ...]
"""The modalities of a sample, each with the shape of its latents: only samples of one bucket fit in one batch."""


class SampleEncoder:
    """Encodes what some flows need of samples, with the frozen encoders of a model.

    Args:
        modalities: by name.
        flows: that are learnt.
        multiple: positions that the sides of a latent must be a multiple of, where it has sides.
        size: pixels of a side, as in `Modality.crop`; None is the model's own.
    """

    def __init__(
        self, modalities: Mapping[str, Modality], flows: Sequence[Flow], multiple: int, size: int | None = None
    ) -> None:
        names = dict.fromkeys(name for flow in flows for name in (flow.context, flow.output))
        self.modalities = {name: modalities[name] for name in names}
        self.flows, self.multiple, self.size = tuple(flows), multiple, size
        self.made = {flow.output for flow in flows}
        self.seen = {flow.context for flow in flows}
        self.unconditional = cache(self._unconditional)

    def teaches(self, sample: Sample) -> list[Flow]:
        """Returns the flows that can be learnt from a sample."""
        return [flow for flow in self.flows if flow.output in sample.items and flow.context in sample.items]

    def fit(self, sample: Sample) -> Sample:
        """Returns a sample with its items in the sizes that are trained; nothing is stretched."""
        items = {
            name: tuple(self.modalities[name].crop(item, self.multiple, self.size) for item in items)
            for name, items in sample.items.items()
        }
        return Sample(sample.key, items, sample.facts)

    def bucket(self, sample: Sample) -> Bucket:
        """Returns the bucket of a sample that fits."""
        shapes = {name: self.modalities[name].latent_shape_of(items[0]) for name, items in sample.items.items()}
        return tuple(sorted(shapes.items()))

    @torch.no_grad()
    def encode(self, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """Encodes samples of one bucket.

        Returns:
            By "MODALITY/latents" and "MODALITY/tokens" a row for each item, in half precision and on the CPU; and by
            "MODALITY/rows" the place, among the samples, of the one that each item belongs to.
        """
        encoded: dict[str, Tensor] = {}
        for name, modality in self.modalities.items():
            items = [(row, item) for row, sample in enumerate(samples) for item in sample.items.get(name, ())]
            if not items:
                continue
            rows, data = zip(*items, strict=True)
            encoded[f"{name}/{ROWS}"] = torch.tensor(rows, dtype=torch.int32)
            if name in self.made:
                told = [clean_caption(item) if isinstance(item, str) else item for item in data]
                encoded[f"{name}/{LATENTS}"] = _kept(modality.encode(told))
            if name in self.seen:
                encoded[f"{name}/{TOKENS}"] = _kept(modality.embed(data))
        return encoded

    def _unconditional(self, flow: Flow) -> Float[Tensor, "1 n d"]:
        return self.modalities[flow.context].unconditional(flow.output).float().cpu()


def _kept(rows: Tensor) -> Tensor:
    return rows.half().cpu().contiguous()
