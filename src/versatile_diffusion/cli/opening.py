"""Opening the model that a command is to use."""
# pyright: strict

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from versatile_diffusion.cli.console import messages, note
from versatile_diffusion.cli.options import ModelOptions, weighted
from versatile_diffusion.extras import silence_opening
from versatile_diffusion.sampling.few_steps import resolved
from versatile_diffusion.sampling.options import Sampling

if TYPE_CHECKING:
    from versatile_diffusion.applications.versatile import VersatileDiffusionPipeline
    from versatile_diffusion.pipeline.outputs import Origin
    from versatile_diffusion.provenance.stored_record import StoredRecord


def open_pipeline(
    options: ModelOptions, flows: Sequence[str] | None, title: str = "", loras: Sequence[str] | None = None
) -> VersatileDiffusionPipeline:
    """Returns the model, ready to generate: on its device, with what the flows need and a progress bar of that title.

    Args:
        options: which model, and how to hold it.
        flows: that it is opened for; by default all.
        title: of the progress bar.
        loras: to give it, each "path" or "path:scale", where the path is a folder or a file.
    """
    with messages.status(Text(f"Opening {options.model} …")):
        import torch

        from versatile_diffusion.applications.versatile import VersatileDiffusionPipeline
        from versatile_diffusion.devices import choose_device, choose_dtype

        silence_opening()
        device = choose_device(options.device)
        dtype: torch.dtype = choose_dtype(options.dtype, device)
        pipe = VersatileDiffusionPipeline.from_pretrained(options.model, torch_dtype=dtype, flows=flows)
        if options.weights is not None:
            pipe.quantize(options.weights)
        pipe.to(device)  # pyright: ignore[reportUnknownMemberType] - untyped in diffusers
        for path, scale in map(_scaled, loras or []):
            pipe.load_lora(path, scale=scale)
        pipe.pack()
        if options.backend is not None:
            pipe.compile(backend=options.backend)
    show_progress(pipe, title)
    return pipe


def _scaled(lora: str) -> tuple[str, float]:
    """The path of a LoRA and its scale. What is there under the whole name is meant without one."""
    return (lora, 1.0) if Path(lora).exists() else weighted(lora)


def show_progress(pipe: VersatileDiffusionPipeline, title: str | None) -> None:
    """Shows a progress bar of that title, where there is a terminal; None shows none."""
    disable = True if title is None else None
    pipe.set_progress_bar_config(desc=title, leave=False, disable=disable)  # pyright: ignore[reportUnknownMemberType] - untyped in diffusers


def records_of(
    pipe: VersatileDiffusionPipeline,
    origins: Sequence[Origin],
    options: ModelOptions,
    loras: Sequence[str] | None = None,
) -> list[StoredRecord | None]:
    """Returns records of outputs; None for what cannot be recorded, which is noted: no output is lost for it."""
    from versatile_diffusion.provenance.recording import computed_by, record_of

    try:
        computed = computed_by(pipe, options.model, loras or (), options.weights)
        return [record_of(origin, computed) for origin in origins]
    except Exception as error:  # whatever it is, outputs come first
        note(f"What was made is written without its recipe, which cannot be kept: {error}")
        return [None] * len(origins)


def resolved_for(pipe: VersatileDiffusionPipeline, to: str, sampling: Sampling) -> Sampling:
    """Returns how outputs of a modality are sampled: what the user gave, and what presets and the model say beside."""
    found = resolved(sampling, pipe.few_steps)
    return found.replaced(guidance_scale=scale_of(pipe, to, found.guidance_scale))


def scale_of(pipe: VersatileDiffusionPipeline, to: str, given: float | None) -> float:
    """Returns what the user gave, or what the model says of outputs of that modality."""
    return pipe.modalities.named(to).guidance_scale if given is None else given
