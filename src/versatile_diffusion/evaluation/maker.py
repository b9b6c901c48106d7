"""What a model makes of data of any length; each output has a generator of its own, whatever its batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from rich.progress import Progress
from torch import Tensor

from versatile_diffusion.applications.versatile import VersatileDiffusionPipeline
from versatile_diffusion.context import Context
from versatile_diffusion.evaluation.batches import batches
from versatile_diffusion.evaluation.generation import generators
from versatile_diffusion.flows import Flow
from versatile_diffusion.modalities.image_spec import IMAGE
from versatile_diffusion.pipeline.outputs import Outputs

FLOWS = tuple(Flow.parse(name) for name in ("text-to-image", "image-to-text", "image-variation", "text-variation"))


@dataclass(frozen=True)
class Maker:
    """A model, and how it is asked.

    Attributes:
        pipe: the model.
        bar: shows how far it is.
        key: of all draws.
        steps: of the sampler.
        guidance_scale: of all flows; the model's own if None.
        batch_size: outputs made at once.
        size: height and width of the images that flows make; the model's own if None.
    """

    pipe: VersatileDiffusionPipeline
    bar: Progress
    key: tuple[int, ...]
    steps: int
    guidance_scale: float | None
    batch_size: int
    size: int | None = None

    def flow(self, flow: Flow, data: Sequence[object], turn: int = 0) -> list[object]:
        """Returns one output of a flow for each item; another turn draws other noise."""
        size = self.size if flow.output == IMAGE.name else None

        def generate(*columns: Sequence[object], **options: Any) -> Outputs:
            context = Context(flow.context, list(columns[0]))
            return self.pipe.generate(flow.output, context, height=size, width=size, **options)

        return self.make(str(flow), generate, data, key=(FLOWS.index(flow), *([turn] if turn else [])))

    def images(self, flow: Flow, data: Sequence[object]) -> Float[Tensor, "n 3 h w"]:
        """Returns the same of a flow to images, in [0, 1]."""
        return stacked(self.flow(flow, data))

    def texts(self, flow: Flow, data: Sequence[object], turn: int = 0) -> list[str]:
        """Returns the same of a flow to texts."""
        return [str(text) for text in self.flow(flow, data, turn)]

    def make(
        self, title: str, run: Callable[..., Outputs], *columns: Sequence[object], key: tuple[int, ...] = ()
    ) -> list[object]:
        """Returns one output for each row.

        Args:
            title: shown beside the progress bar.
            run: makes outputs of a batch of each column, with options of `generate`.
            columns: of the same length.
            key: of the draws, besides the maker's own; calls with the same key draw the same noise.
        """
        made: list[object] = []
        task = self.bar.add_task(title, total=len(columns[0]))
        for rows in batches(list(zip(*columns, strict=True)), self.batch_size):
            drawn = generators(*self.key, *key, start=len(made), count=len(rows))
            made += run(
                *(list(column) for column in zip(*rows, strict=True)),
                num_inference_steps=self.steps,
                guidance_scale=self.guidance_scale,
                generator=drawn,
                output_type="pt",
            ).items
            self.bar.advance(task, len(rows))
        return made


def stacked(images: Sequence[object]) -> Float[Tensor, "n 3 h w"]:
    """Returns images that a model has made as one tensor."""
    return torch.stack([image for image in images if isinstance(image, Tensor)]).cpu().float()
