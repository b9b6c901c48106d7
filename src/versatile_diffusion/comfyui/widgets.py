"""Options as inputs of nodes: they are derived from `Sampling` and from options of decoding, and none is added here."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, cast

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from versatile_diffusion.comfyui.sockets import socket_of
from versatile_diffusion.fields import FieldKind, data_fields

Input = tuple[str | list[str], dict[str, Any]]
"""The type of an input, or what can be chosen, and how ComfyUI shows it."""

OWN_CHOICE = "model's own"
OWN_NUMBER = -1
"""What leaves an option to the model."""
_LARGEST = 2**31


def option_inputs(options: type[BaseModel], left_out: Collection[str] = ()) -> dict[str, Input]:
    """Returns an input for each field of a model of options."""
    data = data_fields(options)
    return {
        name: (socket_of(data[name]).type, {"tooltip": field.description}) if name in data else _widget(field)
        for name, field in options.model_fields.items()
        if name not in left_out
    }


def chosen_options(options: type[BaseModel], inputs: Mapping[str, Any]) -> dict[str, object]:
    """Returns what inputs say of the fields of a model of options, without what they leave to the model.

    Raises:
        ValueError: if several numbers are asked for and something else was written.
    """
    data = data_fields(options)
    found: dict[str, object] = {}
    for name, value in inputs.items():
        if name in data:
            found[name] = socket_of(data[name]).read(value)[0]
        elif name in options.model_fields:
            found[name] = _chosen(options.model_fields[name], value)
    return {name: value for name, value in found.items() if value is not None}


def _widget(field: FieldInfo) -> Input:
    kind, tooltip = FieldKind.of(field), field.description or ""
    if kind.type is bool:
        return "BOOLEAN", {"default": bool(field.default), "tooltip": tooltip}
    if kind.choices:
        own = [OWN_CHOICE] if kind.optional else []
        return [*own, *kind.choices], {"default": own[0] if own else str(field.default), "tooltip": tooltip}
    if kind.type is int or kind.type is float:
        whole = kind.type is int
        low, high = (
            -_LARGEST if kind.least is None else kind.least,
            kind.largest or (0 if kind.largest == 0 else _LARGEST),
        )
        if kind.optional:
            low, high, tooltip = min(low, OWN_NUMBER), max(high, OWN_NUMBER), f"{tooltip} {OWN_NUMBER} leaves it out."
        default = OWN_NUMBER if kind.optional else field.default
        return ("INT" if whole else "FLOAT"), {
            "default": default if whole else float(default),
            "min": int(low) if whole else float(low),
            "max": int(high) if whole else float(high),
            **({} if whole else {"step": 0.01, "round": False}),
            "tooltip": tooltip,
        }
    return "STRING", {"default": "", "tooltip": tooltip}


def _chosen(field: FieldInfo, value: object) -> object:
    kind = FieldKind.of(field)
    if value == OWN_CHOICE or (kind.optional and value in (OWN_NUMBER, "")):
        return None
    return kind.numbers(cast("str", value), field.description or "") if kind.count else value
