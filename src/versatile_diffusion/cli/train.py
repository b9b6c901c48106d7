# pyright: strict
"""Train a model."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from versatile_diffusion.cli.console import say
from versatile_diffusion.cli.files import require_writable_folder


class Stage(StrEnum):
    """Stages of the bundled model, in order; each needs those before it."""

    ORACLE = "oracle"
    CRITIC = "critic"
    KL = "kl"
    CLIP = "clip"
    OPTIMUS = "optimus"
    ONE_FLOW = "one-flow"
    TWO_FLOW = "two-flow"
    FOUR_FLOW = "four-flow"
    MODEL = "model"


def postcards(
    stage: Annotated[Stage, typer.Option(help="Stop after this one; those that it needs come first.")] = Stage.MODEL,
    run: Annotated[Path, typer.Option(help="Folder of checkpoints, logs and the model.", file_okay=False)] = Path(
        "runs/postcards"
    ),
    resume: Annotated[
        bool,
        typer.Option("--resume/--fresh", help="Go on from the last checkpoints, or move them aside and begin anew."),
    ] = True,
    start: Annotated[
        str | None, typer.Option(help="A model to go on from, such as the bundled one: postcards.", metavar="MODEL")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe; may be repeated.")
    ] = None,
) -> None:
    """Train the bundled model of postcards.

    \b
    vd train postcards
    vd train postcards --stage kl --set kl.steps=5000 --set kl.batch_size=16
    vd train postcards --start postcards --run runs/better
    accelerate launch --multi_gpu --num_processes 2 --num_machines 1 -m versatile_diffusion.cli train postcards
    """
    require_writable_folder(run)
    from versatile_diffusion.devices import computes_bf16
    from versatile_diffusion.processes import processes
    from versatile_diffusion.worlds.postcards.recipe import Recipe, with_settings
    from versatile_diffusion.worlds.postcards.training import PostcardsTraining

    recipe = with_settings(Recipe(), settings or [])
    if not resume and processes().is_main_process:
        _move_aside(run)
    processes().wait_for_everyone()
    training = PostcardsTraining(recipe, run, "bf16" if computes_bf16() else "no", start)
    getattr(training, stage.replace("-", "_"))
    say(f"Trained: {stage}, in {run}.")


def _move_aside(run: Path) -> None:
    if not run.exists():
        return
    names = (run.with_name(f"{run.name}-{i}") for i in range(1, 10_000))
    kept = run.rename(next(name for name in names if not name.exists()))
    say(f"The earlier run is now {kept}.")
