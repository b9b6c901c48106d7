# pyright: strict
"""`vd bench`: speed and memory on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from versatile_diffusion.bench import IF_NAMED, NAMES, run
from versatile_diffusion.bundled import DRAWN_WORLD
from versatile_diffusion.cli.console import messages, results, say
from versatile_diffusion.cli.files import require_writable
from versatile_diffusion.cli.options import Dtype, Model, Overwrite, Steps


def bench(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME…]",
            help=f"{', '.join(NAMES)}; if left out, all but {', '.join(IF_NAMED)}.",
            show_default=False,
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often each work is timed.")] = 5,
    model: Model = DRAWN_WORLD,
    steps: Steps = 25,
    dtype: Annotated[Dtype, typer.Option(help="Of generation, diffuser, picture and compiled.")] = Dtype.AUTO,
    cache: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="A folder that keeps the random weights of loading and picture, 7 GB each."),
    ] = None,
    as_json: Annotated[
        Path | None, typer.Option("--json", dir_okay=False, help="A file for all figures as JSON.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Measure speed and memory. Where there is a peer, the two take turns, and their outputs are compared first.

    \b
    vd bench --rounds 5 --json out.json
    vd bench generation optimus
    vd bench picture --steps 50 --rounds 1 --cache models
    """
    require_writable([as_json] if as_json else [], overwrite)
    with messages.status("Measuring …") as status:
        report = run(
            names or (),
            rounds,
            as_json,
            model=model,
            steps=steps,
            cache=cache,
            dtype=dtype,
            show=lambda result: results.print(result.table()),
            progress=status.update,
        )
    say(str(report.machine))
