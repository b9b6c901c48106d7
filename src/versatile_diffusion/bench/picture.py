"""A whole image of the large model from a text, ours against diffusers' pipeline: time, loading and memory.

Both open the same saved folder of random weights in float16, in a process of their own for each image. diffusers' is
the pipeline of all flows, as its users have it; it makes the image through VersatileDiffusionTextToImagePipeline.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType] - typed in part
from torch import Tensor

from versatile_diffusion.bench.diffuser import relative_error
from versatile_diffusion.bench.image_job import IMAGE, ImageJob
from versatile_diffusion.bench.peer_model import done, peer_folder
from versatile_diffusion.bench.report import Figure, Result, Settings
from versatile_diffusion.bench.timing import Timed, alternate
from versatile_diffusion.devices import DTYPES, choose_dtype

_OURS, _PEER = "ours", "diffusers, all flows"
_AT_LEAST, _PEAK_AT_MOST = 1.3, 0.5
_COMPARED_STEPS = 2
_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.1}
"""The largest relative error of an image without its mean that is taken for rounding, by what is computed in."""

Found = dict[str, list[Timed[dict[str, float]]]]


def measure(settings: Settings) -> Result:
    """Makes images on the CPU, by ours and by diffusers' pipeline in turns.

    Raises:
        RuntimeError: If the images of a few steps are not the same.
    """
    dtype = choose_dtype(settings.dtype, torch.device("cpu"))
    name = next(name for name, known in DTYPES.items() if known is dtype)
    pixels = int(settings.sizes.image.autoencoder["sample_size"])
    with peer_folder(settings.cache, settings.sizes) as folder:
        _compare(ImageJob("", str(folder), name, pixels, min(_COMPARED_STEPS, settings.steps)), settings, dtype)

        def work(number: int, who: str) -> dict[str, float]:
            job = ImageJob(who, str(folder), name, pixels, settings.steps, seed=number)
            title = f"Round {number + 1} of {settings.rounds}: a picture by {who}"
            return done(job, lambda step: settings.progress(f"{title}, step {step} of {job.steps}"))

        works = {who: partial(work, who=who) for who in (_OURS, _PEER)}
        found = alternate(works, settings.rounds)
    how = {"pixels": pixels, "steps": settings.steps, "device": "cpu", "dtype": str(dtype)}
    return Result("A picture from a text, decoding included", list(_figures(found)), how)


def _figures(found: Found) -> Iterator[Figure]:
    def rounds(who: str, entry: str) -> list[float]:
        return [run.output[entry] for run in found[who]]

    def ratio(entry: str, over: str, under: str) -> list[float]:
        return [a / b for a, b in zip(rounds(over, entry), rounds(under, entry), strict=True)]

    for title, entry, unit in (
        ("picture", "making", "s"),
        ("loading", "opening", "s"),
        ("peak of the process", "peak", "bytes"),
        ("peak without mapped files", "peak_anonymous", "bytes"),
    ):
        yield from (Figure(f"{title}: {who}", unit, rounds(who, entry)) for who in found)
        if unit == "s":
            at_least = _AT_LEAST if entry == "making" else None
            yield Figure(f"{title}: diffusers / ours", "×", ratio(entry, _PEER, _OURS), at_least=at_least)
        else:
            yield Figure(f"{title}: ours / diffusers", "×", ratio(entry, _OURS, _PEER), at_most=_PEAK_AT_MOST)


def _compare(job: ImageJob, settings: Settings, dtype: torch.dtype) -> None:
    """Requires the same image of both, from the same noise."""
    images: dict[str, Tensor] = {}
    with tempfile.TemporaryDirectory() as folder:
        for who in (_OURS, _PEER):
            settings.progress(f"Comparing pictures of {job.steps} steps: {who}")
            output = Path(folder) / "image.safetensors"
            done(replace(job, who=who, seed=settings.rounds, output=str(output)))
            images[who] = load_file(output)[IMAGE]
    ours, theirs = images.values()
    mean = theirs.mean()
    error = relative_error(ours - mean, theirs - mean)
    if not error < _TOLERANCE[dtype]:
        raise RuntimeError(f"The pictures of ours and diffusers differ by {error:.1e}.")
