"""How well a model of postcards does what the paper shows beyond its four flows, as the classifier reads it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from numpy import ndarray
from torch import Tensor

from versatile_diffusion.applications.versatile import VersatileDiffusionPipeline
from versatile_diffusion.context import Context
from versatile_diffusion.evaluation.generation import progress_bar, quiet, require_enough, seed_of
from versatile_diffusion.evaluation.maker import Maker, stacked
from versatile_diffusion.worlds.postcards.attribute_classifier import AttributeClassifier
from versatile_diffusion.worlds.postcards.data import (
    ATTRIBUTES,
    Postcards,
    Scene,
    Split,
    caption,
    instruction,
    render,
)
from versatile_diffusion.worlds.postcards.evaluation.applications_report import (
    ApplicationsReport,
    Blend,
    ChangedAndKept,
    Masked,
)
from versatile_diffusion.worlds.postcards.evaluation.stage_scores import read_attributes

TEXT_SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
FOCUS_LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
STYLE = "style"
SEMANTIC = tuple(name for name in ATTRIBUTES if name != STYLE)
_POSTCARDS, _NOISE, _CHANGES = 0x6170706C, 0x64726177, 0x65646974  # keep these draws apart from all others

Attributes = Mapping[str, str]
Make = Callable[..., Any]
"""Makes pictures of a batch of rows of data, with the options of `generate`."""


def evaluate_applications(
    pipe: VersatileDiffusionPipeline,
    classifier: AttributeClassifier,
    num: int = 128,
    seed: int = 1,
    steps: int = 25,
    guidance_scale: float | None = None,
    batch_size: int = 32,
    progress: bool = True,
) -> ApplicationsReport:
    """Measures a model on fresh postcards.

    Args:
        pipe: the model.
        classifier: reads the images, and gives their size.
        num: postcards, two or more.
        seed: of the postcards, of the changes asked for and of the noise.
        steps: of the sampler.
        guidance_scale: of the pictures; by default the model's own.
        batch_size: outputs made at once.
        progress: whether to show a progress bar.

    Raises:
        ValueError: if num is too small.
    """
    with _bench(pipe, classifier, num, seed, steps, guidance_scale, batch_size, progress) as bench:
        return ApplicationsReport(
            dual_guided={share: _dual_guided(bench, share) for share in TEXT_SHARES},
            edit=_edit(bench),
            instructed=_instructed(bench),
            masked=_masked(bench),
            focus={level: _focus(bench, level) for level in FOCUS_LEVELS},
            blend=_blend(bench),
            settings={"num": num, "seed": seed, "steps": steps, "guidance_scale": guidance_scale},
        )


def compare_edits(
    pipe: VersatileDiffusionPipeline,
    classifier: AttributeClassifier,
    ways: Mapping[str, Mapping[str, Any]],
    num: int = 84,
    seed: int = 1,
    steps: int = 25,
    batch_size: int = 32,
    progress: bool = True,
) -> dict[str, ChangedAndKept]:
    """Measures ways to edit by words, all with the same postcards, changes and noise.

    Args:
        ways: options of `edit`, by name.
        pipe, classifier, num, seed, steps, batch_size, progress: see `evaluate_applications`.

    Raises:
        ValueError: if num is too small.
    """
    with _bench(pipe, classifier, num, seed, steps, None, batch_size, progress) as bench:
        return {name: _edit(bench, **how)["all"] for name, how in ways.items()}


@contextmanager
def _bench(
    pipe: VersatileDiffusionPipeline,
    classifier: AttributeClassifier,
    num: int,
    seed: int,
    steps: int,
    guidance_scale: float | None,
    batch_size: int,
    progress: bool,
) -> Generator[_Bench]:
    require_enough(num)
    source = Postcards(seed_of(_POSTCARDS, seed), num, Split.ALL)
    scenes = [source.scene(i) for i in range(num)]
    with quiet(pipe), progress_bar(progress) as bar:
        yield _Bench(Maker(pipe, bar, (_NOISE, seed), steps, guidance_scale, batch_size), classifier, scenes, seed)


@dataclass(frozen=True)
class _Bench:
    """A model, and the postcards that it is tried on."""

    maker: Maker
    classifier: AttributeClassifier
    scenes: Sequence[Scene]
    seed: int

    @property
    def pipe(self) -> VersatileDiffusionPipeline:
        return self.maker.pipe

    def images(self, scenes: Sequence[Scene]) -> list[Float[Tensor, "3 h w"]]:
        size = self.classifier.size
        return [torch.as_tensor(render(scene, size)).permute(2, 0, 1) / 255 for scene in scenes]

    def read(self, name: str, make: Make, *data: Sequence[Any]) -> list[dict[str, str]]:
        """Returns what the classifier reads of what is made of each row of the data."""
        return read_attributes(self.classifier, stacked(self.maker.make(name, make, *data)))

    def changes(self, attribute: str | None = None) -> list[tuple[str, str]]:
        """Returns for each scene an attribute, by turns unless it is given, and another value for it."""
        rng = np.random.default_rng((_CHANGES, self.seed))
        names = [attribute or list(ATTRIBUTES)[i % len(ATTRIBUTES)] for i in range(len(self.scenes))]
        others = [
            [value for value in ATTRIBUTES[name] if value != scene.attributes[name]]
            for name, scene in zip(names, self.scenes, strict=True)
        ]
        return [(name, values[rng.integers(len(values))]) for name, values in zip(names, others, strict=True)]


def _dual_guided(bench: _Bench, share: float) -> ChangedAndKept:
    """The style from a text, everything else from a picture."""
    changes = bench.changes(STYLE)
    rng = np.random.default_rng((_CHANGES, bench.seed))
    wanted = [replace(scene, style=style) for scene, (_, style) in zip(bench.scenes, changes, strict=True)]
    texts = [caption(scene, rng, [STYLE]) for scene in wanted]

    def make(prompts: list[str], images: list[Tensor], **options: Any) -> Any:
        return bench.pipe.dual_guided(prompts, images, text_to_image_strength=share, **options)

    read = bench.read(f"dual-guided, text {share:.0%}", make, texts, bench.images(bench.scenes))
    return _kept(bench.scenes, changes, read)


def _edit(bench: _Bench, **how: Any) -> dict[str, ChangedAndKept]:
    """One attribute of each picture changed by the words for its old and its new value."""
    changes = bench.changes()
    removed = [scene.attributes[name] for scene, (name, _) in zip(bench.scenes, changes, strict=True)]

    def make(given: list[Tensor], remove: list[str], add: list[str], **options: Any) -> Any:
        return bench.pipe.edit(given, remove=remove, add=add, **how, **options)

    read = bench.read("edit by words", make, bench.images(bench.scenes), removed, [value for _, value in changes])
    return _by_attribute(bench.scenes, changes, read)


def _instructed(bench: _Bench) -> dict[str, ChangedAndKept]:
    """One attribute of each picture changed by an instruction, which does not say what it takes the place of."""
    changes = bench.changes()
    rng = np.random.default_rng((_CHANGES, bench.seed))
    prompts = [instruction(name, value, rng) for name, value in changes]

    def make(given: list[Tensor], prompt: list[str], **options: Any) -> Any:
        return bench.pipe.edit(given, prompt=prompt, **options)

    read = bench.read("edit by instruction", make, bench.images(bench.scenes), prompts)
    return _by_attribute(bench.scenes, changes, read)


def _masked(bench: _Bench) -> Masked:
    """Variations of pictures with and without their subjects hidden."""
    images = bench.images(bench.scenes)
    masks = [subject_mask(scene, bench.classifier.size) for scene in bench.scenes]

    def make(given: list[Tensor], masks: list[Any], **options: Any) -> Any:
        return bench.pipe.generate("image", Context("image", given, mask=masks), **options)

    def shown(name: str, masks: Sequence[Any]) -> float:
        read = bench.read(name, make, images, masks)
        return _mean(r["subject"] == scene.subject for r, scene in zip(read, bench.scenes, strict=True))

    return Masked(shown("unmasked", [None] * len(images)), shown("subject masked", masks))


def _focus(bench: _Bench, level: float) -> dict[str, float]:
    def make(given: list[Tensor], **options: Any) -> Any:
        return bench.pipe.image_variation(given, focus=level, **options)

    read = bench.read(f"focus {level}", make, bench.images(bench.scenes))
    pairs = list(zip(bench.scenes, read, strict=True))
    return {
        "semantic": _mean(r[name] == scene.attributes[name] for scene, r in pairs for name in SEMANTIC),
        "style": _mean(r[STYLE] == scene.style for scene, r in pairs),
    }


def _blend(bench: _Bench) -> Blend:
    """Each picture with the next one, half and half."""
    seconds = [*bench.scenes[1:], bench.scenes[0]]

    def make(first: list[Tensor], second: list[Tensor], **options: Any) -> Any:
        return bench.pipe.generate("image", [Context("image", first), Context("image", second)], **options)

    read = bench.read("blend", make, bench.images(bench.scenes), bench.images(seconds))
    rows = [
        (r[name], a.attributes[name], b.attributes[name])
        for r, a, b in zip(read, bench.scenes, seconds, strict=True)
        for name in ATTRIBUTES
        if a.attributes[name] != b.attributes[name]
    ]
    first, second = _mean(r == a for r, a, _ in rows), _mean(r == b for r, _, b in rows)
    return Blend(first, second, 1 - first - second)


def subject_mask(scene: Scene, size: int) -> Bool[ndarray, "size size"]:
    """Returns what is left to be seen where the subject is hidden: True where no subject changes the picture."""
    plain = replace(scene, style="postcard", weather="clear")
    drawn: list[UInt8[ndarray, "size size 3"]] = [
        render(replace(plain, subject=subject, color=color), size)
        for subject in dict.fromkeys((scene.subject, *ATTRIBUTES["subject"][:2]))
        for color in ("red", "white")
    ]
    differs = (np.stack(drawn).max(0) != np.stack(drawn).min(0)).any(-1)
    padded = np.pad(differs, 2)
    grown = [padded[y : y + size, x : x + size] for y in range(5) for x in range(5)]  # the styles move edges a little
    return ~np.any(grown, axis=0)


def _by_attribute(
    scenes: Sequence[Scene], changes: Sequence[tuple[str, str]], read: Sequence[Attributes]
) -> dict[str, ChangedAndKept]:
    """What became of the pictures, by the attribute that was to change, and of all."""
    rows = list(zip(scenes, changes, read, strict=True))
    groups = {name: [row for row in rows if row[1][0] == name] for name in ATTRIBUTES} | {"all": rows}
    return {name: _kept(*map(list, zip(*group, strict=True))) for name, group in groups.items() if group}


def _kept(scenes: Sequence[Scene], changes: Sequence[tuple[str, str]], read: Sequence[Attributes]) -> ChangedAndKept:
    rows = list(zip(scenes, changes, read, strict=True))
    return ChangedAndKept(
        changed=_mean(r[name] == value for _, (name, value), r in rows),
        kept=_mean(r[o] == scene.attributes[o] for scene, (name, _), r in rows for o in ATTRIBUTES if o != name),
    )


def _mean(truths: Iterator[bool] | Any) -> float:
    values = list(truths)
    return sum(values) / len(values) if values else float("nan")
