# pyright: strict
"""Measure a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from versatile_diffusion.cli.console import results
from versatile_diffusion.cli.files import require_writable
from versatile_diffusion.cli.opening import open_pipeline
from versatile_diffusion.cli.options import GuidanceScale, ModelOptions, Overwrite, Scheduler, Steps
from versatile_diffusion.extras import require
from versatile_diffusion.files import write_whole
from versatile_diffusion.provenance import png


def postcards(
    options: ModelOptions,
    num: Annotated[
        int, typer.Option(min=2, help="Fresh postcards of seen, and as many of held-out combinations.")
    ] = 256,
    seed: Annotated[int, typer.Option(min=0, help="Of the postcards and of the noise.")] = 1,
    steps: Steps = 25,
    guidance_scale: GuidanceScale = None,
    scheduler: Scheduler = None,
    as_json: Annotated[
        Path | None, typer.Option("--json", dir_okay=False, help="A file for all figures as JSON.")
    ] = None,
    sheet: Annotated[Path | None, typer.Option(dir_okay=False, help="A .png file for some of what was made.")] = None,
    applications: Annotated[
        bool, typer.Option("--applications", help="Measure mixing, editing, masks and focus instead of the flows.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(dir_okay=False, help="A .png file for the curves of the applications.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Measure all four flows of a model of postcards, or what else can be made with them.

    \b
    vd evaluate postcards --num 256 --seed 1 --json out.json --sheet sheet.png
    vd evaluate postcards --model runs/postcards/model --num 64 --scheduler dpm --steps 8
    vd evaluate postcards --applications --num 128 --json out.json --plot curves.png
    """
    if (sheet and applications) or (plot and not applications):
        raise ValueError("--sheet shows the four flows, --plot the applications: leave one out.")
    require_writable([file for file in (as_json, sheet, plot) if file], overwrite)
    if not applications:
        require("torchmetrics", "Evaluation", "evaluate")
    if plot:
        require("matplotlib", "A plot", "evaluate")
    pipe = open_pipeline(options, None)
    from versatile_diffusion.worlds.postcards.applications import evaluate_applications
    from versatile_diffusion.worlds.postcards.evaluation import evaluate, load_oracle
    from versatile_diffusion.worlds.postcards.findings import Applications
    from versatile_diffusion.worlds.postcards.report import Report

    if scheduler is not None:
        from versatile_diffusion.sampling.schedulers import named_scheduler

        pipe.scheduler = named_scheduler(scheduler, pipe.scheduler)
    measure = evaluate_applications if applications else evaluate
    report = measure(pipe, load_oracle(options.model), num, seed, steps, guidance_scale)
    for table in report.tables():
        results.print(table)
    if as_json:
        write_whole(as_json, (json.dumps(report.as_dict(), indent=2) + "\n").encode())
    if sheet and isinstance(report, Report):
        write_whole(sheet, png(report.sheet))
    if plot and isinstance(report, Applications):
        write_whole(plot, report.plot())
