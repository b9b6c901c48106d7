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
from versatile_diffusion.sampling.options import Sampling
from versatile_diffusion.sampling.presets import SAMPLING_PRESETS, SamplingPreset

Pipe = VersatileDiffusionPipeline


def made(pipe: Pipe, **options: Any) -> torch.Tensor:
    return pipe.text_to_image(
        "a red tent", generator=Generator().manual_seed(1), output_type="latent", **options
    ).latents


@pytest.mark.parametrize("name", SAMPLING_PRESETS)
def test_a_preset_is_its_options(pipe: Pipe, name: str) -> None:
    options = {**SAMPLING_PRESETS[name], "num_inference_steps": 4}
    own = pipe.scheduler
    with_preset = made(pipe, **options)
    assert pipe.scheduler is own
    if options["scheduler"] == "dpm":
        pipe.scheduler = DPMSolverMultistepScheduler.from_config(own.config)
    expected = made(pipe, num_inference_steps=4, guidance_interval=options["guidance_interval"])
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
        ([], SAMPLING_PRESETS["quality"]),
        (["--preset", "fast"], FAST),
        (["--preset", "fast", "--steps", "15"], {**FAST, "num_inference_steps": 15}),
        (["--guidance-interval", "0.2,0.8"], {**SAMPLING_PRESETS["quality"], "guidance_interval": (0.2, 0.8)}),
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
        found.append(job.with_preset(sampling))

    return command
