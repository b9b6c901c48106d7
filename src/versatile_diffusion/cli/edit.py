"""`vd edit`: a picture changed by words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from versatile_diffusion.cli.making import Job, read_picture
from versatile_diffusion.cli.options import Making, Size


def edit(
    picture: Annotated[
        Path, typer.Argument(metavar="PICTURE", help="A file.", exists=True, dir_okay=False, show_default=False)
    ],
    making: Making,
    size: Size,
    prompt: Annotated[str | None, typer.Option(help="What the picture is to become.")] = None,
    remove: Annotated[str | None, typer.Option(help="Words for what is to go.")] = None,
    add: Annotated[str | None, typer.Option(help="Words for what is to come.")] = None,
    method: Annotated[str, typer.Option(help="rewrite, or latent: the official I2T2I.")] = "rewrite",
    text_share: Annotated[float | None, typer.Option(help="Weight of the words beside the picture, up to 1.")] = None,
    strength: Annotated[
        float, typer.Option(min=0, max=1, help="Below 1 keeps some of the picture's layout; 0 keeps all.")
    ] = 1.0,
) -> None:
    """Change a picture by words.

    \b
    vd edit postcard.png --remove house --add tent
    vd edit postcard.png --prompt "an oil painting" -n 4 --strength 0.9
    """
    read = read_picture(picture)
    how: dict[str, Any] = {"prompt": prompt, "remove": remove, "add": add, "method": method, "strength": strength}
    how["text_share"] = text_share
    job = Job("edit", "image", ["text", "image"], [picture.stem], making, how | vars(size), flows=FLOWS)
    job.run(lambda pipe, options: pipe.edit(read, **how, **vars(size), **options))


FLOWS = ("image-to-text", "text-variation", "text-to-image", "image-variation")
