"""What is compared, as users spell it: `[NAME=]MODEL[:KEY=VALUE,…]`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from versatile_diffusion._moved import former_names
from versatile_diffusion.sampling.options import SchedulerName
from versatile_diffusion.sampling.presets import SAMPLING_PRESETS

Numeric = TypeVar("Numeric", int, float)

__getattr__ = former_names(__name__, {"Side": f"{__name__}:StudySide"})

KEYS = ("preset", "steps", "guidance", "interval", "scheduler")
GRAMMAR = "[NAME=]MODEL[:KEY=VALUE,…]"
_SPELLING = re.compile(r"(?:(?P<name>[^=:/]+)=)?(?P<model>.+?)(?::(?P<options>\w+=[^,]*(?:,\w+=[^,]*)*))?")


@dataclass(frozen=True)
class StudySide:
    """One of the two sides of a study: a model, and how it samples.

    Attributes:
        name: what it is called in reports.
        model: what `VersatileDiffusionPipeline.from_pretrained` opens.
        options: options of `generate`.
    """

    name: str
    model: str
    options: dict[str, Any]

    @classmethod
    def parse(cls, text: str) -> StudySide:
        """Reads `postcards`, `postcards:preset=fast`, `mine=folder:steps=10,guidance=5`.

        The keys are preset (quality, fast), steps, guidance, interval (LOW-HIGH) and scheduler.

        Raises:
            ValueError: if it cannot be understood; the message says what can.
        """
        match = _SPELLING.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is no {GRAMMAR}.")
        given = dict(entry.split("=", 1) for entry in match["options"].split(",")) if match["options"] else {}
        if unknown := [key for key in given if key not in KEYS]:
            raise ValueError(f"{text!r}: there is no {unknown[0]}; the keys are {', '.join(KEYS)}.")
        try:
            return cls(match["name"] or text, match["model"], _options(given))
        except ValueError as error:
            raise ValueError(f"{text!r}: {error}") from error


def require_unlike(a: StudySide, b: StudySide) -> None:
    """Raises ValueError if two sides have the same name, or make the same images."""
    if a.name == b.name or (a.model, a.options) == (b.model, b.options):
        raise ValueError(f"{a.name} and {b.name} are compared: name two sides that differ.")


def _options(given: dict[str, str]) -> dict[str, Any]:
    preset = given.get("preset", "quality")
    if preset not in SAMPLING_PRESETS:
        raise ValueError(f"preset is {' or '.join(SAMPLING_PRESETS)}, got {preset!r}.")
    options: dict[str, Any] = {**SAMPLING_PRESETS[preset]}
    if "steps" in given:
        options["num_inference_steps"] = _number(int, given["steps"], "steps", 1, 1000)
    if "guidance" in given:
        options["guidance_scale"] = _number(float, given["guidance"], "guidance", -1000, 1000)
    if "interval" in given:
        low, _, high = given["interval"].partition("-")
        options["guidance_interval"] = tuple(_number(float, end, "interval", 0, 1) for end in (low, high))
    if "scheduler" in given:
        options["scheduler"] = SchedulerName(given["scheduler"]).value
    return options


def _number(kind: Callable[[str], Numeric], text: str, name: str, low: float, high: float) -> Numeric:
    try:
        value = kind(text)
    except ValueError:
        raise ValueError(f"{name} must be a number, got {text!r}.") from None
    if not low <= value <= high:
        raise ValueError(f"{name} must lie between {low} and {high}, got {text}.")
    return value
