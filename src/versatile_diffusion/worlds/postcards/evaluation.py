"""The scores of a model of postcards, on fresh postcards of seen and of held-out combinations of attributes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, UInt8
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Generator, Tensor

from versatile_diffusion.applications.versatile import VersatileDiffusionPipeline
from versatile_diffusion.checkpoints import CheckpointError
from versatile_diffusion.checkpoints.sources import locate
from versatile_diffusion.context import Context
from versatile_diffusion.evaluation.fid import frechet_distance
from versatile_diffusion.evaluation.scores import VariationScore, diversity, score, score_captions, score_rewrites
from versatile_diffusion.flows import Flow
from versatile_diffusion.modalities import ImageModality, TextModality
from versatile_diffusion.modalities.images import to_pil
from versatile_diffusion.worlds.postcards import Postcard, Postcards, Scene, Split, parse, render
from versatile_diffusion.worlds.postcards.attribute_classifier import Oracle
from versatile_diffusion.worlds.postcards.report import AutoencoderScores, BothSplits, FlowScores, Report, Settings
from versatile_diffusion.worlds.postcards.sheet import Exhibit, Section, exhibition
from versatile_diffusion.worlds.postcards.stage_scores import (
    batches,
    read_attributes,
    reconstruction_accuracy,
    retrieval_accuracy,
    text_reconstruction_accuracy,
)

FLOWS = tuple(Flow.parse(name) for name in ("text-to-image", "image-to-text", "image-variation", "text-variation"))
SPLITS = (Split.TRAIN, Split.HELD_OUT)
SHOWN, CHOICES = 8, 64
_POSTCARDS, _NOISE = 0x706F7374, 0x6E6F6973  # keep the draws of evaluation apart from those of training


def has_oracle(source: str | Path) -> bool:
    """Whether an oracle was saved with a model; see `load_oracle`."""
    return (locate(source) / "oracle").is_dir()


def load_oracle(source: str | Path) -> Oracle:
    """The oracle that was saved with a model.

    Args:
        source: what the model is called, "postcards" or a folder.

    Raises:
        CheckpointError: if there is no such model, or no oracle in its folder.
    """
    folder = locate(source) / "oracle"
    if not folder.is_dir():
        raise CheckpointError(
            f"{folder.parent} holds no oracle, which `vd train postcards` saves with a model. Copy that folder here."
        )
    oracle = cast(Oracle, Oracle.from_pretrained(folder, torch_dtype=torch.float32, local_files_only=True))
    oracle.register_to_config(_name_or_path="oracle")  # where it lay is nobody's business when it is saved again
    return oracle.eval()


def evaluate(
    pipe: VersatileDiffusionPipeline,
    oracle: Oracle,
    num: int = 256,
    seed: int = 1,
    steps: int = 25,
    guidance_scale: float | None = None,
    batch_size: int = 32,
    progress: bool = True,
) -> Report:
    """Measures all four flows of a model.

    Args:
        pipe: the model, with all its flows.
        oracle: reads the pictures, and gives their size.
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
    if num < 2:
        raise ValueError(f"num must be 2 or more, got {num}.")
    begin = perf_counter()
    settings = Settings(num, seed, steps, guidance_scale, batch_size, size=oracle.config["size"])
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with quiet(pipe), Progress(*columns, disable=not progress) as bar:
        fresh = [_draw(settings, split, bar) for split in SPLITS]
        makers = [_Maker(pipe, settings, split, bar) for split in SPLITS]
        made = [_make(maker, postcards) for maker, postcards in zip(makers, fresh, strict=True)]
        flows = [_score(oracle, *pair) for pair in zip(fresh, made, strict=True)]
        ceilings = [
            _score_autoencoders(pipe, oracle, postcards) for postcards in bar.track(fresh, description="autoencoders")
        ]
    read = [score(postcards.truths, read_attributes(oracle, postcards.pictures)) for postcards in fresh]
    sheet = exhibition([section for pair in zip(SPLITS, fresh, made, strict=True) for section in _sections(*pair)])
    return Report(BothSplits(*flows), BothSplits(*read), BothSplits(*ceilings), settings, sheet, perf_counter() - begin)


@dataclass(frozen=True)
class _Fresh:
    """Postcards to measure with.

    Attributes:
        postcards: what the model is asked about.
        pictures: theirs, in [0, 1].
        redrawn: other pictures of the same attributes.
        others: pictures of other postcards of the same split, to compare sets of pictures with.
    """

    postcards: Sequence[Postcard]
    pictures: Float[Tensor, "n 3 h w"]
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
    """What the model made of the captions and pictures of postcards."""

    pictures: Float[Tensor, "n 3 h w"]
    captions: list[str]
    picture_variations: Float[Tensor, "n 3 h w"]
    caption_variations: list[str]


def _draw(settings: Settings, split: Split, bar: Progress) -> _Fresh:
    num, size = settings.num, settings.size
    source = Postcards(seed_of(_POSTCARDS, settings.seed), 2 * num, split, size)
    drawn = [source[i] for i in bar.track(range(2 * num), description=f"drawing postcards ({_name(split)})")]
    asked, others = drawn[:num], drawn[num:]
    redrawn = [render(replace(a.scene, seed=b.scene.seed), size) for a, b in zip(asked, others, strict=True)]
    return _Fresh(asked, _tensor([p.image for p in asked]), _tensor(redrawn), _tensor([p.image for p in others]))


