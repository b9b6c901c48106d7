"""What `vd`, the studio and the benchmarks ask of the world of postcards. PyTorch is imported when it is needed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from versatile_diffusion.modalities.sound_spec import SOUND
from versatile_diffusion.training.stages.names import MODEL, STAGES
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
from versatile_diffusion.worlds.postcards.data import Postcards, Scene
from versatile_diffusion.worlds.postcards.studio_examples import EXAMPLES, repertoire

if TYPE_CHECKING:
    from versatile_diffusion.applications.versatile import VersatileDiffusionPipeline
    from versatile_diffusion.training.stages.model_recipe import ModelRecipe

POSTCARDS_STAGES = ("attribute_classifier", "perceptual_network", *STAGES)
"""What is trained, in this order: the two networks that read postcards come before the stages of every model."""

FORMER_NAMES = {
    "oracle": "attribute_classifier",
    "critic": "perceptual_network",
    "pictures": "images",
    "measured": "validation_images",
}
"""Today's names of stages and settings by those of earlier versions, which are still taken."""


@dataclass(frozen=True)
class PostcardsWorld(World):
    """Postcards: an endless world of captioned little pictures, drawn from a seed."""

    def recipe(self) -> ModelRecipe:
        """See `World.recipe`."""
        from versatile_diffusion.worlds.postcards.recipe import PostcardsRecipe

        return PostcardsRecipe()

    def train(self, request: TrainingRequest) -> None:
        """See `World.train`."""
        from versatile_diffusion.worlds.postcards.recipe import PostcardsRecipe
        from versatile_diffusion.worlds.postcards.training import PostcardsTraining

        assert isinstance(request.recipe, PostcardsRecipe)
        PostcardsTraining(request.recipe, request.folder, request.mixed_precision, request.start).finish(request.stage)

    def samples(self, seed: int, count: int) -> Iterable[WorldSample]:
        """See `World.samples`."""
        for postcard in Postcards(seed, count):
            yield WorldSample(postcard.image, postcard.caption, {SOUND.name: partial(_sound_of, postcard.scene)})

    def build_data(self, request: DataRequest) -> None:
        """See `World.build_data`."""
        if SOUND.name in request.also:
            from versatile_diffusion.worlds.postcards.sound import require_engines

            require_engines()
        super().build_data(request)

    def examples(self, task: str) -> Sequence[WorldExample]:
        """See `World.examples`."""
        return EXAMPLES.get(task, ())

    def repertoire(self) -> Repertoire:
        """See `World.repertoire`."""
        return repertoire()


def _sound_of(scene: Scene) -> object:
    from versatile_diffusion.worlds.postcards.sound import render_sound

    return render_sound(scene)


def _measure_flows(pipe: VersatileDiffusionPipeline, request: EvaluationRequest) -> WorldReport:
    from versatile_diffusion.worlds.postcards.attribute_classifier import load_classifier
    from versatile_diffusion.worlds.postcards.evaluation.flows import evaluate

    classifier = load_classifier(request.model)
    return evaluate(pipe, classifier, request.num, request.seed, request.steps, request.guidance_scale)


def _measure_applications(pipe: VersatileDiffusionPipeline, request: EvaluationRequest) -> WorldReport:
    from versatile_diffusion.worlds.postcards.attribute_classifier import load_classifier
    from versatile_diffusion.worlds.postcards.evaluation.applications import evaluate_applications

    classifier = load_classifier(request.model)
    return evaluate_applications(pipe, classifier, request.num, request.seed, request.steps, request.guidance_scale)


WORLD = PostcardsWorld(
    name="postcards",
    about="Little pictures of six subjects in places, weathers and styles, with captions, drawn from a seed.",
    stages=(*POSTCARDS_STAGES, MODEL),
    weights=Path(__file__).with_name("weights"),
    former_names=FORMER_NAMES,
    also=(SOUND.name,),
    evaluations=(
        Evaluation(
            "flows",
            "all four flows, on fresh postcards of seen and as many of held-out combinations",
            drawing="sheet",
            drawing_help="some of what was made",
            measure=_measure_flows,
            needs="torchmetrics",
        ),
        Evaluation(
            "applications",
            "mixing, editing, masks and focus instead of the flows",
            drawing="plot",
            drawing_help="the curves of the applications",
            measure=_measure_applications,
            drawing_needs="matplotlib",
        ),
    ),
)
