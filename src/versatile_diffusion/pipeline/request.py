"""What to generate, said once: a request, which every way in makes and every output carries."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar, cast

from pydantic import ConfigDict, Field, field_validator

from versatile_diffusion.arrays import as_tensor
from versatile_diffusion.context import Context, ContextOf, read_contexts
from versatile_diffusion.modalities.text_spec import TEXT
from versatile_diffusion.sampling.options import Sampling
from versatile_diffusion.validation import Integer, checked

if TYPE_CHECKING:
    from torch import Tensor as LiveArray
else:
    LiveArray = Any  # PyTorch takes seconds, which what only asks need not wait for

AnyContext = TypeVar("AnyContext", bound=ContextOf[Any, Any, Any])
Data = TypeVar("Data")
Array = TypeVar("Array")

Seed = Annotated[Integer, Field(ge=0, lt=2**64)]
Count = Annotated[Integer, Field(ge=1, le=65536)]


class RequestOf(Sampling, Generic[AnyContext, Data, Array]):
    """What to make, from what, and how.

    The three types say how contexts, data and arrays are held: as they are, uploaded, or stored with an output.

    Attributes:
        to: modality to make.
        contexts: what to condition on; each holds one item or a batch.
        negative: contexts to move away from, instead of the unconditional of their modality.
        start: data of modality `to`, or its latents (b *latent), to start from.
        latents: noise (b *latent) to start from instead of drawing it.
    """

    to: Annotated[str, Field(description="The modality to make.")]
    contexts: Annotated[tuple[AnyContext, ...], Field(max_length=64, description="What to condition on.")]
    negative: Annotated[tuple[AnyContext, ...], Field(max_length=64, description="What to move away from.")] = ()
    start: Annotated[
        Data | None, Field(description="What to start from: a text as it is, anything else as a file.")
    ] = None
    latents: Annotated[Array | None, Field(description="Noise to start from.")] = None


class Request(RequestOf[Context, object, LiveArray]):
    """A request as Python holds it: live data, and tensors.

    Attributes:
        num_outputs: outputs for each item of the batch.
        seeds: one for each output, those of the first item first; None if the generators are the caller's.
        decoding: options of the modality's `decode`, such as the temperature for texts.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    num_outputs: Count = 1
    seeds: tuple[Seed, ...] | None = None
    decoding: Mapping[str, object] = {}

    @classmethod
    def of(cls, to: str, contexts: Context | Sequence[Context] | str, **options: object) -> Request:
        """Returns a request for these options, of which those that are no fields are options of decoding.

        Raises:
            ValueError, TypeError: if an option is not usable; the message says what would be.
        """
        away = read_contexts(options.pop("negative", None), "negative", TEXT.name)
        fields = {name: options.pop(name) for name in list(options) if name in cls.model_fields}
        given = {"to": to, "contexts": read_contexts(contexts, "contexts", TEXT.name), "negative": away, **fields}
        decoding = fields.get("decoding", {})
        return checked(cls, {**given, "decoding": options if decoding == {} else decoding})

    @field_validator("latents")
    @classmethod
    def _is_array(cls, latents: object) -> object:
        return None if latents is None else as_tensor(latents, "latents")

    @property
    def is_guided(self) -> bool:
        """See `Sampling.is_guided`; away from something negative it is."""
        return super().is_guided or bool(self.negative)

    @property
    def kind(self) -> Hashable:
        """What requests must have in common to be computed as one batch.

        Only their items, their seeds and the numbers of their outputs may differ. What is data is compared by its size.
        """
        alike = tuple(map(_kind, self.contexts)), tuple(map(_kind, self.negative))
        noise = None if self.latents is None else tuple(self.latents.shape[1:])
        options = tuple((name, _compared(self.decoding[name])) for name in sorted(self.decoding))
        return self.sampling, self.to, *alike, _shape(self.start), noise, options


def is_data(option: object) -> bool:
    """Tells whether an option of decoding is data, such as an image whose colours are taken, and no number or word."""
    return option is not None and not isinstance(option, str | int | float)


def _compared(option: object) -> Hashable:
    return option if option is None or isinstance(option, str | int | float) else _shape(option)


def _kind(context: Context) -> Hashable:
    named = context.unconditional if isinstance(context.unconditional, str) else _shape(context.unconditional)
    return context.modality, context.weight, context.focus, _shape(context.embedding), named


def _shape(value: object) -> Hashable:
    """Shape of a tensor or an array, size of an image, only the type of anything else."""
    found = getattr(value, "shape", getattr(value, "size", None))
    return (
        None
        if value is None
        else tuple(cast("Sequence[int]", found))
        if isinstance(found, Sequence)
        else type(value).__name__
    )
