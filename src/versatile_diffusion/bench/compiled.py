"""A guided step of an image by the large diffuser, compiled: what it costs at the start, and gives after it.

Both are compiled with their weights frozen, which lets PyTorch lay them out for the CPU: diffusers' network as a whole,
ours block by block, as `pipe.compile()` does. Where OpenVINO is installed, it runs diffusers' network as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from versatile_diffusion.bench.diffuser import Work, converted, image_inputs, random_peer, require_near
from versatile_diffusion.bench.openvino_peer import openvino_computes, openvino_step
from versatile_diffusion.bench.report import Figure, Result, Settings
from versatile_diffusion.bench.timing import alternate, ratios, seconds, timed
from versatile_diffusion.devices import choose_device, choose_dtype
from versatile_diffusion.diffuser import ContextTokens
from versatile_diffusion.kernels import optimize
from versatile_diffusion.model_presets import Preset
from versatile_diffusion.pipeline.acceleration import compile_blocks

_OURS, _COMPILED, _PEER, _OPENVINO = "ours, packed", "ours, compiled", "diffusers, compiled", "diffusers, OpenVINO"
_LEVEL = 1 / 1.05
"""How many times as long as ours a peer must take, for ours to be called level with it."""
_HOW: dict[str, Any] = {"options": {"freezing": True}}  # Any, since the options are those of the backend
"""Options of `torch.compile`."""


def measure(settings: Settings) -> Result:
    """Compiles both networks, and times their steps on the device that `vd` would take.

    Raises:
        RuntimeError: If they do not predict the same noise.
    """
    device = choose_device()
    dtype = choose_dtype(settings.dtype, device)
    preset = settings.sizes
    peer = random_peer(preset, "image").to(device, dtype)
    packed, compiled = (converted(peer, preset, "image", ["text"]) for _ in range(2))
    optimize(packed)
    compile_blocks(compiled, **_HOW)
    frozen = torch.compile(peer, **_HOW)  # pyright: ignore[reportUnknownMemberType] - torch leaves options untyped

    def ours(model: Callable[..., Tensor]) -> Work:
        def step(number: int) -> Tensor:
            latents, timesteps, tokens = image_inputs(preset, number, device, dtype)
            return model(latents, timesteps, "image", [ContextTokens("text", tokens)])

        return step

    def theirs(number: int) -> Tensor:
        latents, timesteps, tokens = image_inputs(preset, number, device, dtype)
        return frozen(latents.repeat(2, 1, 1, 1), timesteps.repeat(2), tokens).sample

    works = {_OURS: ours(packed), _COMPILED: ours(compiled), _PEER: theirs}
    if device.type == "cpu" and openvino_computes(dtype):
        settings.progress("Converting for OpenVINO")
        works[_OPENVINO] = _by_openvino(preset, dtype)
    starts: dict[str, float] = {}
    with torch.no_grad():  # what is frozen must not have been seen in inference mode
        for name, work in works.items():
            settings.progress(f"The first step: {name}")
            starts[name] = timed(work, settings.rounds).seconds
        found = alternate(works, settings.rounds)
    for name in found.keys() - {_PEER}:
        for run, expected in zip(found[name], found[_PEER], strict=True):
            require_near(name, run.output, expected.output)
    figures = [Figure(f"first step: {name}", "s", [start]) for name, start in starts.items()]
    figures += [Figure(name, "s", seconds(runs)) for name, runs in found.items()]
    figures += [
        Figure(f"{_PEER} / {name}", "×", ratios(found[name], found[_PEER]), at_least=at_least)
        for name, at_least in ((_OURS, 1.0), (_COMPILED, None))
    ]
    if _OPENVINO in found:
        level = ratios(found[_OURS], found[_OPENVINO])
        figures.append(Figure(f"{_OPENVINO} / {_OURS}", "×", level, at_least=_LEVEL))
    return Result("A compiled step of a picture", figures, {"device": str(device), "dtype": str(dtype)})


def _by_openvino(preset: Preset, dtype: torch.dtype) -> Work:
    """The peer's step by OpenVINO, of the same weights, and with and without a context as one batch."""
    cpu = torch.device("cpu")

    def both(number: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        latents, timesteps, tokens = image_inputs(preset, number, cpu, dtype)
        return latents.repeat(2, 1, 1, 1), timesteps.repeat(2), tokens

    step = openvino_step(random_peer(preset, "image"), both(0, torch.float32), dtype)
    return lambda number: step(*both(number, dtype))