class _Maker:
    """Runs flows on data of any length; each output has a generator of its own, whatever its batch."""

    def __init__(self, pipe: VersatileDiffusionPipeline, settings: Settings, split: Split, bar: Progress) -> None:
        self.pipe, self.settings, self.split, self.bar = pipe, settings, split, bar

    def __call__(self, flow: Flow, data: Sequence[Any]) -> list[Any]:
        settings, made = self.settings, []
        task = self.bar.add_task(f"{flow} ({_name(self.split)})", total=len(data))
        size: dict[str, Any] = dict.fromkeys(("height", "width"), settings.size) if flow.output == "image" else {}
        generators = self._generators(flow)
        for batch in batches(data, settings.batch_size):
            made += self.pipe.generate(
                flow.output,
                Context(flow.context, list(batch)),
                num_inference_steps=settings.steps,
                guidance_scale=settings.guidance_scale,
                generator=[next(generators) for _ in batch],
                output_type="pt",
                **size,
            ).items
            self.bar.advance(task, len(batch))
        return made

    def _generators(self, flow: Flow) -> Iterator[Generator]:
        where = (self.settings.seed, SPLITS.index(self.split), FLOWS.index(flow))
        return (Generator().manual_seed(seed_of(_NOISE, *where, index)) for index in count())


def _make(maker: _Maker, fresh: _Fresh) -> _Made:
    pictures = list(fresh.pictures)
    data = {"text": fresh.captions, "image": pictures}
    drawn, described, varied, rewritten = (maker(flow, data[flow.context]) for flow in FLOWS)
    return _Made(torch.stack(drawn).cpu(), described, torch.stack(varied).cpu(), rewritten)


def _score(oracle: Oracle, fresh: _Fresh, made: _Made) -> FlowScores:
    kept = score(fresh.truths, read_attributes(oracle, made.picture_variations))
    return FlowScores(
        text_to_image=score([parse(text) for text in fresh.captions], read_attributes(oracle, made.pictures)),
        image_to_text=score_captions(made.captions, fresh.truths),
        image_variation=VariationScore(
            kept.accuracy, kept.per_attribute, diversity(fresh.pictures, made.picture_variations, fresh.redrawn)
        ),
        text_variation=score_rewrites(fresh.captions, made.caption_variations),
        fid=frechet_distance(oracle, fresh.others, made.pictures),
        fid_floor=frechet_distance(oracle, fresh.others, fresh.pictures),
    )


def _score_autoencoders(pipe: VersatileDiffusionPipeline, oracle: Oracle, fresh: _Fresh) -> AutoencoderScores:
    image, text = cast(ImageModality, pipe.modalities["image"]), cast(TextModality, pipe.modalities["text"])
    pictures, choices = list(fresh.pictures), min(CHOICES, len(fresh.pictures))
    return AutoencoderScores(
        reconstruction_accuracy(oracle, image, pictures, fresh.scenes),
        text_reconstruction_accuracy(text, fresh.captions),
        retrieval_accuracy(image, text, pictures, fresh.captions, choices),
        choices,
    )


def _sections(split: Split, fresh: _Fresh, made: _Made) -> list[Section]:
    """The first outputs, not the best."""
    asked, drawn, varied = (
        [to_pil(picture) for picture in pictures[:SHOWN]]
        for pictures in (fresh.pictures, made.pictures, made.picture_variations)
    )
    pairs = list(zip(asked, varied, strict=True))[: SHOWN // 2]
    texts = list(zip(fresh.captions, made.caption_variations, strict=True))[: SHOWN // 2]
    where = f"{_name(split)} combinations"
    return [
        Section(
            f"Text to image: {where}",
            [Exhibit((picture,), text) for picture, text in zip(drawn, fresh.captions, strict=False)],
            SHOWN,
        ),
        Section(
            f"Image to text: {where}",
            [Exhibit((picture,), text) for picture, text in zip(asked, made.captions, strict=False)],
            SHOWN,
        ),
        Section(f"Image variation (right) of a picture (left): {where}", [Exhibit(p, "") for p in pairs], SHOWN // 2),
        Section(f"Text variation: {where}", [Exhibit((), f"Input: {a}\nOutput: {b}") for a, b in texts], SHOWN // 2),
    ]


@contextmanager
def quiet(pipe: VersatileDiffusionPipeline) -> Iterator[None]:
    """The pipeline without its own progress bars."""
    before: dict[str, Any] = getattr(pipe, "_progress_bar_config", {})
    pipe.set_progress_bar_config(**before | {"disable": True})
    try:
        yield
    finally:
        pipe.set_progress_bar_config(**before)


def seed_of(*key: int) -> int:
    """A seed for each key, unlike those of all others."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])


def _tensor(images: Sequence[UInt8[np.ndarray, "h w 3"]]) -> Float[Tensor, "n 3 h w"]:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255


def _name(split: Split) -> str:
    return "seen" if split is Split.TRAIN else "held-out"
