"""What a user conditions on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, Self, TypeVar, cast

from pydantic import ConfigDict, Field, ValidationError, model_validator

from versatile_diffusion.arrays import as_tensor
from versatile_diffusion.validation import Number, Strict, explained

if TYPE_CHECKING:
    from torch import Tensor as LiveArray
else:
    LiveArray = Any  # PyTorch takes seconds, which what only asks need not wait for

Data = TypeVar("Data")
Mask = TypeVar("Mask")
Array = TypeVar("Array")


class ContextOf(Strict, Generic[Data, Mask, Array]):
    """One condition: data of a modality, or its embedding.

    The three types say how data, masks and arrays are held: as they are, uploaded, or stored with an output.

    Attributes:
        modality: "text", "image" or the name of another modality of the model.
        data: a text, an image or whatever the modality reads; a list is a batch.
        embedding: context tokens (b n d) instead of data.
        weight: share in the mixture, relative to the other contexts'. At 0 the context is left out.
        mask: for images given as data; what is to be seen is 1 (or white), what is not is 0.
        focus: for images; 0 keeps semantics, 1 keeps style, 0.5 keeps both.
        unconditional: what stands for "no condition" in guidance: the official choice ("default"), "zeros", or an
            embedding (1 n d) or (b n d).
    """

    modality: str
    data: Annotated[Data | None, Field(description="A text as it is; anything else as a file.")] = None
    embedding: Array | None = None
    weight: Annotated[Number, Field(ge=0, le=1e6, description="Share in the mixture.")] = 1.0
    mask: Annotated[Mask | None, Field(description="An image; what is white is seen.")] = None
    focus: Annotated[Number, Field(ge=0, le=1, description="0 keeps semantics, 1 keeps style.")] = 0.5
    unconditional: Annotated[
        Literal["default", "zeros"] | Array, Field(description="What guidance moves away from.")
    ] = "default"

    @model_validator(mode="after")
    def _holds_one(self) -> Self:
        if (self.data is None) == (self.embedding is None):
            raise ValueError(f"A {self.modality} context needs either data or an embedding.")
        if self.mask is not None and self.data is None:
            raise ValueError(f"A mask hides parts of data: give the {self.modality} context data, not an embedding.")
        return self


class Context(ContextOf[object, object, LiveArray]):
    """A condition as Python holds it: live data, and tensors.

    Raises:
        ValueError: if a value is out of range, or both or neither of data and embedding are given.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    def __init__(
        self,
        modality: str,
        data: object = None,
        *,
        embedding: object = None,
        weight: float = 1.0,
        mask: object = None,
        focus: float = 0.5,
        unconditional: object = "default",
    ) -> None:
        if isinstance(unconditional, str) and unconditional not in ("default", "zeros"):
            raise ValueError(f'unconditional must be "default", "zeros" or an embedding, got {unconditional!r:.80}.')
        given = {
            "modality": modality,
            "data": data,
            "embedding": None if embedding is None else as_tensor(embedding, f"The {modality} embedding"),
            "weight": weight,
            "mask": mask,
            "focus": focus,
            "unconditional": unconditional
            if isinstance(unconditional, str)
            else as_tensor(unconditional, f"The {modality} unconditional"),
        }
        try:
            super().__init__(**given)  # pyright: ignore[reportArgumentType] - which is what is checked here
        except ValidationError as error:
            raise ValueError(explained(error, type(self))) from None

    def changed(self, **changes: Any) -> Context:
        """Returns the same with other values, which are checked."""
        return Context(**({name: getattr(self, name) for name in type(self).model_fields} | changes))


def as_sequence(contexts: Context | Sequence[Context]) -> Sequence[Context]:
    """Returns one context as a sequence of one, several as they are."""
    return [contexts] if isinstance(contexts, Context) else contexts


def read_contexts(given: object, name: str, words: str) -> tuple[Context, ...]:
    """Returns what users gave as contexts: one, several, or a text alone.

    Args:
        given: a context, a sequence of contexts, a text, or None for none.
        name: what it is, for messages.
        words: the modality that a text is of.

    Raises:
        TypeError: if it is something else; the message says what to write.
    """
    if given is None:
        return ()
    if isinstance(given, str):
        return (Context(words, given),)
    if isinstance(given, Context):
        return (given,)
    several: list[object] = [given]
    if not hasattr(given, "shape") and isinstance(given, Iterable):  # an array of no axes cannot be walked
        several = list(cast("Iterable[object]", given))
    contexts = [each for each in several if isinstance(each, Context)]
    if len(contexts) < len(several):
        other = next(each for each in several if not isinstance(each, Context))
        raise TypeError(
            f"{name} must be a context, or a list of them, got {other!r:.80}. Write Context({words!r}, …) of a text or "
            "a list of texts, one for each item of the batch."
        )
    return tuple(contexts)
