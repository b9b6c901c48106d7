# pyright: strict
"""Look at a data set before training on it."""

from pathlib import Path
from typing import Annotated

import typer

from versatile_diffusion.cli.console import results, say
from versatile_diffusion.cli.files import require_writable
from versatile_diffusion.cli.options import AsJson, Overwrite
from versatile_diffusion.extras import require


def show(
    data: Annotated[str, typer.Argument(help="A folder, a file, a pattern of files, or hub:owner/name.")],
    most: Annotated[int, typer.Option("--most", min=1, help="Samples that are read at most.")] = 10_000,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A PNG for four samples with their captions.", dir_okay=False)
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Tell what a data set holds: its format, sizes, captions, and what cannot be used and why.

    \b
    vd data show ./my-pictures
    vd data show ./my-pictures --output samples.png
    vd data show 'shards/*.tar' --most 1000 --json
    """
    require("datasets", "Reading data sets", "train")
    if output is not None:
        require_writable([output], overwrite)
    from versatile_diffusion.modalities.registry import modality_names, modality_spec
    from versatile_diffusion.training.reading.captioned_data import CaptionedData
    from versatile_diffusion.training.reading.overview import look_at
    from versatile_diffusion.training.reading.samples_sheet import samples_sheet

    modalities = {name: modality_spec(name).load()() for name in modality_names()}
    found = look_at(CaptionedData(data), modalities, most)
    if output is not None:
        samples_sheet(found.shown).save(output, "PNG")
        say(f"Written: {output}.")
    if as_json:
        results.print_json(data=found.as_dict())
        return
    for table in found.tables():
        results.print(table)
