"""The scores of a model of postcards, on fresh postcards of seen and of held-out combinations of attributes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np
import torch
from jaxtyping import Float, UInt8
from rich.progress import Progress
from torch import Tensor

from versatile_diffusion._moved import former_names
from versatile_diffusion.applications.versatile import VersatileDiffusionPipeline
from versatile_diffusion.evaluation.attribute_scores import (
    VariationScore,
    diversity,
    score,
    score_captions,
    score_rewrites,
)
from versatile_diffusion.evaluation.exhibition import Exhibit, Section, exhibition
from versatile_diffusion.evaluation.fid import frechet_distance
from versatile_diffusion.evaluation.generation import progress_bar, quiet, require_enough, seed_of
from versatile_diffusion.evaluation.maker import FLOWS, Maker
from versatile_diffusion.evaluation.retrieval import retrieval_accuracy
from versatile_diffusion.modalities import ImageModality, TextModality
from versatile_diffusion.modalities.images import to_pil
from versatile_diffusion.worlds.postcards.attribute_classifier import AttributeClassifier, ClassifierFeatures
from versatile_diffusion.worlds.postcards.data import (
    ATTRIBUTES,
    STOP,
    Postcard,
    Postcards,
    Scene,
    Split,
    parse,
    render,
    tokenize,
)
from versatile_diffusion.worlds.postcards.evaluation.flows_report import (
    AutoencoderScores,
    BothSplits,
    FlowScores,
    FlowsReport,
    FlowsSettings,
)
from versatile_diffusion.worlds.postcards.evaluation.stage_scores import (
    read_attributes,
    reconstruction_accuracy,
    text_reconstruction_accuracy,
)

__getattr__ = former_names(
    __name__,
    {
        "has_oracle": "versatile_diffusion.worlds.postcards.attribute_classifier:has_classifier",
        "load_oracle": "versatile_diffusion.worlds.postcards.attribute_classifier:load_classifier",
    },
)

SPLITS = (Split.TRAIN, Split.HELD_OUT)
SHOWN, CHOICES = 8, 64
_POSTCARDS, _NOISE = 0x706F7374, 0x6E6F6973  # keep the draws of evaluation apart from those of training


def evaluate(
    pipe: VersatileDiffusionPipeline,
    classifier: AttributeClassifier,
    num: int = 256,
    seed: int = 1,
    steps: int = 25,
    guidance_scale: float | None = None,
    batch_size: int = 32,
    progress: bool = True,
) -> FlowsReport:
    """Measures all four flows of a model.

    Args:
        pipe: the model, with all its flows.
        classifier: reads the images, and gives their size.
        num: postcards of each split, 2 or more.
        seed: of the postcards and of the noise; equal seeds give equal figures. Training never sees these postcards,
            whatever its seed.
        steps: of the sampler.
        guidance_scale: of all flows; by default the model's own.
        batch_size: outputs made at once; makes no difference to the figures, but for rounding.
        progress: whether to show a progress bar.

    Raises:
        ValueError: if num is too small, or the model lacks a flow.
        ImportError: if torchmetrics is not installed.
    """
    require_enough(num)
    begin = perf_counter()
    settings = FlowsSettings(num, seed, steps, guidance_scale, batch_size, size=classifier.size)
    with quiet(pipe), progress_bar(progress) as bar:
        fresh = [_draw(settings, split, bar) for split in SPLITS]
        makers = [
            Maker(pipe, bar, (_NOISE, seed, number), steps, guidance_scale, batch_size, settings.size)
            for number in range(len(SPLITS))
        ]
        made = [_make(maker, postcards) for maker, postcards in zip(makers, fresh, strict=True)]
        flows = [_score(classifier, *pair) for pair in zip(fresh, made, strict=True)]
        ceilings = [
            _score_autoencoders(pipe, classifier, postcards)
            for postcards in bar.track(fresh, description="autoencoders")
        ]
    read = [score(cards.truths, read_attributes(classifier, cards.images), ATTRIBUTES) for cards in fresh]
    sheet = exhibition([section for pair in zip(SPLITS, fresh, made, strict=True) for section in _sections(*pair)])
    return FlowsReport(
        BothSplits(*flows), BothSplits(*read), BothSplits(*ceilings), settings, sheet, perf_counter() - begin
    )


@dataclass(frozen=True)
class _Fresh:
    """Postcards to measure with.

    Attributes:
        postcards: what the model is asked about.
        images: theirs, in [0, 1].
        redrawn: other images of the same attributes.
        others: images of other postcards of the same split, to compare sets of images with.
    """

    postcards: Sequence[Postcard]
    images: Float[Tensor, "n 3 h w"]
    redrawn: Float[Tensor, "n 3 h w"]
    others: Float[Tensor, "n 3 h w"]

    @property
    def scenes(self) -> list[Scene]:
        return [postcard.scene for postcard in self.postcards]

    @property
    def truths(self) -> list[dict[str, str]]:
        return [scene.attributes for scene in self.scenes]

    @property
    def captions(self) -> list[str]:
        return [postcard.caption for postcard in self.postcards]


@dataclass(frozen=True)
class _Made:
    """What the model made of the captions and images of postcards."""

    images: Float[Tensor, "n 3 h w"]
    captions: list[str]
    image_variations: Float[Tensor, "n 3 h w"]
    caption_variations: list[str]


def _draw(settings: FlowsSettings, split: Split, bar: Progress) -> _Fresh:
    num, size = settings.num, settings.size
    source = Postcards(seed_of(_POSTCARDS, settings.seed), 2 * num, split, size)
    drawn = [source[i] for i in bar.track(range(2 * num), description=f"drawing postcards ({_name(split)})")]
    asked, others = drawn[:num], drawn[num:]
    redrawn = [render(replace(a.scene, seed=b.scene.seed), size) for a, b in zip(asked, others, strict=True)]
    return _Fresh(asked, _tensor([p.image for p in asked]), _tensor(redrawn), _tensor([p.image for p in others]))


def _make(maker: Maker, fresh: _Fresh) -> _Made:
    images = list(fresh.images)
    return _Made(
        images=maker.images(FLOWS[0], fresh.captions),
        captions=maker.texts(FLOWS[1], images),
        image_variations=maker.images(FLOWS[2], images),
        caption_variations=maker.texts(FLOWS[3], fresh.captions),
    )


def _score(classifier: AttributeClassifier, fresh: _Fresh, made: _Made) -> FlowScores:
    kept = score(fresh.truths, read_attributes(classifier, made.image_variations), ATTRIBUTES)
    named = [parse(text) for text in fresh.captions]
    features = ClassifierFeatures(classifier)
    return FlowScores(
        text_to_image=score(named, read_attributes(classifier, made.images), ATTRIBUTES),
        image_to_text=score_captions([parse(text) for text in made.captions], fresh.truths, ATTRIBUTES),
        image_variation=VariationScore(
            kept.accuracy, kept.per_attribute, diversity(fresh.images, made.image_variations, fresh.redrawn)
        ),
        text_variation=score_rewrites(
            named,
            [parse(text) for text in made.caption_variations],
            [same_words(*pair) for pair in zip(fresh.captions, made.caption_variations, strict=True)],
            ATTRIBUTES,
        ),
        fid=frechet_distance(features, fresh.others, made.images),
        fid_floor=frechet_distance(features, fresh.others, fresh.images),
    )


def same_words(text: str, other: str) -> bool:
    """Returns whether two texts are the same but for case, spaces and the final stop."""
    return _words(text) == _words(other)


def _words(text: str) -> list[str]:
    tokens = tokenize(text)
    return tokens[:-1] if tokens[-1:] == [STOP] else tokens


def _score_autoencoders(
    pipe: VersatileDiffusionPipeline, classifier: AttributeClassifier, fresh: _Fresh
) -> AutoencoderScores:
    image, text = pipe.modalities["image"], pipe.modalities["text"]
    assert isinstance(image, ImageModality) and isinstance(text, TextModality)
    images, choices = list(fresh.images), min(CHOICES, len(fresh.images))
    return AutoencoderScores(
        reconstruction_accuracy(classifier, image, images, fresh.scenes),
        text_reconstruction_accuracy(text, fresh.captions),
        retrieval_accuracy(image, text, images, fresh.captions, choices),
        choices,
    )


def _sections(split: Split, fresh: _Fresh, made: _Made) -> list[Section]:
    """The first outputs, not the best."""
    asked, drawn, varied = (
        [to_pil(image) for image in images[:SHOWN]] for images in (fresh.images, made.images, made.image_variations)
    )
    pairs = list(zip(asked, varied, strict=True))[: SHOWN // 2]
    texts = list(zip(fresh.captions, made.caption_variations, strict=True))[: SHOWN // 2]
    where = f"{_name(split)} combinations"
    return [
        Section(
            f"Text to image: {where}",
            [Exhibit((image,), text) for image, text in zip(drawn, fresh.captions, strict=False)],
            SHOWN,
        ),
        Section(
            f"Image to text: {where}",
            [Exhibit((image,), text) for image, text in zip(asked, made.captions, strict=False)],
            SHOWN,
        ),
        Section(f"Image variation (right) of a image (left): {where}", [Exhibit(p, "") for p in pairs], SHOWN // 2),
        Section(f"Text variation: {where}", [Exhibit((), f"Input: {a}\nOutput: {b}") for a, b in texts], SHOWN // 2),
    ]


def _tensor(images: Sequence[UInt8[np.ndarray, "h w 3"]]) -> Float[Tensor, "n 3 h w"]:
    return torch.as_tensor(np.stack(images)).permute(0, 3, 1, 2).float() / 255


def _name(split: Split) -> str:
    return "seen" if split is Split.TRAIN else "held-out"
