"""Measure a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from versatile_diffusion.cli.console import results
from versatile_diffusion.cli.files import png, require_writable, write_whole
from versatile_diffusion.cli.options import GuidanceScale, ModelOptions, Overwrite, Steps
from versatile_diffusion.cli.studio import open_pipeline


def postcards(
    options: ModelOptions,
    num: Annotated[
        int, typer.Option(min=2, help="Fresh postcards of seen, and as many of held-out combinations.")
    ] = 256,
    seed: Annotated[int, typer.Option(min=0, help="Of the postcards and of the noise.")] = 1,
    steps: Steps = 25,
    guidance_scale: GuidanceScale = None,
    as_json: Annotated[
        Path | None, typer.Option("--json", dir_okay=False, help="A file for all figures as JSON.")
    ] = None,
    sheet: Annotated[Path | None, typer.Option(dir_okay=False, help="A .png file for some of what was made.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Measure all four flows of a model of postcards.

    \b
    vd evaluate postcards --num 256 --seed 1 --json out.json --sheet sheet.png
    vd evaluate postcards --model runs/postcards/model --num 64
    """
    require_writable([file for file in (as_json, sheet) if file], overwrite)
    pipe = open_pipeline(options, None)
    from versatile_diffusion.evaluation.postcards import evaluate, load_oracle

    report = evaluate(pipe, load_oracle(options.model), num, seed, steps, guidance_scale)
    for table in report.tables():
        results.print(table)
    if as_json:
        write_whole(as_json, (json.dumps(report.as_dict(), indent=2) + "\n").encode())
    if sheet:
        write_whole(sheet, png(report.sheet))
