"""Options that commands share: a command takes a group of them as one argument, and the user sees its fields."""
# pyright: strict

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import StrEnum
from functools import cached_property, wraps
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, TypeGuard, get_args, get_type_hints

import typer
from typer.core import TyperCommand
from typer.models import OptionInfo

from versatile_diffusion._moved import former_names
from versatile_diffusion.bundled import DEFAULT_MODEL
from versatile_diffusion.cli.flags import EachOtherModality, OptionGroup, group_of, option_info
from versatile_diffusion.modalities.image_spec import IMAGE
from versatile_diffusion.modalities.text_spec import TEXT
from versatile_diffusion.sampling.options import PresetName, Sampling, SchedulerName

_WEIGHTED = re.compile(r"(?P<thing>.*):(?P<weight>-?(\d+\.?\d*|\.\d+))", re.DOTALL)
_OWNED = (TEXT.name, IMAGE.name)
"""Modalities whose data groups have options of their own for."""
MOST_OUTPUTS = 65536
"""Outputs that a command makes at once, which are as many as a batch may have."""


class Dtype(StrEnum):
    """Number formats."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


class Weights(StrEnum):
    """How weights may be stored, as in `quantization.WEIGHTS`."""

    INT8 = "int8"


class Backend(StrEnum):
    """What may compute the diffuser instead of PyTorch, as in `FlowPipeline.compile`."""

    OPENVINO = "openvino"


BACKEND_HELP = "openvino computes the diffuser on the CPU; the first output takes seconds more."


Steps = Annotated[int, option_info(Sampling, "num_inference_steps")]
StepsOrPreset = Annotated[int | None, option_info(Sampling, "num_inference_steps")]
Preset = Annotated[PresetName | None, option_info(Sampling, "preset")]
GuidanceScale = Annotated[float | None, option_info(Sampling, "guidance_scale")]
Scheduler = Annotated[SchedulerName | None, option_info(Sampling, "scheduler")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")]
Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="A bundled model, a folder, a file, or a hub id; VD_MODEL names another default.",
        rich_help_panel="Model",
    ),
]
Loras = Annotated[
    list[str] | None,
    typer.Option(
        "--lora",
        metavar="FILE[:SCALE]",
        help="A LoRA of this model or of Stable Diffusion v1, a folder or a .safetensors file; may be repeated.",
        rich_help_panel="Model",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print what was made as JSON.")]


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
    backend: Annotated[Backend | None, typer.Option(help=BACKEND_HELP, rich_help_panel="Model")] = None


@dataclass(frozen=True)
class JobOptions(ModelOptions):
    """How many outputs, and where they go."""

    num: Annotated[
        int, typer.Option("--num", "-n", min=1, max=MOST_OUTPUTS, help="Outputs of each prompt or picture.")
    ] = 1
    seed: Annotated[
        int | None,
        typer.Option("--seed", min=0, help="Of the first output; the next has the next. Random if left out."),
    ] = None
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="A folder or a file for pictures and the like (by default, outputs), a file for texts.",
        ),
    ] = None
    overwrite: Overwrite = False
    lora: Loras = None
    as_json: AsJson = False

    def seeds(self, first: int) -> range:
        """Returns the seeds of the outputs of a prompt.

        Raises:
            ValueError: if they are larger than generators take.
        """
        return require_seeds(first, self.num)


def require_seeds(first: int, count: int) -> range:
    """Returns so many seeds.

    Raises:
        ValueError: if they are larger than generators take.
    """
    if first + count > 2**64:
        raise ValueError(f"--seed {first!s:.80} leaves no room for {count} seeds, which go up to {2**64 - 1}.")
    return range(first, first + count)


class ManyValues(TyperCommand):
    """A command without arguments, whose options of many values may be written once: --flows A B."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # typer keeps its kind of context to itself
        """Writes the option before each of its values, as typer expects it."""
        many = {flag for each in self.params if getattr(each, "multiple", False) for flag in each.opts}
        written: list[str] = []
        option: str | None = None
        for before, word in pairwise([None, *args]):
            if word is not None and word.startswith("-"):
                option = word if word in many else None
            elif option is not None and before != option:
                written.append(option)
            written += [word] if word is not None else []
        return super().parse_args(ctx, written)


def set_options(sampling: Sampling) -> dict[str, Any]:
    """Returns options of sampling that are not as by default, as arguments of `generate`."""
    return {name: value for name, value in dict(sampling).items() if value != Sampling.model_fields[name].default}


def weighted(item: str) -> tuple[str, float]:
    """Splits "a fox:0.6" into the thing and its weight, which is 1 if left out."""
    match = _WEIGHTED.fullmatch(item)
    return (match["thing"], float(match["weight"])) if match else (item, 1.0)


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """Returns a command whose parameters that are groups of options are replaced by these options."""
    own = list(inspect.signature(command, eval_str=True).parameters.values())
    found = {parameter.name: _group(parameter.annotation) for parameter in own}
    groups = {name: group for name, group in found.items() if group is not None}
    parameters = [parameter for parameter in own if parameter.name not in groups]
    taken = {name: list(group.parameters) for name, group in groups.items()}
    for each in taken.values():
        parameters += each

    @wraps(command)
    def run(**values: object) -> None:
        given = {name: {each.name: values.pop(each.name) for each in taken[name]} for name in groups}
        made = {name: group.made(given[name]) for name, group in groups.items()}
        command(**values, **made)

    run.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportAttributeAccessIssue] - typer reads it
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


@dataclass(frozen=True)
class _DataclassGroup(OptionGroup):
    """The fields of a dataclass, each of which says with typer what it is; one may stand for several options."""

    cls: type

    @property
    def parameters(self) -> Iterator[inspect.Parameter]:
        hints, each = get_type_hints(self.cls, include_extras=True), self._of_each_modality
        for field in fields(self.cls):
            if field.name in each:
                for option_name, option in each[field.name].values():
                    yield _keyword(option_name, None, Annotated[list[str] | None, option])
            else:
                default = inspect.Parameter.empty if field.default is MISSING else field.default
                yield _keyword(field.name, default, hints[field.name])

    def made(self, values: Mapping[str, object]) -> object:
        own = dict(values)
        for name, options in self._of_each_modality.items():
            given = {modality: own.pop(option_name) for modality, (option_name, _) in options.items()}
            own[name] = {modality: items for modality, items in given.items() if items}
        return self.cls(**own)

    @cached_property
    def _of_each_modality(self) -> dict[str, dict[str, tuple[str, OptionInfo]]]:
        """For each field that holds what several options give: their names and options, by modalities."""
        hints = get_type_hints(self.cls, include_extras=True)
        marked = {name: _mark_of(hint) for name, hint in hints.items()}
        return {
            field: {name: (f"{field}_{name}", option) for name, option in mark.options(_OWNED).items()}
            for field, mark in marked.items()
            if mark is not None
        }


def _keyword(name: str, default: object, annotation: object) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _mark_of(hint: object) -> EachOtherModality | None:
    return next((mark for mark in get_args(hint) if isinstance(mark, EachOtherModality)), None)


def _group(annotation: object) -> OptionGroup | None:
    return _DataclassGroup(annotation) if _is_dataclass(annotation) else group_of(annotation)


def _is_dataclass(annotation: object) -> TypeGuard[type]:
    return isinstance(annotation, type) and is_dataclass(annotation)


__getattr__ = former_names(__name__, {"Making": "versatile_diffusion.cli.options:JobOptions"})
