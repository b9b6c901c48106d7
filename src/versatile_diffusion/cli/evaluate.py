# pyright: strict
"""Measure a model."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import field, make_dataclass
from pathlib import Path
from typing import Annotated

import typer

from versatile_diffusion.bundled import DEFAULT_MODEL
from versatile_diffusion.cli import evaluate_data
from versatile_diffusion.cli.console import results
from versatile_diffusion.cli.files import require_writable
from versatile_diffusion.cli.groups import group
from versatile_diffusion.cli.opening import open_pipeline
from versatile_diffusion.cli.options import (
    GuidanceScale,
    Loras,
    ManyValues,
    ModelOptions,
    Overwrite,
    Preset,
    Scheduler,
    StepsOrPreset,
    spread,
)
from versatile_diffusion.cli.worlds import world_commands
from versatile_diffusion.extras import require
from versatile_diffusion.files import write_whole
from versatile_diffusion.sampling.few_steps import resolved
from versatile_diffusion.sampling.options import Sampling
from versatile_diffusion.worlds.base import Evaluation, EvaluationRequest, World

STEPS = 25
"""Of the sampler, where nothing else is said."""

HELP = f"""Measure a model: on captioned pictures of your own, or of a bundled world.

\b
vd evaluate images --data my-pictures --num 200
vd evaluate texts --data my-pictures --num 200
vd evaluate {DEFAULT_MODEL}
vd evaluate {DEFAULT_MODEL} --preset fast
"""


def evaluate_command(world: World) -> tuple[Callable[..., None], str]:
    """Returns the command that measures models of a world, and its help."""

    def evaluate(
        options: ModelOptions,
        choices: object,
        num: Annotated[int, typer.Option(min=2, help="Fresh samples of each kind.")] = 256,
        seed: Annotated[int, typer.Option(min=0, help="Of the samples and of the noise.")] = 1,
        preset: Preset = None,
        steps: StepsOrPreset = None,
        guidance_scale: GuidanceScale = None,
        scheduler: Scheduler = None,
        lora: Loras = None,
        as_json: Annotated[
            Path | None, typer.Option("--json", dir_okay=False, help="A file for all figures as JSON.")
        ] = None,
        overwrite: Overwrite = False,
    ) -> None:
        evaluation, drawing = _chosen(world.evaluations, vars(choices))
        require_writable([file for file in (as_json, drawing) if file], overwrite)
        if evaluation.needs:
            require(evaluation.needs, "Evaluation", "evaluate")
        if drawing and evaluation.drawing_needs:
            require(evaluation.drawing_needs, f"A {evaluation.drawing}", "evaluate")
        pipe = open_pipeline(options, None, loras=lora)
        count = STEPS if preset is None and steps is None else steps
        asked = Sampling(preset=preset, num_inference_steps=count, guidance_scale=guidance_scale, scheduler=scheduler)
        asked = resolved(asked, pipe.few_steps)
        pipe.preset = asked.preset
        if asked.scheduler is not None and asked.preset is None:
            from versatile_diffusion.sampling.schedulers import named_scheduler

            pipe.scheduler = named_scheduler(asked.scheduler, pipe.scheduler)
        count = asked.num_inference_steps or STEPS
        report = evaluation.measure(pipe, EvaluationRequest(options.model, num, seed, count, asked.guidance_scale))
        for table in report.tables():
            results.print(table)
        if as_json:
            write_whole(as_json, (json.dumps(report.as_dict(), indent=2) + "\n").encode())
        if drawing:
            write_whole(drawing, report.drawing())

    evaluate.__annotations__["choices"] = _choices(world.evaluations)  # as its own options, which `spread` makes of it
    return evaluate, _help(world)


def _choices(evaluations: Sequence[Evaluation]) -> type:
    """A dataclass with a flag for each evaluation but the usual one, and a file for what each has to show."""
    flags = [
        (each.name, Annotated[bool, typer.Option(f"--{each.name}", help=f"Measure {each.help}.")], field(default=False))
        for each in evaluations[1:]
    ]
    files = [
        (
            each.drawing,
            Annotated[
                Path | None,
                typer.Option(f"--{each.drawing}", dir_okay=False, help=f"A .png file for {each.drawing_help}."),
            ],
            field(default=None),
        )
        for each in evaluations
    ]
    return make_dataclass("EvaluationChoices", [*flags, *files], frozen=True)


def _chosen(evaluations: Sequence[Evaluation], choices: dict[str, object]) -> tuple[Evaluation, Path | None]:
    """What the user asks for, and the file for what it has to show.

    Raises:
        ValueError: if two evaluations are asked for, or what another one has to show.
    """
    flagged = [each for each in evaluations[1:] if choices[each.name]]
    if len(flagged) > 1:
        raise ValueError(f"{' and '.join(f'--{each.name}' for each in flagged)} are measured apart: leave one out.")
    chosen = flagged[0] if flagged else evaluations[0]
    for other in evaluations:
        if choices[other.drawing] and other.drawing != chosen.drawing:
            raise ValueError(f"--{other.drawing} shows {other.drawing_help}, which is not measured here: leave it out.")
    drawing = choices[chosen.drawing]
    return chosen, drawing if isinstance(drawing, Path) else None


def _help(world: World) -> str:
    usual, *others = world.evaluations
    examples = [
        f"vd evaluate {world.name} --num 256 --seed 1 --json out.json --{usual.drawing} {usual.drawing}.png",
        f"vd evaluate {world.name} --model runs/{world.name}/model --num 64 --scheduler dpm --steps 8",
        *(f"vd evaluate {world.name} --{each.name} --num 128 --{each.drawing} {each.drawing}.png" for each in others),
    ]
    alternatives = "".join(f", or {each.help}" for each in others)
    return f"Measure a model of {world.name}: {usual.help}{alternatives}.\n\n\b\n" + "\n".join(examples)


evaluations = group(cls=world_commands(evaluate_command, has=lambda world: bool(world.evaluations)), help=HELP)
"""Commands of the worlds by name, and of data."""
for command in (evaluate_data.images, evaluate_data.texts):
    evaluations.command(cls=ManyValues)(spread(command))
