"""What a world is: all that `vd train NAME`, `vd evaluate NAME`, `--model NAME` and the studio ask of it.

Importing this, or a world's description, does not import PyTorch; what trains and measures is imported when it is used.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import UInt8
    from rich.table import Table

    from versatile_diffusion.applications.versatile import VersatileDiffusionPipeline
    from versatile_diffusion.training.stages.model_recipe import ModelRecipe


DRAWN = 5000
"""Images of a data set that is drawn, where the user does not say."""


@dataclass(frozen=True)
class WorldSample:
    """An image of a world's data set, with a text that belongs to it.

    Attributes:
        image: what is to be seen.
        text: what it is called.
        also: makes what else belongs to it, by the name of its modality.
    """

    image: UInt8[np.ndarray, "size size 3"]
    text: str
    also: Mapping[str, Callable[[], object]] = field(default_factory=dict[str, "Callable[[], object]"])


@dataclass(frozen=True)
class ExampleImage:
    """An image that fills in a form of the studio, drawn when it is first asked for.

    Attributes:
        draw: takes the height and width in pixels and returns the image.
        hidden: the part that is painted over, "left", "right" or "top", or None.
    """

    draw: Callable[[int], UInt8[np.ndarray, "size size 3"]]
    hidden: str | None = None


@dataclass(frozen=True)
class WorldExample:
    """What fills in a form of the studio.

    Attributes:
        title: of its button.
        values: what is filled in, by the names of the form's fields: texts, numbers, images and files.
    """

    title: str
    values: Mapping[str, str | float | bool | ExampleImage | Path]


@dataclass(frozen=True)
class KnownThing:
    """Something that the model of a world can be asked for.

    Attributes:
        prompt: asks for it, such as "an owl".
        words: all by which people may look for it, its kind included, in lower case.
        symbol: a character that looks like it, if there is one.
    """

    prompt: str
    words: Sequence[str]
    symbol: str = ""

    def is_meant_by(self, search: str) -> bool:
        """Tells whether every word of a search is the beginning of one of its own."""
        return all(any(word.startswith(part) for word in self.words) for part in search.lower().split())


@dataclass(frozen=True)
class Repertoire:
    """What the model of a world can be asked for.

    Attributes:
        things: in the order in which they are shown.
        styles: what may stand behind a prompt, such as ", flat style", by what its button says.
    """

    things: Sequence[KnownThing]
    styles: Mapping[str, str]

    def search(self, words: str) -> list[KnownThing]:
        """Returns the things that these words may mean; all for none."""
        return [thing for thing in self.things if thing.is_meant_by(words)]

    def styled(self, prompt: str, style: str) -> str:
        """Returns a prompt in a style, instead of the one that it is in."""
        plain = prompt.rstrip()
        for ending in sorted(self.styles.values(), key=len, reverse=True):
            plain = plain.removesuffix(ending)
        return plain + self.styles[style]


class WorldReport(ABC):
    """What an evaluation found."""

    @abstractmethod
    def tables(self) -> Sequence[Table]:
        """Returns the main figures as tables for people."""

    @abstractmethod
    def as_dict(self) -> Mapping[str, object]:
        """Returns all figures as JSON can hold them."""

    @abstractmethod
    def drawing(self) -> bytes:
        """Returns what there is to see as a PNG."""


@dataclass(frozen=True)
class EvaluationRequest:
    """How a model is to be measured.

    Attributes:
        model: what the user calls it; what measures it may lie beside its weights.
        num: how many samples of each kind are measured.
        seed: of the samples and of the noise; equal seeds give equal figures.
        steps: of the sampler.
        guidance_scale: of all flows; the model's own if None.
    """

    model: str
    num: int
    seed: int
    steps: int
    guidance_scale: float | None = None


@dataclass(frozen=True)
class Evaluation:
    """One way to measure a model of a world.

    Attributes:
        name: the flag that asks for it; the first evaluation of a world is the one without a flag.
        help: what it measures, for `--help`.
        drawing: the option that takes a file for what there is to see, such as "sheet".
        drawing_help: what is to be seen there.
        measure: does it.
        needs: a library that it needs, if it is not one that is always there.
        drawing_needs: a library that only the drawing needs.
    """

    name: str
    help: str
    drawing: str
    drawing_help: str
    measure: Callable[[VersatileDiffusionPipeline, EvaluationRequest], WorldReport]
    needs: str | None = None
    drawing_needs: str | None = None


@dataclass(frozen=True)
class TrainingRequest:
    """What is to be trained, and where.

    Attributes:
        recipe: sizes, data and how each stage is trained.
        folder: of the run, which goes on where an earlier one stopped.
        stage: the last one to train; those that it needs come first.
        mixed_precision: "bf16" or "no".
        start: a model to go on from, or None for random weights.
    """

    recipe: ModelRecipe
    folder: Path
    stage: str
    mixed_precision: str = "no"
    start: str | None = None


@dataclass(frozen=True)
class DataRequest:
    """Which data set is to be written, and where.

    Attributes:
        folder: to write; a build that was begun there goes on.
        say: is told what is done.
        packages: the folder of what the data set is made from, or None to fetch it; of use where it is made from any.
        images: how many there are to learn from; the world's own number if None.
        seed: of what is drawn at random; the world's own if None.
        also: modalities that are written beside images and texts.
    """

    folder: Path
    say: Callable[[str], None]
    packages: Path | None = None
    images: int | None = None
    seed: int | None = None
    also: Sequence[str] = ()


@dataclass(frozen=True)
class World(ABC):
    """A data set with its model.

    A world is a subclass that says how it is trained and measured, and one object of it, which is called `WORLD` in the
    package of its folder.

    Attributes:
        name: what users call it.
        about: what it is, in a line.
        weights: the folder of its model, if one comes with it.
        stages: what is trained, in order; the last is the whole model.
        former_names: today's names of stages and settings by those of earlier versions, which are still taken.
        evaluations: how its models are measured, the usual way first.
        sources: what its data set is made from; None if it is drawn from a seed.
        also: modalities, besides images and texts, that its data set can be written with.
    """

    name: str
    about: str
    stages: tuple[str, ...]
    evaluations: tuple[Evaluation, ...]
    weights: Path | None = None
    former_names: Mapping[str, str] = field(default_factory=dict[str, str])
    sources: str | None = None
    also: tuple[str, ...] = ()

    @abstractmethod
    def recipe(self) -> ModelRecipe:
        """Returns how its model is trained where the user changes nothing."""

    @abstractmethod
    def train(self, request: TrainingRequest) -> None:
        """Trains its model up to a stage.

        Raises:
            ValueError: if the run cannot go on with this recipe.
        """

    @abstractmethod
    def samples(self, seed: int, count: int) -> Iterable[WorldSample]:
        """Returns the first samples of the data set that this seed gives."""

    def build_data(self, request: DataRequest) -> None:
        """Writes its data set as images with captions; by default its samples, which are drawn.

        Raises:
            ValueError: if it is drawn, and not made from packages, or what is there was written otherwise.
            ImportError: if a library is missing that makes what is written as well.
            OSError: if what it is made from is missing and cannot be fetched.
        """
        from versatile_diffusion.worlds.drawn_data import write_samples

        if request.packages is not None:
            raise ValueError(f"The data set of {self.name} is drawn from a seed, not made from packages.")
        images, seed = request.images or DRAWN, request.seed or 0
        write_samples(request.folder, self.samples(seed, images), images, seed, request.also)

    def examples(self, task: str) -> Sequence[WorldExample]:
        """Returns what fills in the form of a task of the studio, such as "text-to-image"; none by default."""
        return ()

    def repertoire(self) -> Repertoire | None:
        """Returns what its model can be asked for, for people to look through; None by default."""
        return None
