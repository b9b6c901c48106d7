"""The advanced options of the studio are those of `Sampling` and of decoding, and nothing is added for a new one."""

from dataclasses import replace
from enum import StrEnum
from typing import Annotated, Literal

import pytest
from pydantic import Field

from versatile_diffusion.engine.workers import ModelInfo
from versatile_diffusion.fields import Flag
from versatile_diffusion.modalities.size_range import SizeRange
from versatile_diffusion.modalities.text_spec import TextDecoding
from versatile_diffusion.sampling.few_steps import FewSteps, resolved
from versatile_diffusion.sampling.options import Sampling, SchedulerName
from versatile_diffusion.studio.controls import ChoiceControl, NumberControl, SwitchControl, TextControl
from versatile_diffusion.studio.options import (
    OWN,
    advanced_controls,
    chosen_options,
    initial_values,
    option_controls,
    preset_values,
    stored_key,
)
from versatile_diffusion.validation import Integer, Number, Strict

PAINTER = ModelInfo(("image", "text"), ("image", "text"), {"image": 3.0}, {"image": SizeRange.of(64)})


class Curve(StrEnum):
    STRAIGHT = "straight"
    ROUND = "round"


class Later(Strict):
    """Options as somebody may declare them some day, one of each sort."""

    sharpness: Annotated[Number, Field(ge=0, le=2, description="How sharp.")] = 0.5
    rounds: Annotated[Integer, Field(ge=1, le=20, description="How often."), Flag("--times")] = 3
    limit: Annotated[Annotated[Integer, Field(ge=1, le=10**6)] | None, Field(description="At most.")] = None
    curve: Annotated[Curve | None, Field(description="Its form.")] = None
    mode: Annotated[Literal["plain", "fine"], Field(description="Its manner.")] = "plain"
    twice: Annotated[bool, Field(description="Whether twice.")] = False
    window: Annotated[tuple[Number, Number] | None, Field(description="Where."), Flag(metavar="LOW,HIGH")] = None
    note: Annotated[str | None, Field(description="Words.")] = None


def test_every_sort_of_option_has_a_control() -> None:
    assert option_controls(Later, frozenset()) == [
        NumberControl("sharpness", "Sharpness", "How sharp.", default=0.5, minimum=0, maximum=2, step=0.01),
        NumberControl("rounds", "Times", "How often.", default=3, minimum=1, maximum=20, step=1, whole=True),
        NumberControl("limit", "Limit", "At most.", default=None, minimum=1, maximum=10**6, step=1, whole=True),
        ChoiceControl("curve", "Curve", "Its form.", choices=(OWN, "straight", "round"), default=OWN),
        ChoiceControl("mode", "Mode", "Its manner.", choices=("plain", "fine"), default="plain"),
        SwitchControl("twice", "Twice", "Whether twice.", default=False),
        TextControl("window", "Window", "Where.", placeholder="LOW,HIGH"),
        TextControl("note", "Note", "Words."),
    ]


def test_what_was_filled_in_becomes_options() -> None:
    at_first = initial_values(option_controls(Later, frozenset()))
    assert Later(**chosen_options(Later, at_first)) == Later()  # pyright: ignore[reportArgumentType] - checked by it
    filled = {
        "sharpness": 2,
        "rounds": 4.0,
        "limit": 7,
        "curve": "round",
        "twice": True,
        "window": " 0.2, 0.8",
        "note": "a",
    }
    made = Later.model_validate(chosen_options(Later, at_first | filled))
    assert (made.rounds, made.limit, made.curve, made.window, made.note) == (4, 7, Curve.ROUND, (0.2, 0.8), "a")
    for wrong in ("0.2", "a,b", "1,2,3"):
        with pytest.raises(ValueError, match=r"Where\. Give 2 numbers with a comma between them"):
            chosen_options(Later, at_first | {"window": wrong})


def test_all_options_of_sampling_are_asked_for() -> None:
    controls = {control.name: control for control in advanced_controls("image", PAINTER)}
    of_tasks = {"strength", "preset"}  # one needs a start, and tasks with one ask for it; all ask for the other
    assert {stored_key(name) for name in Sampling.model_fields} - of_tasks == controls.keys() - {"negative"}
    for name, field in Sampling.model_fields.items():
        if name not in of_tasks:
            assert controls[stored_key(name)].info == field.description
    scale, scheduler = controls["guidance_scale"], controls["scheduler"]
    assert isinstance(scale, NumberControl) and (scale.default, scale.minimum, scale.maximum) == (3.0, 1, 20)
    assert isinstance(scheduler, ChoiceControl) and scheduler.choices == (OWN, *SchedulerName)


def test_texts_have_no_size_and_their_own_options() -> None:
    names = [control.name for control in advanced_controls("text", PAINTER)]
    assert "height" not in names and names[-len(TextDecoding.model_fields) :] == list(TextDecoding.model_fields)
    assert "colors_of" not in [control.name for control in advanced_controls("image", PAINTER)]


def test_presets_fill_in_their_options() -> None:
    own: dict[str, object] = {"guidance_scale": 3.0, "guidance_interval": None}
    assert preset_values("fast", PAINTER, "image") == {**own, "steps": 8, "scheduler": "dpm"}
    assert preset_values("quality", PAINTER, "image") == {**own, "steps": 50, "scheduler": OWN}


def test_a_model_that_carries_a_few_step_lora_is_filled_in_as_it_samples() -> None:
    few = replace(PAINTER, few_steps=FewSteps(scheduler=SchedulerName.TCD, steps=4, solver_steps=50))
    filled = preset_values("fast", few, "image")
    assert filled == {"steps": 4, "guidance_scale": 1.0, "guidance_interval": None, "scheduler": "tcd"}
    asked = Sampling.model_validate(chosen_options(Sampling, {"preset": "fast", **filled}))
    assert resolved(asked, few.few_steps).preset == "fast"
    assert preset_values("quality", few, "image") == preset_values("quality", PAINTER, "image")
