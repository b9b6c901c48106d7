# pyright: strict
"""Write the data set of a world."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from versatile_diffusion.cli.console import say
from versatile_diffusion.cli.files import require_writable_folder
from versatile_diffusion.worlds.base import DataRequest, World

HELP = """Write the data set of {name}: images with captions. It is made from {sources}.

\b
vd data {name} --output data/{name}
vd data {name} --output data/{name} --packages downloads --images 2000
"""


def data_command(world: World) -> tuple[Callable[..., None], str]:
    """Returns the command that writes a world's data set, and its help."""

    def data(
        output: Annotated[
            Path, typer.Option("--output", "-o", help="The folder to write; a build goes on there.", file_okay=False)
        ] = Path("data", world.name),
        packages: Annotated[
            Path | None,
            typer.Option(help="A folder of what it is made from; fetched if left out.", exists=True, file_okay=False),
        ] = None,
        images: Annotated[int | None, typer.Option(min=1, help="How many there are to learn from.")] = None,
        seed: Annotated[int | None, typer.Option(min=0, help="Of what is drawn at random.")] = None,
    ) -> None:
        require_writable_folder(output)
        world.build_data(DataRequest(output, say, packages, images, seed))
        say(f"Wrote {output}")

    return data, HELP.format(name=world.name, sources=world.sources)
