# pyright: strict
"""Look at a data set before training on it, or write the one of a world."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from versatile_diffusion.cli.console import results, say, warnings_as_notes
from versatile_diffusion.cli.files import require_writable, require_writable_folder
from versatile_diffusion.cli.groups import group
from versatile_diffusion.cli.options import AsJson, Overwrite, spread
from versatile_diffusion.cli.worlds import world_commands
from versatile_diffusion.extras import require
from versatile_diffusion.training.settings.training_options import FilterPreset
from versatile_diffusion.worlds.base import DataRequest, World

HELP = """Write the data set of {name}: images with captions. It is {made}.

\b
vd data {name} --output data/{name}
vd data {name} --output data/{name} --images 2000{also}
vd train data/{name}
"""


def write_command(world: World) -> tuple[Callable[..., None], str]:
    """Returns the command that writes a world's data set, and its help."""

    def write(
        output: Annotated[
            Path, typer.Option("--output", "-o", help="The folder to write; a build goes on there.", file_okay=False)
        ] = Path("data", world.name),
        packages: Annotated[
            Path | None,
            typer.Option(help="A folder of what it is made from; fetched if left out.", exists=True, file_okay=False),
        ] = None,
        images: Annotated[int | None, typer.Option(min=1, help="How many there are to learn from.")] = None,
        seed: Annotated[int | None, typer.Option(min=0, help="Of what is drawn at random.")] = None,
        also: Annotated[
            list[str] | None, typer.Option(help="Write this modality as well, such as sound, if the world has it.")
        ] = None,
    ) -> None:
        if unknown := [name for name in also or () if name not in world.also]:
            raise ValueError(
                f"The data set of {world.name} has no {unknown[0]}; it has: {', '.join(world.also) or '-'}."
            )
        require_writable_folder(output)
        world.build_data(DataRequest(output, say, packages, images, seed, also or ()))
        say(f"Wrote {output}")

    made = "drawn from a seed" if world.sources is None else f"made from {world.sources}"
    also = "".join(f"\nvd data {world.name} --output data/{world.name} --also {name}" for name in world.also)
    return write, HELP.format(name=world.name, made=made, also=also)


def show(
    data: Annotated[str, typer.Argument(help="A folder, a file, a pattern of files, or hub:owner/name.")],
    most: Annotated[int, typer.Option("--most", min=1, help="Samples that are read at most.")] = 10_000,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A PNG for four samples with their captions.", dir_okay=False)
    ] = None,
    filter: Annotated[
        FilterPreset, typer.Option(help="Count what these filters of vd train would leave out.")
    ] = FilterPreset.NONE,
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
    from versatile_diffusion.data.captioned_data import CaptionedData
    from versatile_diffusion.data.overview import look_at
    from versatile_diffusion.data.samples_sheet import samples_sheet
    from versatile_diffusion.modalities.registry import modality_names, modality_spec

    modalities = {name: modality_spec(name).load()() for name in modality_names()}
    with warnings_as_notes():
        found = look_at(CaptionedData(data), modalities, most, filter.filters)
    if output is not None:
        samples_sheet(found.shown).save(output, "PNG")
        say(f"Written: {output}.")
    if as_json:
        results.print_json(data=found.as_dict())
        return
    for table in found.tables():
        results.print(table)


data_sets = group(cls=world_commands(write_command), help=__doc__)
"""Commands of the worlds by name, and `show`."""
data_sets.command("show")(spread(show))
