"""Making what is measured: an output of each sample, in files, so that a run goes on where it was stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

from versatile_diffusion.context import Context
from versatile_diffusion.data.captioned_data import CaptionedData
from versatile_diffusion.data.sample import words_modality
from versatile_diffusion.evaluation.generation import seed_of
from versatile_diffusion.evaluation.samples import EvaluationSample, read_items
from versatile_diffusion.files import write_whole
from versatile_diffusion.flows import Flow
from versatile_diffusion.modalities.registry import modality_spec
from versatile_diffusion.pipeline.pipeline import FlowPipeline
from versatile_diffusion.sampling.few_steps import resolved
from versatile_diffusion.sampling.options import Sampling
from versatile_diffusion.validation import checked

SETTINGS, MODEL = "settings.json", "model.json"
"""Beside outputs: how they were made, as the user asked for it, and what the model itself says of it."""

_NOISE = 0x6D616B65  # keeps these draws apart from all others

Batch = Sequence[EvaluationSample]


@dataclass(frozen=True)
class OutputMaker:
    """Makes the outputs of a flow, each from its own seed, whoever makes it.

    Attributes:
        folder: of the outputs.
        flow: what is made of what.
        data: where contexts are read from.
        batch_size: outputs made at once. A batch is always the same samples, since others round otherwise.
        seed: of the noise.
        options: of `generate`.
    """

    folder: Path
    flow: Flow
    data: CaptionedData
    batch_size: int
    seed: int
    options: Mapping[str, Any]  # whatever `generate` takes

    def file(self, sample: EvaluationSample) -> Path:
        """Returns where the output of a sample goes."""
        return self.folder / f"{sample.number:06}{modality_spec(self.flow.output).codec.suffix}"

    def missing(self, samples: Sequence[EvaluationSample]) -> list[Batch]:
        """Returns the batches of which something is not made yet."""
        size = self.batch_size
        batches = (samples[start : start + size] for start in range(0, len(samples), size))
        return [batch for batch in batches if not all(self.file(sample).exists() for sample in batch)]

    def make(self, pipe: FlowPipeline, batches: Sequence[Batch], done: Callable[[int], object]) -> None:
        """Makes and writes what is missing of some batches.

        Args:
            pipe: the model.
            batches: of `missing`, in their order.
            done: is told after each batch how many outputs it has.

        Raises:
            ValueError: if the model makes no numbers of a sample; the message names it.
        """
        codec = modality_spec(self.flow.output).codec
        self._tell(pipe)
        for batch, data in zip(batches, self._contexts(batches), strict=True):
            outputs = pipe.generate(
                self.flow.output, Context(self.flow.context, data), seeds=self._seeds(batch), **self.options
            )
            for sample, item, latent in zip(batch, outputs.items, outputs.latents, strict=True):
                if not latent.isfinite().all():
                    raise ValueError(
                        f"The model makes NaN of sample {sample.number} ({sample.key:.200}) in {self.flow}: compute in "
                        "another number format, such as --dtype fp32, or look whether its weights are whole."
                    )
                if not self.file(sample).exists():
                    write_whole(self.file(sample), codec.encode(item))
            done(len(batch))

    def _tell(self, pipe: FlowPipeline) -> None:
        """Writes down what the model itself says of how it makes outputs, where the options do not."""
        asked = {name: value for name, value in self.options.items() if name in Sampling.model_fields}
        sampling = resolved(checked(Sampling, asked), pipe.few_steps)
        scheduler, scale = sampling.scheduler or type(pipe.scheduler).__name__, sampling.guidance_scale
        own = pipe.modalities.named(self.flow.output).guidance_scale
        told = {"scheduler": str(scheduler), "guidance_scale": own if scale is None else scale}
        write_whole(self.folder / MODEL, (json.dumps(told, indent=2) + "\n").encode())

    def _contexts(self, batches: Sequence[Batch]) -> Iterator[Sequence[object]]:
        """What the outputs of each batch are made of."""
        if self.flow.context == words_modality():
            yield from ([sample.caption for sample in batch] for batch in batches)
            return
        items = read_items(self.data, [sample for batch in batches for sample in batch], self.flow.context)
        yield from ([next(items) for _ in batch] for batch in batches)

    def _seeds(self, batch: Batch) -> tuple[int, ...]:
        return tuple(seed_of(_NOISE, self.seed, crc32(str(self.flow).encode()), sample.number) for sample in batch)
