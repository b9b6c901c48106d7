"""How well a model of emoji takes semantics and style apart: edits to another look, and variations by their focus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from versatile_diffusion.applications.versatile import VersatileDiffusionPipeline
from versatile_diffusion.evaluation.batches import batches
from versatile_diffusion.evaluation.generation import progress_bar, quiet, require_enough
from versatile_diffusion.evaluation.maker import Maker, stacked
from versatile_diffusion.pipeline.outputs import Outputs
from versatile_diffusion.worlds.emoji.classifier import EmojiClassifier
from versatile_diffusion.worlds.emoji.data.captions import instruction
from versatile_diffusion.worlds.emoji.data.catalog import treatments_of
from versatile_diffusion.worlds.emoji.data.hands import HANDS, Hand
from versatile_diffusion.worlds.emoji.data.split import EmojiSplit, holds_out_hand, holds_out_treatment
from versatile_diffusion.worlds.emoji.data.things import Thing
from versatile_diffusion.worlds.emoji.data.treatments import Treatment
from versatile_diffusion.worlds.emoji.evaluation.applications_report import (
    EditScore,
    EmojiApplicationsReport,
    FocusScore,
)
from versatile_diffusion.worlds.emoji.labels import HAND_NAMES, LABELS, TREATMENT_NAMES
from versatile_diffusion.worlds.emoji.training_data import EmojiData

FOCUS_LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
LOOKS = ("hand", "treatment")
_CHOICES, _NOISE = 0x6C6F6F6B, 0x65646974  # keep these draws apart from all others


@dataclass(frozen=True)
class Asked:
    """Images of seen cells, each with another look that is asked for.

    Attributes:
        images: in [0, 1].
        labels: what they show; see `EmojiData.labels`.
        looks: the hand, or the treatment.
    """

    images: Sequence[Float[Tensor, "3 h w"]]
    labels: Int64[Tensor, "n 3"]
    looks: Sequence[Hand | Treatment]


def evaluate_applications(
    pipe: VersatileDiffusionPipeline,
    classifier: EmojiClassifier,
    data: Path,
    num: int = 256,
    seed: int = 1,
    steps: int = 25,
    guidance_scale: float | None = None,
    batch_size: int = 32,
    progress: bool = True,
) -> EmojiApplicationsReport:
    """Measures a model on images that it did not learn from.

    Args:
        pipe: the model, with all its flows.
        classifier: reads the images.
        data: the folder of the data set.
        num: images of each kind, 2 or more.
        seed: chooses the images and what is asked of them, and of the noise.
        steps: of the sampler.
        guidance_scale: of all flows; by default the model's own.
        batch_size: outputs made at once.
        progress: whether to show a progress bar.

    Raises:
        ValueError: if num is too small, or the model lacks a flow.
    """
    require_enough(num)
    seen = EmojiData(data, EmojiSplit.VALIDATION)
    with quiet(pipe), progress_bar(progress) as bar:
        maker = Maker(pipe, bar, (_NOISE, seed), steps, guidance_scale, batch_size)
        edits = {
            part: {kind: _edited(maker, classifier, ask(seen, kind, held_out, num, seed)) for kind in LOOKS}
            for part, held_out in (("seen", False), ("held_out", True))
        }
        chosen = _drawn(seen, range(len(seen)), num, seed)
        images, labels = [seen.image_items(i, i + 1)[0] for i in chosen], seen.labels[torch.tensor(chosen)]
        focus = {level: _focused(maker, classifier, images, labels, level) for level in FOCUS_LEVELS}
    settings = {"num": num, "seed": seed, "steps": steps, "guidance_scale": guidance_scale}
    return EmojiApplicationsReport(edits, focus, settings)


def ask(data: EmojiData, kind: str, held_out: bool, num: int, seed: int) -> Asked:
    """Draws plain images, and asks another look of each.

    Args:
        data: to draw from.
        kind: one of `LOOKS`.
        held_out: whether the thing in its new look is one that is never learnt from.
        num: how many, or as many as there are if these are fewer.
        seed: equal ones ask the same.
    """
    plain = [i for i, line in enumerate(data.lines) if line["treatment"] == "plain"]
    rng = np.random.default_rng((_CHOICES, seed, LOOKS.index(kind), held_out))
    looks: dict[int, Hand | Treatment] = {}
    for i in _drawn(data, plain, len(plain), seed):
        thing, hand = data.things[int(data.labels[i, 0])], HANDS[int(data.labels[i, 1])]
        choices = _looks(thing, hand, kind, held_out)
        if choices and len(looks) < num:
            looks[i] = choices[int(rng.integers(len(choices)))]
    chosen = list(looks)
    return Asked(
        [data.image_items(i, i + 1)[0] for i in chosen], data.labels[torch.tensor(chosen)], list(looks.values())
    )


def _looks(thing: Thing, hand: Hand, kind: str, held_out: bool) -> Sequence[Hand | Treatment]:
    """Other hands of a thing, or its treatments, which are all held out or all not."""
    if kind == "hand":
        others = [each for each in HANDS if each.family != hand.family]
        return [each for each in others if holds_out_hand(thing.id, each.family) is held_out]
    return [each for each in treatments_of(thing)[1:] if holds_out_treatment(thing.id, each.name) is held_out]


def _drawn(data: EmojiData, places: Sequence[int], num: int, seed: int) -> list[int]:
    order: list[int] = np.random.default_rng((_CHOICES, seed, len(data))).permutation(len(places))[:num].tolist()
    return [places[i] for i in order]


def _edited(maker: Maker, classifier: EmojiClassifier, asked: Asked) -> EditScore:
    def run(images: list[Tensor], prompts: list[str], **options: Any) -> Outputs:
        return maker.pipe.edit(images, prompts, **options)

    prompts = [instruction(look) for look in asked.looks]
    kind = LOOKS[isinstance(asked.looks[0], Treatment)]
    made = maker.make(f"edit: {kind}", run, asked.images, prompts, key=(LOOKS.index(kind),))
    read, column = _read(classifier, made), LABELS.index(kind)
    names = {"hand": HAND_NAMES, "treatment": TREATMENT_NAMES}[kind]
    wanted = torch.tensor([names.index(look.name) for look in asked.looks])
    return EditScore(_mean(read[:, column] == wanted), _mean(read[:, 0] == asked.labels[:, 0]))


def _focused(
    maker: Maker,
    classifier: EmojiClassifier,
    images: Sequence[Float[Tensor, "3 h w"]],
    labels: Int64[Tensor, "n 3"],
    level: float,
) -> FocusScore:
    """The style of a treated image is its treatment, which may hide the hand; that of a plain one is its hand."""

    def run(given: list[Tensor], **options: Any) -> Outputs:
        return maker.pipe.image_variation(given, focus=level, **options)

    read = _read(classifier, maker.make(f"focus {level:g}", run, images, key=(len(LOOKS),)))
    kept = read == labels
    treated = labels[:, 2] != TREATMENT_NAMES.index("plain")
    return FocusScore(_mean(kept[:, 0]), _mean(kept[:, 2] & (kept[:, 1] | treated)))


def _read(classifier: EmojiClassifier, images: Sequence[object]) -> Int64[Tensor, "n 3"]:
    return torch.cat([classifier.read(torch.stack(list(batch))) for batch in batches(list(stacked(images)), 64)])


def _mean(right: Bool[Tensor, " n"]) -> float:
    return right.float().mean().item()
