"""The scores of a model of emoji: what comes through of things, hands and treatments, seen and held out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter

import torch
from jaxtyping import Bool, Float
from rich.progress import Progress
from torch import Tensor

from versatile_diffusion.applications.versatile import VersatileDiffusionPipeline
from versatile_diffusion.evaluation.batches import batches
from versatile_diffusion.evaluation.exhibition import Exhibit, Section, exhibition
from versatile_diffusion.evaluation.fid import frechet_distance
from versatile_diffusion.evaluation.generation import progress_bar, quiet, require_enough
from versatile_diffusion.evaluation.maker import FLOWS, Maker
from versatile_diffusion.evaluation.nearest import nearest
from versatile_diffusion.modalities.images import to_pil
from versatile_diffusion.worlds.emoji.classifier import EmojiClassifier, EmojiFeatures
from versatile_diffusion.worlds.emoji.data.captions import CaptionReader
from versatile_diffusion.worlds.emoji.data.split import EmojiSplit
from versatile_diffusion.worlds.emoji.data.things import Thing, read_thing_list
from versatile_diffusion.worlds.emoji.evaluation.flows_report import EmojiReport, Figures
from versatile_diffusion.worlds.emoji.evaluation.measured import Measured, draw_measured
from versatile_diffusion.worlds.emoji.labels import LABELS
from versatile_diffusion.worlds.emoji.training_data import EmojiData

PARTS = {"seen": EmojiSplit.VALIDATION, "held_out": EmojiSplit.HELD_OUT}
SHOWN, SAID = 8, 5
_NOISE = 0x656D6F6A  # keeps the draws of evaluation apart from those of training


def evaluate(
    pipe: VersatileDiffusionPipeline,
    classifier: EmojiClassifier,
    data: Path,
    num: int = 256,
    seed: int = 1,
    steps: int = 25,
    guidance_scale: float | None = None,
    batch_size: int = 32,
    progress: bool = True,
) -> EmojiReport:
    """Measures all four flows of a model.

    Args:
        pipe: the model, with all its flows.
        classifier: reads the images.
        data: the folder of the data set.
        num: images of each part, 2 or more.
        seed: chooses the images, and of the noise; equal seeds give equal figures.
        steps: of the sampler.
        guidance_scale: of all flows; by default the model's own.
        batch_size: outputs made at once; makes no difference to the figures, but for rounding.
        progress: whether to show a progress bar.

    Raises:
        ValueError: if num is too small, or the model lacks a flow.
        ImportError: if torchmetrics is not installed.
    """
    require_enough(num)
    begin, things = perf_counter(), read_thing_list(data)
    settings = {"num": num, "seed": seed, "steps": steps, "guidance_scale": guidance_scale}
    found: dict[str, Mapping[str, Figures]] = {}
    sections: list[Section] = []
    with quiet(pipe), progress_bar(progress) as bar:
        for number, (name, split) in enumerate(PARTS.items()):
            asked = draw_measured(data, split, num, seed)
            made = _Made(Maker(pipe, bar, (_NOISE, seed, number), steps, guidance_scale, batch_size), asked)
            others = torch.stack(list(draw_measured(data, split, num, seed, skip=num).images))
            found[name] = {
                **_scores(classifier, things, asked, made),
                "fid": _distances(classifier, asked, made, others),
            }
            sections += _sections(name.replace("_", " "), asked, made)
            if split is EmojiSplit.HELD_OUT:
                sections.append(_beside_nearest(EmojiData(data, EmojiSplit.TRAIN), asked, made, bar))
        asked = draw_measured(data, EmojiSplit.STRANGER, num, seed)
        maker = Maker(pipe, bar, (_NOISE, seed, len(PARTS)), steps, guidance_scale, batch_size)
        said = [maker.texts(FLOWS[1], asked.images, turn) for turn in range(SAID)]
    found["stranger"] = {"image_to_text": _first_and_within(things, asked, said)}
    return EmojiReport(found, settings, exhibition(sections), perf_counter() - begin)


class _Made:
    """What the model made of the texts and images that it was asked about."""

    def __init__(self, maker: Maker, asked: Measured) -> None:
        self.images = maker.images(FLOWS[0], asked.texts)
        self.texts = maker.texts(FLOWS[1], asked.images)
        self.image_variations = maker.images(FLOWS[2], asked.images)
        self.text_variations = maker.texts(FLOWS[3], asked.texts)


def _scores(
    classifier: EmojiClassifier, things: Sequence[Thing], asked: Measured, made: _Made
) -> Mapping[str, Figures]:
    reader = CaptionReader(things)
    kept = [
        reader.read(a).thing == reader.read(b).thing for a, b in zip(asked.texts, made.text_variations, strict=True)
    ]
    same = [a == b for a, b in zip(asked.texts, made.text_variations, strict=True)]
    return {
        "text_to_image": _read(classifier, made.images, asked),
        "image_to_text": {"thing": _mean(_said(things, asked, made.texts))},
        "image_variation": _read(classifier, made.image_variations, asked),
        "text_variation": {"thing": _mean(torch.tensor(kept)), "unchanged": _mean(torch.tensor(same))},
        "classifier": _read(classifier, torch.stack(list(asked.images)), asked),
    }


def _distances(classifier: EmojiClassifier, asked: Measured, made: _Made, others: Float[Tensor, "n 3 h w"]) -> Figures:
    """How far images of texts are from drawn ones; the floor is what as many drawn ones get."""
    features = EmojiFeatures(classifier)
    drawn = torch.stack(list(asked.images))
    return {
        "distance": frechet_distance(features, others, made.images),
        "floor": frechet_distance(features, others, drawn),
    }


def _read(classifier: EmojiClassifier, images: Float[Tensor, "n 3 h w"], asked: Measured) -> Figures:
    """Shares of images that show what was asked. Of held-out cells, a hand counts where it is what is held out."""
    read = torch.cat([classifier.read(torch.stack(list(batch))) for batch in batches(list(images), 64)])
    right = read == asked.labels
    held = {"hand": torch.tensor(asked.by_hand), "treatment": torch.tensor(asked.by_treatment)}
    figures: dict[str, float] = {}
    for i, name in enumerate(LABELS):
        counted = held.get(name)
        counts = counted if counted is not None and counted.any() else torch.ones(len(right), dtype=torch.bool)
        figures[name] = _mean(right[counts, i])
    return figures


def _said(things: Sequence[Thing], asked: Measured, texts: Sequence[str]) -> Bool[Tensor, " n"]:
    """Whether each text names the thing, or says a keyword that is this thing's alone."""
    reader, own = CaptionReader(things), _own_keywords(things)
    right: list[bool] = []
    numbers: list[int] = asked.labels[:, 0].numpy().tolist()
    for thing, text in zip((things[number] for number in numbers), texts, strict=True):
        words = f" {' '.join(text.lower().replace(',', ' ').split())} "
        right.append(reader.read(text).thing == thing.id or any(f" {word} " in words for word in own[thing.id]))
    return torch.tensor(right)


