"""`vd generate` and `vd blend`: any contexts, mixed by weight."""
# pyright: strict

from __future__ import annotations

from typing import Annotated, Any

import typer

from versatile_diffusion.cli.contexts import Conditions, Negatives
from versatile_diffusion.cli.decoding import decoding_words, read_decoding
from versatile_diffusion.cli.files import read_tensor
from versatile_diffusion.cli.flags import OfEveryModality, Taken
from versatile_diffusion.cli.job import GenerationJob
from versatile_diffusion.cli.options import JobOptions
from versatile_diffusion.modalities.image_spec import IMAGE, ImageDecoding
from versatile_diffusion.modalities.registry import modality_spec
from versatile_diffusion.modalities.spec import DecodingOptions
from versatile_diffusion.sampling.options import Sampling


def generate(
    to: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="What to make: image, text or what else the model makes.", show_default=False
        ),
    ],
    job: JobOptions,
    sampling: Sampling,
    decoding: Annotated[DecodingOptions, OfEveryModality()],
    conditions: Conditions,
    negatives: Negatives,
    start: Annotated[
        str | None, typer.Option(metavar="START", help="What to start from: a text, or a file of anything else.")
    ] = None,
    latents: Annotated[
        str | None, typer.Option(metavar="FILE", help="Noise to start from: .safetensors, .npz or .npy.")
    ] = None,
) -> None:
    """Make anything from any texts, pictures, other data and embeddings, mixed by weight.

    \b
    vd generate image --text "a castle in the snow:0.6" --image night.png:0.4
    vd generate text --image a.png --image b.png -n 4 --negative "a house"
    vd generate image --text "an oil painting" --start photo.png --strength 0.7
    vd generate image --embedding image=predicted.npy --unconditional zeros --scheduler unipc --steps 20
    vd generate image --context text="a castle:0.6" --context image=night.png:0.4
    """
    codec, contexts = modality_spec(to).codec, conditions.contexts()
    own: dict[str, Any] = {**negatives.options(), **read_decoding(to, decoding)}
    if start is not None:
        own["start"] = codec.parse(start)
    elif sampling.strength != 1:
        raise ValueError(f"A strength of {sampling.strength} needs a --start: give one, or leave --strength at 1.")
    if latents is not None:
        own["latents"] = read_tensor(latents)

    words = {
        **conditions.words,
        **negatives.words,
        "start": start,
        "strength": None if start is None else sampling.strength,
        "latents": latents,
        **decoding_words(decoding),
    }
    modalities = [context.modality for context in contexts] + negatives.modalities
    items = max(len(context.embedding) if context.embedding is not None else 1 for context in contexts)
    made = GenerationJob(f"generate {to}", to, modalities, [conditions.subject] * items, job, sampling, words)
    made.run(lambda pipe, options: pipe.generate(to, contexts, **own, **options))


def blend(
    job: JobOptions,
    sampling: Annotated[Sampling, Taken(without=("strength",))],
    decoding: ImageDecoding,
    conditions: Conditions,
    negatives: Negatives,
) -> None:
    """Blend pictures and texts into a picture: `vd generate image`, in short.

    \b
    vd blend --image a.png:0.5 --image b.png:0.5
    vd blend --image a.png:0.3 --text "in the snow, at night:0.7" -n 4
    vd blend --image a.png:0.4 --image b.png:0.3 --mask b.png=mask.png --focus b.png=0.2 --text "a tent:0.3"
    """
    generate(IMAGE.name, job, sampling, decoding, conditions, negatives)
