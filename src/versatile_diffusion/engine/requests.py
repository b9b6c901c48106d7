"""What is asked of the engine, and what comes back."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from versatile_diffusion import __version__
from versatile_diffusion.context import Context
from versatile_diffusion.provenance.record import Batch, Computed, ContextRecipe, Recipe

if TYPE_CHECKING:
    from versatile_diffusion.provenance.files import Kept


@dataclass(frozen=True)
class Edit:
    """What is to become of a picture, by rewriting its description; see `NamedFlows.edit`."""

    prompt: str = ""
    remove: str = ""
    add: str = ""
    text_share: float = 0.8


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
        edit: for pictures; what is to become of the picture that is the only context.
        scheduler: a name of `schedulers.SCHEDULERS`; the model's own if None.
        decoding: options of the modality's `decode`.
        preview_every: steps between previews of the first output; 0 is none.

    Raises:
        ValueError: if there are no seeds, a context holds several items, or there is no one picture to edit.
    """

    model: str
    to: str
    contexts: tuple[Context, ...]
    seeds: tuple[int, ...]
    negative: tuple[Context, ...] = ()
    num_inference_steps: int = 50
    guidance_scale: float | None = None
    guidance_rescale: float = 0.0
    guidance_interval: tuple[float, float] | None = None
    start: Any = None
    strength: float = 1.0
    height: int | None = None
    width: int | None = None
    eta: float = 0.0
    scheduler: str | None = None
    colors_of: Any = None
    edit: Edit | None = None
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
        if self.edit and (self.to != "image" or [_is_picture(context) for context in self.contexts] != [True]):
            raise ValueError("An edit makes pictures of one context, which is the picture to edit, without a mask.")

    @property
    def kind(self) -> Hashable:
        """Requests of equal kinds can be computed as one batch: only items, seeds and previews differ."""
        return (
            (self.model, self.to, self.num_inference_steps, self.guidance_scale, self.guidance_interval),
            (self.strength, self.height, self.width, self.eta, self.scheduler),
            tuple(map(_kind, self.contexts)),
            tuple(map(_kind, self.negative)),
            (self.start is None, _size(self.start), self.colors_of is None),
            self.edit and self.edit.text_share,
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
            "edit": None if self.edit is None else {k: v for k, v in asdict(self.edit).items() if v},
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

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of `generate` for all outputs, without their generators."""
        own = ("model", "seeds", "edit", "decoding", "preview_every")
        return {name: value for name, value in vars(self).items() if name not in own} | dict(self.decoding)

    @property
    def kept(self) -> Kept:
        """The recipe of the first output, as far as it is known before it is made, with its inputs."""
        from versatile_diffusion.provenance.replay import recipe_of_row  # PyTorch, which the start can do without

        arguments = self.arguments | {"guidance_scale": self.guidance_scale or 0.0}
        return recipe_of_row(arguments, 0, self.seeds[0], Batch(), Computed(model=self.model))

    @classmethod
    def of(cls, kept: Kept, model: str | None = None) -> Request:
        """What makes the output of a recipe again, alone, and so the same but for rounding.

        Args:
            kept: the recipe and its inputs.
            model: name of an opened model; the one of the recipe if left out.

        Raises:
            ValueError: if an input is missing.
        """
        from versatile_diffusion.provenance.replay import arguments_of

        arguments = arguments_of(kept)
        if arguments.pop("latents") is not None:
            raise ValueError("The recipe starts from noise of a file: replay it with `vd replay`.")
        decoding = {name: arguments.pop(name) for name in kept.recipe.decoding if name != "colors_of"}
        many = {name: tuple(arguments.pop(name) or ()) for name in ("contexts", "negative")}
        name = model or kept.recipe.computed.model
        return cls(name, seeds=(kept.recipe.seed,), decoding=decoding, **many, **arguments)

    def without_data(self) -> Request:
        """The request without texts, pictures and embeddings, which take room."""
        return replace(self, contexts=(), negative=(), start=None, colors_of=None, edit=None)


@dataclass(frozen=True)
class Made:
    """What a request gave.

    Attributes:
        items: one for each seed: pictures (PIL), texts or whatever the modality makes.
        guidance_scale: that was used.
        notes: what the user should know, such as words that the text encoder does not know.
        computed: what computed them.
        batch: that they were made in, with the place of the first of them.
        written: for an edit; the rewritten description that they were painted from.
    """

    items: list[Any]
    guidance_scale: float
    notes: tuple[str, ...] = ()
    computed: Computed | None = None
    batch: Batch = field(default_factory=Batch)
    written: str | None = None

    @property
    def size(self) -> int:
        """Bytes that the items take."""
        return sum(map(_bytes, self.items))


@dataclass(frozen=True)
class Replayable:
    """The recipe of a request, for all its outputs, with its inputs in base64 as far as they are small."""

    recipe: Recipe
    embedded: Mapping[str, str]
    edit: Edit | None = None

    @classmethod
    def of(cls, request: Request) -> Replayable:
        """Of a request that still holds its data."""
        kept = request.kept
        return cls(kept.recipe, kept.embedded, request.edit)

    def outputs(self, seeds: Sequence[int], made: Made) -> list[Kept]:
        """The recipe of each output, without inputs."""
        from versatile_diffusion.provenance.files import Kept

        same = {"guidance_scale": made.guidance_scale, "computed": made.computed or self.recipe.computed}
        if self.edit is not None and made.written is not None:
            share, (seen,) = self.edit.text_share, self.recipe.contexts
            text = ContextRecipe(modality="text", data=made.written, weight=share)
            same["contexts"] = (text, seen.model_copy(update={"weight": 1 - share}))
        batches = (made.batch.model_copy(update={"row": made.batch.row + i}) for i in range(len(seeds)))
        return [
            Kept(self.recipe.model_copy(update=same | {"seed": seed, "batch": batch}))
            for seed, batch in zip(seeds, batches, strict=True)
        ]


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


def _bytes(item: Any) -> int:
    """What a picture or a text takes in memory."""
    return len(item) if isinstance(item, str) else item.width * item.height * len(item.getbands())


def _is_picture(context: Context) -> bool:
    return context.modality == "image" and context.data is not None and context.mask is None


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
