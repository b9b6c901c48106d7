"""What computes: models by name, in this process or (see `isolation`) in one of their own."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from versatile_diffusion.engine.requests import JobRequest
from versatile_diffusion.engine.results import Failure, JobResult
from versatile_diffusion.extras import silence_imports, silence_opening
from versatile_diffusion.modalities.size_range import SizeRange
from versatile_diffusion.sampling.few_steps import FewSteps

if TYPE_CHECKING:
    from versatile_diffusion.applications.versatile import VersatileDiffusionPipeline


@dataclass(frozen=True)
class ModelInfo:
    """What a model can do.

    Attributes:
        outputs: the modalities that it makes.
        contexts: the modalities that it takes.
        guidance_scales: by output, the guidance scale where the user gives none.
        sizes: by output, the sizes in pixels that it makes well; outputs without a size are left out.
        few_steps: how it samples with its few-step LoRA, if it carries one.
    """

    outputs: tuple[str, ...]
    contexts: tuple[str, ...]
    guidance_scales: Mapping[str, float]
    sizes: Mapping[str, SizeRange]
    few_steps: FewSteps | None = None

    @classmethod
    def of(cls, pipe: VersatileDiffusionPipeline) -> ModelInfo:
        """What this pipeline can do."""
        outputs = {name: pipe.modality(name) for name in pipe.diffuser.data_layers}
        scales = {name: modality.guidance_scale for name, modality in outputs.items()}
        sizes = {name: found for name, modality in outputs.items() if (found := modality.sizes) is not None}
        return cls(tuple(outputs), tuple(pipe.diffuser.context_layers), scales, sizes, pipe.few_steps)

    def require(self, model: str, to: str, contexts: Iterable[str]) -> None:
        """Raises ValueError unless the model makes such outputs of such contexts; the message says what it knows.

        Args:
            model: its name.
            to: the modality to make.
            contexts: the modalities to condition on.
        """
        if to not in self.outputs:
            raise ValueError(f"{model} makes {' and '.join(self.outputs)}, not {to:.100}.")
        for context in contexts:
            if context not in self.contexts:
                raise ValueError(f"{model} takes contexts of {' and '.join(self.contexts)}, not {context:.100}.")


class UnknownModel(LookupError):
    """There is no model of that name; the message says which there are."""


def find_model(models: Mapping[str, ModelInfo], name: str | None) -> tuple[str, ModelInfo]:
    """The model of a name, or the first one where none is named.

    Raises:
        UnknownModel: if there is none.
    """
    found = name or next(iter(models))
    if found not in models:
        raise UnknownModel(f"There is no model {found!r:.100}: take {', '.join(models)}.")
    return found, models[found]


class Disturbed(RuntimeError):
    """A batch gave nothing because of another one that was computed in between; it is to be computed again."""


@runtime_checkable
class Watch(Protocol):
    """Whoever waits for a batch."""

    def step(self, step: int, steps: int, previews: Mapping[int, object]) -> Collection[int]:
        """Hears of a step, and answers as `wanted`. Until it answers, it may have the worker run other batches."""
        ...

    def wanted(self) -> Collection[int]:
        """Numbers of the requests whose outputs somebody still wants."""
        ...


@runtime_checkable
class Worker(Protocol):
    """Computes one batch at a time, and others within a step of one, if its watch asks for that."""

    @property
    def models(self) -> Mapping[str, ModelInfo]:
        """The models by name, the default first."""
        ...

    def run(self, requests: Sequence[JobRequest], watch: Watch) -> list[JobResult | Failure | None]:
        """See `computing.compute`."""
        ...

    def close(self) -> None:
        """Lets go of the models."""
        ...


class LocalWorker:
    """Computes in the thread that calls it.

    Args:
        pipes: by name, the default first.
    """

    def __init__(self, pipes: Mapping[str, VersatileDiffusionPipeline]) -> None:
        self._pipes = dict(pipes)
        self.models = {name: ModelInfo.of(pipe) for name, pipe in pipes.items()}

    def run(self, requests: Sequence[JobRequest], watch: Watch) -> list[JobResult | Failure | None]:
        """See `computing.compute`."""
        from versatile_diffusion.engine.computing import compute

        return compute(self._pipes[requests[0].model], requests, watch.step)

    def close(self) -> None:
        """Lets go of the models."""
        self._pipes.clear()


@dataclass(frozen=True)
class Source:
    """A model to open.

    Attributes:
        name: under which it is served.
        path: see `VersatileDiffusionPipeline.from_pretrained`.
    """

    name: str
    path: str

    @classmethod
    def parse(cls, text: str) -> Source:
        """Reads SOURCE or NAME=SOURCE. What is here is called by its last part, so that nobody learns where it lies.

        What is there as a file or a folder is no NAME=SOURCE, whatever is in its name.
        """
        name, equals, path = text.partition("=")
        if equals and name and path and not Path(text).exists():
            return cls(name, path)
        place = Path(text)
        return cls(place.resolve().name if place.is_dir() else place.stem if place.is_file() else text, text)


def open_models(
    sources: Sequence[Source], device: str = "auto", dtype: str = "auto", backend: str | None = None
) -> dict[str, VersatileDiffusionPipeline]:
    """Opens models, each with all its flows.

    Args:
        sources: which ones.
        device: see `devices.choose_device`.
        dtype: see `devices.choose_dtype`.
        backend: what computes the diffusers instead of PyTorch; see `FlowPipeline.compile`.

    Raises:
        ValueError: if two have the same name, there is no such device or dtype, or the backend cannot compute there.
        ImportError: if the backend is not installed.
        CheckpointError: if one cannot be opened.
    """
    silence_imports()
    from versatile_diffusion.applications.versatile import VersatileDiffusionPipeline
    from versatile_diffusion.devices import choose_device, choose_dtype

    silence_opening()
    require_unlike_names(sources)
    where = choose_device(device)
    pipes: dict[str, VersatileDiffusionPipeline] = {}
    for source in sources:
        pipe = VersatileDiffusionPipeline.from_pretrained(source.path, torch_dtype=choose_dtype(dtype, where))
        pipe.to(where)  # pyright: ignore[reportUnknownMemberType] - diffusers does not type it
        pipe.pack()
        if backend is not None:
            pipe.compile(backend=backend)
        pipe.set_progress_bar_config(disable=True)  # pyright: ignore[reportUnknownMemberType] - nor that
        pipes[source.name] = pipe
    return pipes


def require_unlike_names(sources: Sequence[Source]) -> None:
    """Raises ValueError if there are no models, or two of one name."""
    names = [source.name for source in sources]
    if not names:
        raise ValueError("There is no model to serve: name one.")
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"Two models are called {', '.join(sorted(twice))}: call one another, as in NAME=SOURCE.")
