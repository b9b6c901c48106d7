"""`vd generate` and `vd blend`: any contexts, mixed by weight."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from versatile_diffusion.cli.make import given
from versatile_diffusion.cli.options import Focus, Making, Negative, Size, Writing, weighted
from versatile_diffusion.cli.studio import Job, read_picture


class To(StrEnum):
    """What can be made."""

    IMAGE = "image"
    TEXT = "text"


Texts = Annotated[list[str] | None, typer.Option("--text", metavar="TEXT[:WEIGHT]", help="A text; may be repeated.")]
Images = Annotated[
    list[str] | None, typer.Option("--image", metavar="FILE[:WEIGHT]", help="A picture; may be repeated.")
]


def generate(
    to: Annotated[To, typer.Argument(help="What to make.", show_default=False)],
    making: Making,
    size: Size,
    writing: Writing,
    text: Texts = None,
    image: Images = None,
    negative: Negative = None,
    focus: Focus = 0.5,
    start: Annotated[
        str | None, typer.Option(metavar="START", help="A picture, or for texts a text, to start from.")
    ] = None,
    strength: Annotated[float, typer.Option(min=0, max=1, help="1 forgets the start, 0 keeps it.")] = 1.0,
) -> None:
    """Make pictures or texts from any texts and pictures, mixed by weight.

    \b
    vd generate image --text "a castle in the snow:0.6" --image night.png:0.4
    vd generate text --image a.png --image b.png -n 4
    vd generate image --text "an oil painting" --start photo.png --strength 0.7
    """
    from versatile_diffusion.context import Context

    texts, images = [weighted(item) for item in text or []], [weighted(item) for item in image or []]
    contexts = [Context("text", data, weight=weight) for data, weight in texts]
    contexts += [Context("image", read_picture(file), weight=weight, focus=focus) for file, weight in images]
    if not any(context.weight > 0 for context in contexts):
        raise ValueError("Nothing to go by: give at least one --text or --image with a weight above 0.")
    options: dict[str, Any] = given(writing) if to == To.TEXT else vars(size)
    if negative is not None:
        options = options | {"negative": Context("text", negative)}
    if start is not None:
        options = options | {"start": read_picture(start) if to == To.IMAGE else start, "strength": strength}

    subject = " + ".join([data for data, _ in texts] + [Path(file).stem for file, _ in images])
    recipe = {
        "texts": " | ".join(text or []) or None,
        "images": " | ".join(image or []) or None,
        "negative": negative,
        "focus": focus if images else None,
        "start": start,
        "strength": None if start is None else strength,
        **(vars(size) if to == To.IMAGE else vars(writing)),
    }
    modalities = list(dict.fromkeys(context.modality for context in contexts))
    job = Job(f"generate {to}", to, modalities, [subject], making, recipe)
    job.run(lambda pipe, made: pipe.generate(to, contexts, **options, **made))


def blend(
    making: Making,
    size: Size,
    text: Texts = None,
    image: Images = None,
    negative: Negative = None,
    focus: Focus = 0.5,
) -> None:
    """Blend pictures and texts into a picture: `vd generate image`, in short.

    \b
    vd blend --image a.png:0.5 --image b.png:0.5
    vd blend --image a.png:0.3 --text "in the snow, at night:0.7" -n 4
    """
    generate(To.IMAGE, making, size, Writing(), text, image, negative, focus)
