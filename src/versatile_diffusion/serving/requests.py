"""What is asked of the engine, and what comes back."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from hashlib import sha256
from typing import Any

from versatile_diffusion import __version__
from versatile_diffusion.context import Context


@dataclass(frozen=True)
class Request:
    """Outputs to make from one set of contexts, each from a seed of its own. For the options see `generate`.

    Attributes:
        model: name of an opened model.
        to: modality to make.
        contexts: each holds one item.
        seeds: one for each output.
        negative: contexts to move away from; each holds one item.
        start: one item of data to start from.
        colors_of: for pictures; the picture whose colours the outputs take.
        scheduler: a name of `schedulers.SCHEDULERS`; the model's own if None.
        decoding: options of the modality's `decode`.
        preview_every: steps between previews of the first output; 0 is none.

    Raises:
        ValueError: if there are no seeds, or a context holds several items.
    """

    model: str
    to: str
    contexts: tuple[Context, ...]
    seeds: tuple[int, ...]
    negative: tuple[Context, ...] = ()
    num_inference_steps: int = 50
    guidance_scale: float | None = None
    guidance_interval: tuple[float, float] | None = None
    start: Any = None
    strength: float = 1.0
    height: int | None = None
    width: int | None = None
    eta: float = 0.0
    scheduler: str | None = None
    colors_of: Any = None
    decoding: Mapping[str, Any] = field(default_factory=dict)
    preview_every: int = 0

    def __post_init__(self) -> None:
        if not self.seeds:
            raise ValueError("A request needs a seed for each of its outputs, and one output at least.")
        for context in (*self.contexts, *self.negative):
            for tensor in (context.embedding, context.unconditional):
                if tensor is None or isinstance(tensor, str):
                    continue
                if tensor.ndim != 3 or len(tensor) != 1:
                    raise ValueError(
                        f"An embedding of a request must have shape (1, tokens, width), got {tuple(tensor.shape)}."
                    )

    @property
    def kind(self) -> Hashable:
        """Requests of equal kinds can be computed as one batch: only items, seeds and previews differ."""
        return (
            (self.model, self.to, self.num_inference_steps, self.guidance_scale, self.guidance_interval),
            (self.strength, self.height, self.width, self.eta, self.scheduler),
            tuple(map(_kind, self.contexts)),
            tuple(map(_kind, self.negative)),
            (self.start is None, _size(self.start), self.colors_of is None),
            tuple(sorted(self.decoding.items())),
        )

    @property
    def recipe(self) -> dict[str, Any]:
        """How outputs are made, in words and numbers, without what is not used. Pictures stand in it as checksums."""
        entries = {
            "to": self.to,
            "contexts": list(map(_described, self.contexts)),
            "negative": list(map(_described, self.negative)),
            "start": None if self.start is None else _named(self.start),
            "strength": None if self.start is None else self.strength,
            "colors_of": None if self.colors_of is None else _named(self.colors_of),
            "steps": self.num_inference_steps,
            "guidance_scale": self.guidance_scale,
            "guidance_interval": self.guidance_interval,
            "scheduler": self.scheduler,
            "eta": self.eta or None,
            "height": self.height,
            "width": self.width,
            **self.decoding,
            "model": self.model,
            "version": __version__,
        }
        return {key: value for key, value in entries.items() if value is not None and value != []}

    def without_data(self) -> Request:
        """The request without texts, pictures and embeddings, which take room."""
        return replace(self, contexts=(), negative=(), start=None, colors_of=None)


@dataclass(frozen=True)
class Made:
    """What a request gave.

    Attributes:
        items: one for each seed: pictures (PIL), texts or whatever the modality makes.
        guidance_scale: that was used.
        notes: what the user should know, such as words that the text encoder does not know.
    """

    items: list[Any]
    guidance_scale: float
    notes: tuple[str, ...] = ()


class Reason(StrEnum):
    """Why a request gave nothing."""

    INVALID = "invalid"
    CRASHED = "crashed"
    TIMEOUT = "timeout"
    CLOSED = "closed"


@dataclass(frozen=True)
class Failure:
    """Why a request gave nothing, for the user."""

    reason: Reason
    message: str

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """A failure of a computation. What the pipeline says of its arguments is for the user; the rest is not."""
        if isinstance(error, BatchFailed):
            return error.failure
        if isinstance(error, ValueError | TypeError):
            return cls(Reason.INVALID, str(error))
        return cls(Reason.CRASHED, f"The computation failed ({type(error).__name__}); the server's log says where.")


class BatchFailed(RuntimeError):
    """A batch gave nothing at all, for a reason that is known."""

    def __init__(self, failure: Failure, details: str = "") -> None:
        super().__init__(details or failure.message)
        self.failure = failure


def _described(context: Context) -> dict[str, Any]:
    data = context.data if context.embedding is None else context.embedding
    entries = {
        context.modality: _named(data),
        "weight": context.weight,
        "focus": None if context.focus == 0.5 else context.focus,
        "mask": None if context.mask is None else _named(context.mask),
        "unconditional": None if context.unconditional == "default" else _named(context.unconditional),
    }
    return {key: value for key, value in entries.items() if value is not None}


def _named(data: Any) -> str:
    """A text as it is; the size and a checksum of anything else."""
    if isinstance(data, str):
        return data
    content = data.numpy(force=True).tobytes() if hasattr(data, "numpy") else data.tobytes()  # a tensor, or not
    return f"{'×'.join(map(str, _size(data)))}, sha256 {sha256(content).hexdigest()}"


def _kind(context: Context) -> Hashable:
    named = context.unconditional if isinstance(context.unconditional, str) else _size(context.unconditional)
    return context.modality, context.weight, context.focus, _size(context.embedding), named


def _size(data: Any) -> tuple[int, ...]:
    """Shape of a tensor or an array, size of a picture, nothing for anything else."""
    return tuple(data.shape if hasattr(data, "shape") else getattr(data, "size", ()))
