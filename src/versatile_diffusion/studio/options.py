"""The options that tasks have in common, as controls: they are derived from `Sampling` and from options of decoding.

An option that is declared there appears among the advanced options of the studio, with its bounds, its description and
its default, and nothing is added here.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import cast

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from versatile_diffusion.engine.workers import ModelInfo
from versatile_diffusion.fields import FieldKind, data_fields, flag_name
from versatile_diffusion.modalities.registry import modality_spec
from versatile_diffusion.modalities.text_spec import TEXT
from versatile_diffusion.sampling.few_steps import resolved
from versatile_diffusion.sampling.options import PresetName, Sampling
from versatile_diffusion.studio.controls import (
    ChoiceControl,
    Control,
    NumberControl,
    SwitchControl,
    TextControl,
    Values,
    number_in,
    text_in,
)
from versatile_diffusion.studio.tasks import StudioTask

RANDOM = -1
"""Seed that stands for a new one each time."""
OWN = "model's own"
"""The choice that leaves an option to the model."""

_STORED_AS = {"num_inference_steps": "steps"}
"""Keys of options in the forms that the history keeps, where they are not the options' names."""
_OF_TASKS = frozenset({"strength"})
"""Options that the tasks with a start ask for themselves."""
_OF_ALL_TASKS = frozenset({"preset"})
"""Options that every task asks for beside its own."""
_SET_BY_PRESETS = ("num_inference_steps", "guidance_scale", "guidance_interval", "scheduler")
_OF_SIZED_OUTPUTS = frozenset({"height", "width"})
_RANGES = {"num_inference_steps": (1, 250, 1), "guidance_scale": (1, 20, 0.1)}
"""Least, largest and step that a slider offers, where far more is allowed than anybody needs."""
_PREVIEWS = 6
_GUIDANCE_SCALE = 7.5  # the official one


def own_guidance_scale(model: ModelInfo, to: str) -> float:
    """Returns how much a model guides its outputs of a modality; the official scale where it makes none."""
    return model.guidance_scales.get(to, _GUIDANCE_SCALE)


def advanced_controls(to: str, model: ModelInfo) -> list[Control]:
    """Returns the controls of all options of outputs of a modality, but for those that tasks ask for themselves.

    Args:
        to: the modality that is made.
        model: the model whose defaults are shown at first.
    """
    left_out = _OF_TASKS | _OF_ALL_TASKS
    left_out = left_out if to in model.sizes else left_out | _OF_SIZED_OUTPUTS
    defaults = _set_by(PresetName.FAST, model, to)
    away = TextControl("negative", "Negative text", "What to keep away from.")
    return [
        *option_controls(Sampling, left_out, defaults),
        away,
        *option_controls(modality_spec(to).decoding, data_fields(modality_spec(to).decoding)),
    ]


def option_controls(
    options: type[BaseModel], left_out: frozenset[str] | Mapping[str, str], defaults: Mapping[str, object] = {}
) -> list[Control]:
    """Returns a control for each field of a model of options.

    Args:
        options: such as `Sampling`.
        left_out: names of fields that get none.
        defaults: values at first, by names of fields, where they are not those of the model.
    """
    return [
        _control(name, flag_name(options, name).strip("-"), field, defaults.get(name, field.default))
        for name, field in options.model_fields.items()
        if name not in left_out
    ]


def chosen_options(options: type[BaseModel], values: Values) -> dict[str, object]:
    """Returns what was filled in for the fields of a model of options; what was left to the model is left out.

    Raises:
        ValueError: if several numbers are asked for and something else was filled in.
    """
    found = {name: _chosen(field, values.get(stored_key(name))) for name, field in options.model_fields.items()}
    return {name: value for name, value in found.items() if value is not None}


def stored_key(option: str) -> str:
    """Returns the key of an option in `Values`, and in the forms that the history keeps."""
    return _STORED_AS.get(option, option)


