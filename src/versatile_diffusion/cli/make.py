"""`vd text-to-image`, `image-to-text`, `image-variation` and `text-variation`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from versatile_diffusion.cli.conditions import Negatives
from versatile_diffusion.cli.making import Job, read_picture
from versatile_diffusion.cli.options import Making, Size, Writing
from versatile_diffusion.cli.sweep import Sweep

if TYPE_CHECKING:
    from versatile_diffusion.applications.versatile import VersatileDiffusionPipeline
    from versatile_diffusion.pipeline.outputs import Outputs

Prompts = Annotated[
    list[str], typer.Argument(metavar="PROMPT", help='One or several; "" is allowed.', show_default=False)
]
Pictures = Annotated[
    list[Path], typer.Argument(metavar="PICTURE", help="Files.", exists=True, dir_okay=False, show_default=False)
]


def text_to_image(prompts: Prompts, making: Making, size: Size, negatives: Negatives) -> None:
    """Make pictures of a text.

    \b
    vd text-to-image "a watercolor of a red lighthouse by the sea" -n 4 --seed 1
    vd text-to-image "a tent at night" --negative rain --output tent.png
    vd text-to-image "a tent" --scheduler unipc --steps 20 --guidance-interval 0.2,0.8
    """
    away = negatives.options()
    recipe = vars(size) | negatives.recipe
    job = Job("text-to-image", "image", ["text", *negatives.modalities], prompts, making, recipe)
    job.run(lambda pipe, options: pipe.text_to_image(prompts, **vars(size), **away, **options))


def image_to_text(pictures: Pictures, making: Making, writing: Writing, negatives: Negatives) -> None:
    """Write texts about a picture.

    \b
    vd image-to-text picture.png -n 4
    vd image-to-text *.png --json > captions.json
    """
    read = [read_picture(picture) for picture in pictures]
    away, recipe = negatives.options(), vars(writing) | negatives.recipe
    job = Job("image-to-text", "text", ["image", *negatives.modalities], _names(pictures), making, recipe)
    job.run(lambda pipe, options: pipe.image_to_text(read, **given(writing), **away, **options))


def image_variation(
    pictures: Pictures,
    making: Making,
    size: Size,
    negatives: Negatives,
    fidelity: Annotated[
        str, typer.Option(help="How much of the layout is kept, 0 to 1 (the picture itself); or several: 0,0.3,0.6.")
    ] = "0",
    focus: Annotated[
        str, typer.Option(help="0 keeps what is seen, 1 its style, 0.5 both; or several: 0,0.5,1.")
    ] = "0.5",
    grid: Annotated[
        bool, typer.Option("--grid", help="One labelled picture: a row for each fidelity, a column for each focus.")
    ] = False,
    color_adjust: Annotated[bool, typer.Option("--color-adjust", help="Keep the picture's colours.")] = False,
) -> None:
    """Make pictures like a picture.

    \b
    vd image-variation picture.png -n 4
    vd image-variation picture.png --fidelity 0.3 --focus 0.8 --color-adjust
    vd image-variation picture.png --focus 0,0.25,0.5,0.75,1 --fidelity 0,0.3,0.6 --grid
    """
    sweep = Sweep.parse(fidelity, focus)
    read, names, away = [read_picture(picture) for picture in pictures], _names(pictures), negatives.options()
    same = {"color_adjust": color_adjust} | vars(size)
    if grid:
        subjects, own = [f"{name} grid" for name in names], [{"fidelity": fidelity, "focus": focus} for _ in names]
    else:
        subjects, own = sweep.names(names), [setting for setting in sweep.settings for _ in names]

    def vary(pipe: VersatileDiffusionPipeline, options: dict[str, Any]) -> Outputs:
        seeded = options.pop("generator")[: len(read) * making.num]
        made = sweep.run(partial(pipe.image_variation, read, **same, **away, **options), seeded)
        return sweep.as_grids(made) if grid else sweep.one_after_the_other(made)

    modalities = ["image", *negatives.modalities]
    Job("image-variation", "image", modalities, subjects, making, same | negatives.recipe, own).run(vary)


def text_variation(prompts: Prompts, making: Making, writing: Writing, negatives: Negatives) -> None:
    """Write texts like a text.

    \b
    vd text-variation "a red tent in the snow" -n 4
    vd text-variation "a red tent in the snow" --negative "a house" --temperature 0
    """
    away, recipe = negatives.options(), vars(writing) | negatives.recipe
    job = Job("text-variation", "text", ["text", *negatives.modalities], prompts, making, recipe)
    job.run(lambda pipe, options: pipe.text_variation(prompts, **given(writing), **away, **options))


def given(options: Any) -> dict[str, Any]:
    """The options that are not left out."""
    return {name: value for name, value in vars(options).items() if value is not None}


def _names(pictures: list[Path]) -> list[str]:
    return [picture.stem for picture in pictures]
