"""What `vd`, the studio and the benchmarks ask of the world of emoji. PyTorch is imported when it is needed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from versatile_diffusion.training.stages.names import ADVERSARIAL, MODEL, STAGES
from versatile_diffusion.worlds.base import (
    DataRequest,
    Evaluation,
    EvaluationRequest,
    Repertoire,
    TrainingRequest,
    World,
    WorldExample,
    WorldReport,
    WorldSample,
)

if TYPE_CHECKING:
    from versatile_diffusion.applications.versatile import VersatileDiffusionPipeline
    from versatile_diffusion.training.stages.model_recipe import ModelRecipe

EMOJI_STAGES = ("attribute_classifier", "perceptual_network", STAGES[0], ADVERSARIAL, *STAGES[1:])
"""What is trained, in this order: the two networks that read emoji come before the stages of every model."""

IMAGES, SEED = 48_000, 1900
"""Of the data set that the bundled model learns from."""


@dataclass(frozen=True)
class EmojiWorld(World):
    """Emoji: everyday things drawn by several hands, in several treatments."""

    def recipe(self) -> ModelRecipe:
        """See `World.recipe`."""
        from versatile_diffusion.worlds.emoji.recipe import EmojiRecipe

        return EmojiRecipe()

    def train(self, request: TrainingRequest) -> None:
        """See `World.train`. The data set is written in the folder of the run, unless it is there."""
        from versatile_diffusion.worlds.emoji.recipe import EmojiRecipe
        from versatile_diffusion.worlds.emoji.training import EmojiTraining

        assert isinstance(request.recipe, EmojiRecipe)
        EmojiTraining(request.recipe, request.folder, request.mixed_precision, request.start).finish(request.stage)

    def samples(self, seed: int, count: int) -> Iterable[WorldSample]:
        """See `World.samples`.

        Raises:
            ValueError: always; what emoji are drawn from does not come with this package.
        """
        raise ValueError(f"The data set of {self.name} must be written first: vd data {self.name}")

    def build_data(self, request: DataRequest) -> None:
        """See `World.build_data`."""
        from versatile_diffusion.worlds.emoji.data.builder import build

        packages = request.packages or request.folder / "packages"
        images, seed = request.images or IMAGES, SEED if request.seed is None else request.seed
        build(request.folder, packages, images, seed, request.say, fetches=request.packages is None)

    def examples(self, task: str) -> Sequence[WorldExample]:
        """See `World.examples`."""
        from versatile_diffusion.worlds.emoji.studio_examples import EXAMPLES

        return EXAMPLES.get(task, ())

    def repertoire(self) -> Repertoire | None:
        """See `World.repertoire`: all things and looks, if there is a bundled model."""
        from versatile_diffusion.worlds.emoji.repertoire import repertoire

        return None if self.weights is None else repertoire(self.weights)


def _measure_flows(pipe: VersatileDiffusionPipeline, request: EvaluationRequest) -> WorldReport:
    from versatile_diffusion.worlds.emoji.classifier import load_emoji_classifier
    from versatile_diffusion.worlds.emoji.evaluation.flows import evaluate
    from versatile_diffusion.worlds.emoji.evaluation.measured import find_data

    data, classifier = find_data(request.model), load_emoji_classifier(request.model)
    return evaluate(pipe, classifier, data, request.num, request.seed, request.steps, request.guidance_scale)


def _measure_applications(pipe: VersatileDiffusionPipeline, request: EvaluationRequest) -> WorldReport:
    from versatile_diffusion.worlds.emoji.classifier import load_emoji_classifier
    from versatile_diffusion.worlds.emoji.evaluation.applications import evaluate_applications
    from versatile_diffusion.worlds.emoji.evaluation.measured import find_data

    data, classifier = find_data(request.model), load_emoji_classifier(request.model)
    return evaluate_applications(
        pipe, classifier, data, request.num, request.seed, request.steps, request.guidance_scale
    )


WORLD = EmojiWorld(
    name="emoji",
    about="A thousand everyday things by seven hands, in eleven treatments, with captions.",
    stages=(*EMOJI_STAGES, MODEL),
    evaluations=(
        Evaluation(
            "flows",
            "all four flows, on images of seen and as many of held-out cells, and on a stranger's drawings",
            drawing="sheet",
            drawing_help="some of what was made",
            measure=_measure_flows,
            needs="torchmetrics",
        ),
        Evaluation(
            "applications",
            "editing to another look, and focus, instead of the flows",
            drawing="plot",
            drawing_help="what is kept over the levels of focus",
            measure=_measure_applications,
            drawing_needs="matplotlib",
        ),
    ),
    sources="sets of emoji under open licences, which `npm pack` fetches",
)
