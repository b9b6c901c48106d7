"""Options that commands share, as dataclasses: a command takes one, and the user sees its fields."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from versatile_diffusion.bundled import DEFAULT_MODEL
from versatile_diffusion.sampling.options import SchedulerName
from versatile_diffusion.sampling.presets import SAMPLING_PRESETS, SamplingPreset

_WEIGHTED = re.compile(r"(?P<thing>.*):(?P<weight>-?(\d+\.?\d*|\.\d+))", re.DOTALL)


class Dtype(StrEnum):
    """Number formats."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


class Weights(StrEnum):
    """How weights may be stored, as in `quantization.WEIGHTS`."""

    INT8 = "int8"


class PresetName(StrEnum):
    """Ways to sample, as in `sampling_presets.SAMPLING_PRESETS`."""

    QUALITY = "quality"
    FAST = "fast"


Steps = Annotated[int, typer.Option("--steps", min=1, help="Steps of the sampler.")]
GuidanceScale = Annotated[
    float | None,
    typer.Option("--guidance-scale", help="How closely to follow; 1 is no guidance. The model's own if left out."),
]
Scheduler = Annotated[
    SchedulerName | None, typer.Option("--scheduler", help="The sampler; the model's own if left out.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")]
Model = Annotated[
    str,
    typer.Option("--model", "-m", help=f'"{DEFAULT_MODEL}" (bundled), a folder, or a hub id.', rich_help_panel="Model"),
]

Loras = Annotated[
    list[str] | None,
    typer.Option(
        "--lora", metavar="FOLDER[:SCALE]", help="A LoRA of this model; may be repeated.", rich_help_panel="Model"
    ),
]


@dataclass(frozen=True)
class ModelOptions:
    """Which model, and how it computes."""

    model: Model = DEFAULT_MODEL
    device: Annotated[str, typer.Option(help="auto, cuda, mps or cpu.", rich_help_panel="Model")] = "auto"
    dtype: Annotated[
        Dtype, typer.Option(help="auto is fp16 on accelerators, else bf16 or fp32.", rich_help_panel="Model")
    ] = Dtype.AUTO
    weights: Annotated[
        Weights | None,
        typer.Option(help="int8 stores those of linear layers in fewer bits; needs torchao.", rich_help_panel="Model"),
    ] = None


@dataclass(frozen=True)
class Making(ModelOptions):
    """How many outputs, how they are made, and where they go."""

    num: Annotated[int, typer.Option("--num", "-n", min=1, help="Outputs of each prompt or picture.")] = 1
    seed: Annotated[
        int | None,
        typer.Option("--seed", min=0, help="Of the first output; the next has the next. Random if left out."),
    ] = None
    preset: Annotated[
        PresetName,
        typer.Option(help="fast takes 8 steps of a better solver instead of 50."),
    ] = PresetName.QUALITY
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Of the sampler; 50, or 8 with --preset fast.")
    ] = None
    guidance_scale: GuidanceScale = None
    guidance_interval: Annotated[
        str | None,
        typer.Option(
            "--guidance-interval",
            metavar="LOW,HIGH",
            help="Guide only where the noise level, 0 to 1, lies between these, such as 0.2,0.8.",
        ),
    ] = None
    scheduler: Scheduler = None
    eta: Annotated[float, typer.Option(min=0, max=1, help="How much noise DDIM draws anew in each step.")] = 0.0
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="A folder or .png file for pictures (by default, outputs), a file for texts."
        ),
    ] = None
    overwrite: Overwrite = False
    lora: Loras = None
    as_json: Annotated[bool, typer.Option("--json", help="Print what was made as JSON.")] = False

    @property
    def sampling(self) -> SamplingPreset:
        """What the preset says, as far as nothing else was asked for.

        Raises:
            ValueError: if the guidance interval is none.
        """
        sampling = SAMPLING_PRESETS[self.preset].copy()
        if self.steps is not None:
            sampling["num_inference_steps"] = self.steps
        if self.guidance_interval is not None:
            sampling["guidance_interval"] = interval(self.guidance_interval)
        if self.scheduler is not None:
            sampling["scheduler"] = self.scheduler.value
        return sampling


@dataclass(frozen=True)
class Size:
    """Height and width of pictures; by default those that the model was trained on."""

    height: Annotated[int | None, typer.Option(min=1, help="In pixels; the model's own if left out.")] = None
    width: Annotated[int | None, typer.Option(min=1, help="In pixels; the model's own if left out.")] = None


@dataclass(frozen=True)
class Writing:
    """How texts are written; by default as the model says."""

    temperature: Annotated[float | None, typer.Option(min=0, help="Of the words; 0 takes the likeliest.")] = None


def numbers(text: str, option: str) -> tuple[float, ...]:
    """Numbers with commas between them.

    Raises:
        ValueError: if they are something else.
    """
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError as error:
        raise ValueError(f"{option} takes numbers with commas between them, such as 0.2,0.8, got {text!r}.") from error


def interval(text: str) -> tuple[float, float]:
    """A guidance interval, checked before a model is opened.

    Raises:
        ValueError: if it is none.
    """
    given = numbers(text, "--guidance-interval")
    if len(given) != 2 or not 0 <= given[0] < given[1] <= 1:
        raise ValueError(
            f"--guidance-interval takes two numbers from 0 to 1, the smaller first: 0.2,0.8, got {text!r}."
        )
    return given[0], given[1]


def weighted(item: str) -> tuple[str, float]:
    """Splits "a fox:0.6" into the thing and its weight, which is 1 if left out."""
    match = _WEIGHTED.fullmatch(item)
    return (match["thing"], float(match["weight"])) if match else (item, 1.0)


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose dataclass parameters are replaced by their fields."""
    own = inspect.signature(command, eval_str=True).parameters.values()
    grouped: dict[str, Any] = {
        parameter.name: parameter.annotation for parameter in own if is_dataclass(parameter.annotation)
    }
    parameters = [parameter for parameter in own if parameter.name not in grouped]
    for cls in grouped.values():
        hints = get_type_hints(cls, include_extras=True)
        parameters += [
            inspect.Parameter(
                field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
            )
            for field in fields(cls)
        ]

    @wraps(command)
    def run(**values: Any) -> None:
        groups = {
            name: cls(**{field.name: values.pop(field.name) for field in fields(cls)}) for name, cls in grouped.items()
        }
        command(**values, **groups)

    run.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportAttributeAccessIssue]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run