def preset_values(preset: str, model: ModelInfo, to: str) -> dict[str, object]:
    """Returns what a preset of sampling fills in, by the names of controls.

    Args:
        preset: its name.
        model: that samples, in few steps if it has learnt that.
        to: the modality that is made.
    """
    fields, values = Sampling.model_fields, _set_by(PresetName(preset), model, to)
    return {stored_key(name): _shown(fields[name], value) for name, value in values.items()}


def initial_values(controls: list[Control]) -> dict[str, object]:
    """Returns what is filled in at first: in these controls, and in those that every task has."""
    common = {"preset": "fast", "num_outputs": 1, "seed": RANDOM}
    return {**common, **{control.name: control.initial for control in controls}}


def fields_asked(task: StudioTask, values: Values) -> dict[str, object]:
    """Returns what to ask of the engine for what was filled in, as fields of `GenerateIn`.

    Raises:
        ValueError: if something is missing or cannot be understood; the message says what to do.
    """
    made = modality_spec(task.to)
    seed, away = values.get("seed"), text_in(values, "negative")
    fields: dict[str, object] = {
        "to": task.to,
        "model": values["model"],
        "num_outputs": int(number_in(values, "num_outputs")),
        "seed": None if seed in (None, RANDOM) else int(number_in(values, "seed")),
        "preview_every": 0 if made.codec.inline else max(1, int(number_in(values, "steps")) // _PREVIEWS),
        **{name: value for name, value in chosen_options(Sampling, values).items() if name not in _OF_TASKS},
        **chosen_options(made.decoding, values),
    }
    if away:
        fields["negative"] = [{"modality": TEXT.name, "data": away}]
    return {**fields, **task.ask(values)}


def title(task: StudioTask, values: Values) -> str:
    """Returns what is made, in words."""
    said = [words for name in ("prompt", "remove", "add") if (words := text_in(values, name))]
    return " · ".join(said) or task.title


def _set_by(preset: PresetName, model: ModelInfo, to: str) -> dict[str, object]:
    """What a preset stands for, by the names of options."""
    found = resolved(Sampling(preset=preset), model.few_steps)
    values = {name: getattr(found, name) for name in _SET_BY_PRESETS}
    scale = values["guidance_scale"]
    return {**values, "guidance_scale": own_guidance_scale(model, to) if scale is None else scale}


# ---- what a field says of its control ----


def _control(name: str, label: str, field: FieldInfo, default: object) -> Control:
    kind, key = FieldKind.of(field), stored_key(name)
    words, info = label.replace("-", " ").replace("_", " ").capitalize(), field.description or ""
    if kind.type is bool:
        return SwitchControl(key, words, info, default=bool(default))
    if choices := kind.choices:
        own = (OWN,) if kind.optional else ()
        return ChoiceControl(key, words, info, choices=(*own, *choices), default=str(_shown(field, default)))
    if kind.type is int or kind.type is float:
        low, high, step = _RANGES.get(name, (kind.least, kind.largest, 1 if kind.type is int else 0.01))
        number = default if isinstance(default, int | float) else None
        whole = kind.type is int
        return NumberControl(key, words, info, default=number, minimum=low, maximum=high, step=step, whole=whole)
    flag = next((mark.metavar for mark in field.metadata if hasattr(mark, "metavar")), None)
    return TextControl(key, words, info, placeholder=flag or "")


def _shown(field: FieldInfo, value: object) -> object:
    """The value of a control, from that of the option."""
    if value is None and FieldKind.of(field).choices:
        return OWN
    if isinstance(value, tuple):
        return ",".join(map(str, cast("tuple[object, ...]", value)))  # of numbers, as fields have them
    return str(value) if isinstance(value, StrEnum) else value


def _chosen(field: FieldInfo, value: object) -> object:
    """The value of an option, from that of the control; None if it is left to the model."""
    kind = FieldKind.of(field)
    if value is None or value == OWN or (isinstance(value, str) and not value.strip()):
        return None
    if kind.type is int and isinstance(value, float):
        return int(value)
    return kind.numbers(value, field.description or "") if kind.count and isinstance(value, str) else value
