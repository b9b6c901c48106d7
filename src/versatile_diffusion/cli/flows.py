"""`vd text-to-image`, `image-to-text`, `image-variation` and `text-variation`."""
# pyright: strict

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from versatile_diffusion.cli.contexts import Negatives
from versatile_diffusion.cli.decoding import decoding_words, read_decoding
from versatile_diffusion.cli.files import name_of, picture_argument
from versatile_diffusion.cli.flags import Taken
from versatile_diffusion.cli.job import GenerationJob
from versatile_diffusion.cli.options import JobOptions
from versatile_diffusion.cli.sweep import Sweep
from versatile_diffusion.modalities.image_spec import IMAGE, ImageDecoding
from versatile_diffusion.modalities.text_spec import TEXT, TextDecoding
from versatile_diffusion.sampling.options import Sampling

if TYPE_CHECKING:
    from versatile_diffusion.applications.versatile import VersatileDiffusionPipeline
    from versatile_diffusion.pipeline.outputs import Outputs

Prompts = Annotated[
    list[str], typer.Argument(metavar="PROMPT", help='One or several; "" is allowed.', show_default=False)
]
Pictures = Annotated[
    list[str], typer.Argument(metavar="PICTURE", help="Files.", parser=picture_argument, show_default=False)
]
WithoutStart = Annotated[Sampling, Taken(without=("strength",))]
WithoutSize = Annotated[Sampling, Taken(without=("strength", "height", "width"))]


def text_to_image(
    prompts: Prompts, job: JobOptions, sampling: WithoutStart, decoding: ImageDecoding, negatives: Negatives
) -> None:
    """Make pictures of a text.

    \b
    vd text-to-image "a watercolor of a red lighthouse by the sea" -n 4 --seed 1
    vd text-to-image "a tent at night" --negative rain --output tent.png
    vd text-to-image "a tent" --scheduler unipc --steps 20 --guidance-interval 0.2,0.8
    """
    own, words = (
        {**negatives.options(), **read_decoding(IMAGE.name, decoding)},
        negatives.words | decoding_words(decoding),
    )
    made = GenerationJob("text-to-image", IMAGE.name, [TEXT.name, *negatives.modalities], prompts, job, sampling, words)
    made.run(lambda pipe, options: pipe.text_to_image(prompts, **own, **options))


def image_to_text(
    images: Pictures, job: JobOptions, sampling: WithoutSize, decoding: TextDecoding, negatives: Negatives
) -> None:
    """Write texts about a picture.

    \b
    vd image-to-text picture.png -n 4
    vd image-to-text *.png --json > captions.json
    """
    read, names = _read(images)
    own, words = (
        {**negatives.options(), **read_decoding(TEXT.name, decoding)},
        negatives.words | decoding_words(decoding),
    )
    made = GenerationJob("image-to-text", TEXT.name, [IMAGE.name, *negatives.modalities], names, job, sampling, words)
    made.run(lambda pipe, options: pipe.image_to_text(read, **own, **options))


def image_variation(
    images: Pictures,
    job: JobOptions,
    sampling: WithoutStart,
    decoding: ImageDecoding,
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
    read, names = _read(images)
    own = {"color_adjust": color_adjust, **negatives.options(), **read_decoding(IMAGE.name, decoding)}
    words = {"color_adjust": color_adjust, **negatives.words, **decoding_words(decoding)}
    if grid:
        subjects, each = [f"{name} grid" for name in names], [{"fidelity": fidelity, "focus": focus} for _ in names]
    else:
        subjects, each = sweep.names(names), [setting for setting in sweep.settings for _ in names]

    def vary(pipe: VersatileDiffusionPipeline, options: dict[str, Any]) -> Outputs:
        seeds = options.pop("seeds")[: len(read) * job.num]  # the same for each setting
        made = sweep.run(partial(pipe.image_variation, read, seeds=seeds, **own, **options))
        return sweep.as_grids(made) if grid else sweep.one_after_the_other(made)

    modalities = [IMAGE.name, *negatives.modalities]
    GenerationJob("image-variation", IMAGE.name, modalities, subjects, job, sampling, words, each).run(vary)


def text_variation(
    prompts: Prompts, job: JobOptions, sampling: WithoutSize, decoding: TextDecoding, negatives: Negatives
) -> None:
    """Write texts like a text.

    \b
    vd text-variation "a red tent in the snow" -n 4
    vd text-variation "a red tent in the snow" --negative "a house" --temperature 0
    """
    own, words = (
        {**negatives.options(), **read_decoding(TEXT.name, decoding)},
        negatives.words | decoding_words(decoding),
    )
    made = GenerationJob("text-variation", TEXT.name, [TEXT.name, *negatives.modalities], prompts, job, sampling, words)
    made.run(lambda pipe, options: pipe.text_variation(prompts, **own, **options))


def _read(images: list[str]) -> tuple[list[object], list[str]]:
    """The pictures in files, before the model is opened, and their names."""
    return [IMAGE.codec.parse(image) for image in images], [name_of(image) for image in images]
