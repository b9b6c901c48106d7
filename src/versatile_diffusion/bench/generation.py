"""A model at work: one image, four texts, and images in batches. Every round has prompts and seeds of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch

from versatile_diffusion.applications.versatile import VersatileDiffusionPipeline
from versatile_diffusion.bench.report import Figure, Result, Settings
from versatile_diffusion.bench.timing import alternate, ratios, seconds, timed
from versatile_diffusion.bundled import DRAWN_WORLD
from versatile_diffusion.devices import choose_device, choose_dtype
from versatile_diffusion.sampling.presets import SAMPLING_PRESETS, SamplingPreset
from versatile_diffusion.worlds.base import WorldSample
from versatile_diffusion.worlds.registry import get_world

_BATCHES = (1, 4, 16, 64)
_TEXTS = 4
_LIMIT = 2.0
_FAST_AT_LEAST = 5.0


def measure(settings: Settings) -> Result:
    """Times the model of the settings on the device that `vd` would take."""
    device = choose_device()
    dtype = choose_dtype(settings.dtype, device)
    pipe = VersatileDiffusionPipeline.from_pretrained(settings.model, torch_dtype=dtype)
    pipe.to(device)  # pyright: ignore[reportUnknownMemberType] - untyped in diffusers
    pipe.pack()
    pipe.set_progress_bar_config(disable=True)  # pyright: ignore[reportUnknownMemberType] - untyped in diffusers

    def images(number: int, count: int) -> None:
        prompts = [sample.text for sample in _samples(number, count)]
        pipe.text_to_image(prompts, generator=_generators(number, count), num_inference_steps=settings.steps)

    def texts(number: int) -> None:
        image, generators = _samples(number, 1)[0].image, _generators(number, _TEXTS)
        pipe.image_to_text(image, num_outputs=_TEXTS, generator=generators, num_inference_steps=settings.steps)

    def sampled(number: int, sampling: SamplingPreset) -> None:
        pipe.text_to_image(_samples(number, 1)[0].text, generator=_generators(number, 1), **sampling)

    works: dict[str, Callable[[int], None]] = {_images(count): partial(images, count=count) for count in _BATCHES}
    works |= {f"{_TEXTS} texts of one picture": texts}
    works |= {f"1 picture, {name}": partial(sampled, sampling=sampling) for name, sampling in SAMPLING_PRESETS.items()}
    first = timed(works[_images(1)], settings.rounds)
    for work in works.values():
        work(settings.rounds)
    runs = alternate(works, settings.rounds)
    found = {name: seconds(run) for name, run in runs.items()}
    limited = (_images(1), f"{_TEXTS} texts of one picture")
    figures = [Figure("1 picture, the first after opening", "s", [first.seconds])]
    figures += [Figure(name, "s", took, at_most=_LIMIT if name in limited else None) for name, took in found.items()]
    figures += [
        Figure(f"rate in batches of {count}", "pictures/s", [count / run for run in found[_images(count)]])
        for count in _BATCHES
    ]
    faster = ratios(runs["1 picture, fast"], runs["1 picture, quality"])
    figures += [Figure("1 picture, quality / fast", "×", faster, at_least=_FAST_AT_LEAST)]
    how = {"model": settings.model, "steps": settings.steps, "device": str(device), "dtype": str(dtype)}
    return Result("Generation", figures, how)


def _images(count: int) -> str:
    """Returns the name of a batch in the report."""
    return f"{count} picture{'s' if count > 1 else ''}"


def _samples(seed: int, count: int) -> Sequence[WorldSample]:
    return list(get_world(DRAWN_WORLD).samples(seed, count))


def _generators(number: int, count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(1000 * number + i) for i in range(count)]
