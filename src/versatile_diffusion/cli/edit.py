"""`vd edit`: a picture changed by words."""
# pyright: strict

from __future__ import annotations

from typing import Annotated, Any

import typer

from versatile_diffusion.cli.decoding import decoding_words, read_decoding
from versatile_diffusion.cli.files import name_of, picture_argument
from versatile_diffusion.cli.job import GenerationJob
from versatile_diffusion.cli.options import JobOptions
from versatile_diffusion.modalities.image_spec import IMAGE, ImageDecoding
from versatile_diffusion.modalities.text_spec import TEXT
from versatile_diffusion.sampling.options import Sampling

FLOWS = ("image-to-text", "text-variation", "text-to-image", "image-variation")


def edit(
    image: Annotated[
        str, typer.Argument(metavar="PICTURE", help="A file.", parser=picture_argument, show_default=False)
    ],
    job: JobOptions,
    sampling: Sampling,
    decoding: ImageDecoding,
    prompt: Annotated[str | None, typer.Option(help="What the picture is to become.")] = None,
    remove: Annotated[str | None, typer.Option(help="Words for what is to go.")] = None,
    add: Annotated[str | None, typer.Option(help="Words for what is to come.")] = None,
    method: Annotated[str, typer.Option(help="rewrite, or latent: the official I2T2I.")] = "rewrite",
    text_share: Annotated[float | None, typer.Option(help="Weight of the words beside the picture, up to 1.")] = None,
) -> None:
    """Change a picture by words.

    \b
    vd edit postcard.png --remove house --add tent
    vd edit postcard.png --prompt "an oil painting" -n 4 --strength 0.9
    """
    read, own = IMAGE.codec.parse(image), read_decoding(IMAGE.name, decoding)
    how: dict[str, Any] = {"prompt": prompt, "remove": remove, "add": add, "method": method, "text_share": text_share}
    words = {**how, "strength": sampling.strength, **decoding_words(decoding)}
    contexts = [TEXT.name, IMAGE.name]
    made = GenerationJob("edit", IMAGE.name, contexts, [name_of(image)], job, sampling, words, flows=FLOWS)
    made.run(lambda pipe, options: pipe.edit(read, **how, **own, **options))
