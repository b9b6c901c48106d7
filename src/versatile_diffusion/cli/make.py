"""`vd text-to-image`, `image-to-text`, `image-variation` and `text-variation`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from versatile_diffusion.cli.options import Focus, Making, Negative, Size, Writing
from versatile_diffusion.cli.studio import Job, read_picture

Prompts = Annotated[
    list[str], typer.Argument(metavar="PROMPT", help='One or several; "" is allowed.', show_default=False)
]
Pictures = Annotated[
    list[Path], typer.Argument(metavar="PICTURE", help="Files.", exists=True, dir_okay=False, show_default=False)
]


def text_to_image(prompts: Prompts, making: Making, size: Size, negative: Negative = None) -> None:
    """Make pictures of a text.

    \b
    vd text-to-image "a watercolor of a red lighthouse by the sea" -n 4 --seed 1
    vd text-to-image "a tent at night" --negative rain --output tent.png
    """
    job = Job("text-to-image", "image", ["text"], prompts, making, vars(size) | {"negative": negative})
    job.run(lambda pipe, options: pipe.text_to_image(prompts, **vars(size), **_negative(negative), **options))


def image_to_text(pictures: Pictures, making: Making, writing: Writing) -> None:
    """Write texts about a picture.

    \b
    vd image-to-text picture.png -n 4
    vd image-to-text *.png --json > captions.json
    """
    read = [read_picture(picture) for picture in pictures]
    job = Job("image-to-text", "text", ["image"], _names(pictures), making, vars(writing))
    job.run(lambda pipe, options: pipe.image_to_text(read, **given(writing), **options))


def image_variation(
    pictures: Pictures,
    making: Making,
    size: Size,
    fidelity: Annotated[
        float, typer.Option(min=0, max=1, help="How much of the layout is kept; 1 is the picture itself.")
    ] = 0.0,
    focus: Focus = 0.5,
    color_adjust: Annotated[bool, typer.Option("--color-adjust", help="Keep the picture's colours.")] = False,
) -> None:
    """Make pictures like a picture.

    \b
    vd image-variation picture.png -n 4
    vd image-variation picture.png --fidelity 0.3 --focus 0.8 --color-adjust
    """
    read = [read_picture(picture) for picture in pictures]
    how = {"fidelity": fidelity, "focus": focus, "color_adjust": color_adjust}
    job = Job("image-variation", "image", ["image"], _names(pictures), making, how | vars(size))
    job.run(lambda pipe, options: pipe.image_variation(read, **how, **vars(size), **options))


def text_variation(prompts: Prompts, making: Making, writing: Writing, negative: Negative = None) -> None:
    """Write texts like a text.

    \b
    vd text-variation "a red tent in the snow" -n 4
    """
    job = Job("text-variation", "text", ["text"], prompts, making, vars(writing) | {"negative": negative})
    job.run(lambda pipe, options: pipe.text_variation(prompts, **_negative(negative), **given(writing), **options))


def given(options: Any) -> dict[str, Any]:
    """The options that are not left out."""
    return {name: value for name, value in vars(options).items() if value is not None}


def _negative(text: str | None) -> dict[str, Any]:
    from versatile_diffusion.context import Context

    return {} if text is None else {"negative": Context("text", text)}


def _names(pictures: list[Path]) -> list[str]:
    return [picture.stem for picture in pictures]