def _own_keywords(things: Sequence[Thing]) -> Mapping[str, list[str]]:
    users: dict[str, int] = {}
    for thing in things:
        for word in thing.keywords:
            users[word] = users.get(word, 0) + 1
    return {thing.id: [word.lower() for word in thing.keywords if users[word] == 1] for thing in things}


def _first_and_within(things: Sequence[Thing], asked: Measured, turns: Sequence[Sequence[str]]) -> Figures:
    right = torch.stack([_said(things, asked, texts) for texts in turns])
    return {"first": _mean(right[0]), f"within_{len(turns)}": _mean(right.any(0))}


def _sections(where: str, asked: Measured, made: _Made) -> list[Section]:
    """The first outputs, not the best."""
    shown = range(min(SHOWN, len(asked.texts)))
    drawn, varied = ([to_pil(images[i]) for i in shown] for images in (made.images, made.image_variations))
    given = [to_pil(asked.images[i]) for i in shown]
    return [
        Section(f"Text to image: {where}", [Exhibit((drawn[i],), asked.texts[i]) for i in shown], SHOWN),
        Section(f"Image to text: {where}", [Exhibit((given[i],), made.texts[i]) for i in shown], SHOWN),
        Section(f"Image variation: {where}", [Exhibit((given[i], varied[i]), "") for i in shown], SHOWN // 2),
    ]


def _beside_nearest(learnt: EmojiData, asked: Measured, made: _Made, bar: Progress) -> Section:
    """Images of held-out cells beside what was learnt that looks most like them."""
    task = bar.add_task("nearest images", total=len(learnt))
    shown = made.images[:SHOWN]
    places = nearest(shown, learnt.images, lambda count: bar.advance(task, count))
    pairs = [
        (to_pil(image), to_pil(learnt.image_items(i, i + 1)[0]))
        for image, i in zip(shown, map(int, places), strict=True)
    ]
    exhibits = [Exhibit(pair, text) for pair, text in zip(pairs, asked.texts, strict=False)]
    return Section("Text to image: held out, beside the nearest image that was learnt from", exhibits, SHOWN // 2)


def _mean(right: Bool[Tensor, " n"]) -> float:
    return right.float().mean().item()
