"""What is asked of the engine: a request of the pipeline, of a model, with a seed for each output."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Annotated, Self

from PIL import Image
from pydantic import Field, model_validator

from versatile_diffusion import __version__
from versatile_diffusion._moved import former_names
from versatile_diffusion.arrays import as_tensor
from versatile_diffusion.context import Context
from versatile_diffusion.modalities.image_spec import IMAGE
from versatile_diffusion.pipeline.request import Request
from versatile_diffusion.provenance.words import sampling_words
from versatile_diffusion.sampling.few_steps import FewSteps, resolved
from versatile_diffusion.validation import Number, Strict

Words = Annotated[str, Field(max_length=2000)]


class Edit(Strict):
    """What is to become of an image, by rewriting its description; see `VersatileDiffusionPipeline.edit`."""

    prompt: Annotated[Words, Field(description="What it is to become, or an instruction.")] = ""
    remove: Annotated[Words, Field(description="What is to go.")] = ""
    add: Annotated[Words, Field(description="What is to come.")] = ""
    text_share: Annotated[Number, Field(gt=0, le=1, description="Weight of the words; the picture has the rest.")] = 0.8

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if not any(words.strip() for words in (self.prompt, self.remove, self.add)):
            raise ValueError("Nothing to change: say what with prompt, remove or add.")
        return self


@dataclass(frozen=True)
class JobRequest:
    """What is asked of the engine at once: outputs of one set of contexts, each from a seed of its own.

    Attributes:
        model: the name of an opened model.
        request: what to make. Each of its contexts holds one item, and it has a seed for each output.
        edit: what is to become of the image that is the only context; None if nothing is edited.
        preview_every: how many steps lie between previews of the first output; 0 is no previews.

    Raises:
        ValueError: if there is no seed for each output, a context holds several items, or there is no one image to
            edit.
    """

    model: str
    request: Request
    edit: Edit | None = None
    preview_every: int = 0

    def __post_init__(self) -> None:
        request = self.request
        if len(self.seeds) != request.num_outputs:
            raise ValueError(f"A job needs a seed for each of its {request.num_outputs} outputs, got {request.seeds}.")
        for context in (*request.contexts, *request.negative):
            for tokens in (context.embedding, context.unconditional):
                if tokens is not None and not isinstance(tokens, str) and (tokens.ndim != 3 or len(tokens) != 1):
                    raise ValueError(
                        f"An embedding of a request must have shape (1, tokens, width), got {tuple(tokens.shape)}."
                    )
        if self.edit and (request.to != IMAGE.name or list(map(_is_whole_image, request.contexts)) != [True]):
            raise ValueError("An edit makes pictures of one context, which is the picture to edit, without a mask.")

    @classmethod
    def of(
        cls,
        model: str,
        to: str,
        contexts: Sequence[Context],
        seeds: Sequence[int],
        *,
        edit: Edit | None = None,
        preview_every: int = 0,
        **options: object,
    ) -> JobRequest:
        """What to ask for one output of each seed. For the options see `Request.of`.

        Raises:
            ValueError: if something is not usable; the message says what would be.
        """
        request = Request.of(to, contexts, seeds=tuple(seeds), num_outputs=len(seeds), **options)
        return cls(model, request, edit, preview_every)

    def resolved(self, few: FewSteps | None) -> JobRequest:
        """Returns the same with what its preset stands for; see `sampling.few_steps.resolved`."""
        return replace(self, request=resolved(self.request, few))

    @property
    def to(self) -> str:
        """The modality to make."""
        return self.request.to

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seed of each output."""
        return self.request.seeds or ()

    @property
    def kind(self) -> Hashable:
        """What must be equal for jobs to be computed as one batch; see `Request.kind`."""
        return self.model, self.request.kind, None if self.edit is None else self.edit.text_share

    @property
    def summary(self) -> dict[str, object]:
        """How the outputs are made, for people to read: words and numbers, without what is not used.

        Images, arrays and other data stand in it as their sizes and checksums.
        """
        request = self.request
        entries = {
            "to": request.to,
            "contexts": list(map(_described, request.contexts)),
            "negative": list(map(_described, request.negative)),
            "start": None if request.start is None else _named(request.start),
            "latents": None if request.latents is None else _named(request.latents),
            "edit": None if self.edit is None else {name: value for name, value in self.edit if value},
            **sampling_words(request.sampling),
            **{name: _named(value) for name, value in request.decoding.items()},
            "model": self.model,
            "version": __version__,
        }
        return {name: value for name, value in entries.items() if value is not None and value != []}

    def without_data(self) -> JobRequest:
        """The same without texts, images, embeddings and other data, which take room."""
        empty = self.request.replaced(contexts=(), negative=(), start=None, latents=None, decoding={})
        return replace(self, request=empty, edit=None)


def _is_whole_image(context: Context) -> bool:
    return context.modality == IMAGE.name and context.data is not None and context.mask is None


def _described(context: Context) -> dict[str, object]:
    data = context.data if context.embedding is None else context.embedding
    entries = {
        context.modality: _named(data),
        "weight": context.weight,
        "focus": None if context.focus == 0.5 else context.focus,
        "mask": None if context.mask is None else _named(context.mask),
        "unconditional": None if context.unconditional == "default" else _named(context.unconditional),
    }
    return {name: value for name, value in entries.items() if value is not None}


def _named(value: object) -> object:
    """Words and numbers as they are; the size and a checksum of anything else."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Image.Image):
        size, content = value.size, value.tobytes()
    else:
        numbers = as_tensor(value, "Data")
        size, content = numbers.shape, numbers.numpy(force=True).tobytes()
    return f"{'×'.join(map(str, size))}, sha256 {sha256(content).hexdigest()}"


__getattr__ = former_names(
    __name__,
    {
        "Request": "versatile_diffusion.engine.requests:JobRequest",
        "Made": "versatile_diffusion.engine.results:JobResult",
        "Replayable": "versatile_diffusion.engine.records:JobRecord",
        "Failure": "versatile_diffusion.engine.results:Failure",
        "Reason": "versatile_diffusion.engine.results:Reason",
        "BatchFailed": "versatile_diffusion.engine.results:BatchFailed",
    },
)
