"""Presets are options of `generate`, and nothing that could not be given one by one."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import typer
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from torch import Generator
from typer.testing import CliRunner

from versatile_diffusion import FAST, VersatileDiffusionPipeline
from versatile_diffusion.cli.options import JobOptions, spread
from versatile_diffusion.sampling.few_steps import FewSteps, resolved
from versatile_diffusion.sampling.options import Sampling, SchedulerName
from versatile_diffusion.sampling.presets import SAMPLING_PRESETS, SamplingPreset

Pipe = VersatileDiffusionPipeline


def made(pipe: Pipe, **options: Any) -> torch.Tensor:
    return pipe.text_to_image(
        "a red tent", generator=Generator().manual_seed(1), output_type="latent", **options
    ).latents


@pytest.mark.parametrize("name", SAMPLING_PRESETS)
def test_a_preset_is_its_options(pipe: Pipe, name: str) -> None:
    own = pipe.scheduler
    with_preset = made(pipe, **{**SAMPLING_PRESETS[name], "num_inference_steps": 4})
    assert pipe.scheduler is own
    if name == "fast":
        pipe.scheduler = DPMSolverMultistepScheduler.from_config(own.config)
    expected = made(pipe, num_inference_steps=4)
    torch.testing.assert_close(with_preset, expected)


def test_fast_calls_the_diffuser_a_fifth_as_often_at_most(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    forward = pipe.diffuser.forward

    def counted(*arguments: Any) -> torch.Tensor:
        predicted = forward(*arguments)
        rows.append(len(predicted))
        return predicted

    monkeypatch.setattr(pipe.diffuser, "forward", counted)

    def evaluations(sampling: SamplingPreset) -> int:
        rows.clear()
        made(pipe, **sampling)
        return sum(rows)

    quality = evaluations(SAMPLING_PRESETS["quality"])
    assert quality == 100 and evaluations(FAST) <= quality / 5


def test_a_scheduler_for_one_call(pipe: Pipe) -> None:
    own = pipe.scheduler
    by_name = made(pipe, scheduler="unipc", num_inference_steps=3)
    assert not torch.allclose(by_name, made(pipe, num_inference_steps=3)) and pipe.scheduler is own
    with pytest.raises(ValueError, match="A scheduler is one of"):
        made(pipe, scheduler="magic")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], {}),
        (["--preset", "fast"], FAST),
        (["--preset", "fast", "--steps", "15"], {**FAST, "num_inference_steps": 15}),
        (["--guidance-interval", "0.2,0.8"], {"guidance_interval": (0.2, 0.8)}),
        (["--preset", "fast", "--scheduler", "unipc"], {**FAST, "scheduler": "unipc"}),
    ],
)
def test_options_of_the_command_line_overrule_the_preset(words: list[str], expected: SamplingPreset) -> None:
    found: list[Sampling] = []
    app = typer.Typer()
    app.command()(spread(remembering(found)))
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert found == [Sampling.model_validate(expected)]


def remembering(found: list[Sampling]) -> Callable[[JobOptions, Sampling], None]:
    def command(job: JobOptions, sampling: Sampling) -> None:
        found.append(sampling)

    return command


FEW = FewSteps(scheduler=SchedulerName.TCD, steps=4, solver_steps=20)
LEARNT: dict[str, object] = {"num_inference_steps": 4, "guidance_scale": 1.0, "scheduler": "tcd"}
SOLVER: dict[str, object] = {"num_inference_steps": 8, "scheduler": "dpm"}


@pytest.mark.parametrize(
    ("asked", "with_lora", "without"),
    [
        ({}, {"num_inference_steps": 50}, {"num_inference_steps": 50}),
        ({"preset": "quality", "scheduler": "unipc"}, {"num_inference_steps": 50, "scheduler": "unipc"}, None),
        ({"preset": "fast"}, {"preset": "fast", **LEARNT}, SOLVER),
        (
            {"preset": "fast", "num_inference_steps": 8},
            {"preset": "fast", **LEARNT, "num_inference_steps": 8},
            SOLVER,
        ),
        ({"preset": "fast", "num_inference_steps": 21}, {**SOLVER, "num_inference_steps": 21}, None),
        ({"preset": "fast", "guidance_scale": 5.0}, {**SOLVER, "guidance_scale": 5.0}, None),
        ({"preset": "fast", "scheduler": "unipc"}, {**SOLVER, "scheduler": "unipc"}, None),
    ],
)
def test_a_preset_means_what_the_model_has_learnt(
    asked: dict[str, object], with_lora: dict[str, object], without: dict[str, object] | None
) -> None:
    for few, expected in ((FEW, with_lora), (None, with_lora if without is None else without)):
        found = resolved(Sampling.model_validate(asked), few)
        assert found == Sampling.model_validate(expected)
        assert resolved(found, few) == found, "what is resolved stays"


def test_what_needs_a_few_step_lora_is_refused_without_one() -> None:
    made_with_it = resolved(Sampling.model_validate({"preset": "fast"}), FEW)
    with pytest.raises(ValueError, match="this model carries none"):
        resolved(made_with_it, None)
    with pytest.raises(ValueError, match="20 steps at most"):
        resolved(made_with_it.replaced(num_inference_steps=21), FEW)
