"""`vd generate` and `vd blend`: any contexts, mixed by weight."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from versatile_diffusion.cli.conditions import Conditions, Negatives
from versatile_diffusion.cli.files import read_tensor
from versatile_diffusion.cli.make import given
from versatile_diffusion.cli.making import Job, read_picture
from versatile_diffusion.cli.options import Making, Size, Writing


class To(StrEnum):
    """What can be made."""

    IMAGE = "image"
    TEXT = "text"


def generate(
    to: Annotated[To, typer.Argument(help="What to make.", show_default=False)],
    making: Making,
    size: Size,
    writing: Writing,
    conditions: Conditions,
    negatives: Negatives,
    start: Annotated[
        str | None, typer.Option(metavar="START", help="A picture, or for texts a text, to start from.")
    ] = None,
    strength: Annotated[float, typer.Option(min=0, max=1, help="1 forgets the start, 0 keeps it.")] = 1.0,
    latents: Annotated[
        str | None, typer.Option(metavar="FILE", help="Noise to start from: .safetensors, .npz or .npy.")
    ] = None,
    colors_of: Annotated[str | None, typer.Option(metavar="FILE", help="A picture to take the colours from.")] = None,
) -> None:
    """Make pictures or texts from any texts, pictures and embeddings, mixed by weight.

    \b
    vd generate image --text "a castle in the snow:0.6" --image night.png:0.4
    vd generate text --image a.png --image b.png -n 4 --negative "a house"
    vd generate image --text "an oil painting" --start photo.png --strength 0.7
    vd generate image --embedding image=predicted.npy --unconditional zeros --scheduler unipc --steps 20
    """
    contexts = conditions.contexts()
    options: dict[str, Any] = negatives.options() | (given(writing) if to == To.TEXT else vars(size))
    if start is not None:
        options |= {"start": read_picture(start) if to == To.IMAGE else start, "strength": strength}
    elif strength != 1:
        raise ValueError(f"A strength of {strength} needs a --start: give one, or leave --strength at 1.")
    if latents is not None:
        options["latents"] = read_tensor(latents)
    if colors_of is not None:
        if to != To.IMAGE:
            raise ValueError("--colors-of is for pictures: leave it out.")
        options["colors_of"] = read_picture(colors_of)

    recipe = {
        **conditions.recipe,
        **negatives.recipe,
        "start": start,
        "strength": None if start is None else strength,
        "latents": latents,
        "colors_of": colors_of,
        **(vars(size) if to == To.IMAGE else vars(writing)),
    }
    modalities = [context.modality for context in contexts] + negatives.modalities
    items = max(len(context.embedding) if context.embedding is not None else 1 for context in contexts)
    job = Job(f"generate {to}", to, modalities, [conditions.subject] * items, making, recipe)
    job.run(lambda pipe, made: pipe.generate(to, contexts, **options, **made))


def blend(making: Making, size: Size, conditions: Conditions, negatives: Negatives) -> None:
    """Blend pictures and texts into a picture: `vd generate image`, in short.

    \b
    vd blend --image a.png:0.5 --image b.png:0.5
    vd blend --image a.png:0.3 --text "in the snow, at night:0.7" -n 4
    vd blend --image a.png:0.4 --image b.png:0.3 --mask b.png=mask.png --focus b.png=0.2 --text "a tent:0.3"
    """
    generate(To.IMAGE, making, size, Writing(), conditions, negatives)
