"""`vd reconstruct`: pictures of CLIP embeddings that were predicted from scans."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.progress import Progress

from versatile_diffusion import __version__
from versatile_diffusion.cli.console import messages, say, warnings_as_notes
from versatile_diffusion.cli.files import require_same_settings, require_writable_folder
from versatile_diffusion.cli.making import generators, open_pipeline, recipes_of, scale_of
from versatile_diffusion.cli.options import GuidanceScale, ModelOptions, Scheduler, Steps
from versatile_diffusion.files import write_whole

if TYPE_CHECKING:
    from torch import Tensor

    from versatile_diffusion.applications.versatile import VersatileDiffusionPipeline
    from versatile_diffusion.modalities import Modality

SETTINGS, RANKING = "settings.json", "ranking.json"


class Unconditional(StrEnum):
    """What stands for no condition."""

    DEFAULT = "default"
    ZEROS = "zeros"


class RankBy(StrEnum):
    """What pictures are ranked by."""

    IMAGE = "image"
    TOKENS = "tokens"


@dataclass(frozen=True)
class Recipe(ModelOptions):
    """How pictures are made. All pictures of a folder are made alike."""

    steps: Steps = 50
    guidance_scale: GuidanceScale = None
    image_weight: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the image, where there is a text as well.")
    ] = 0.5
    strength: Annotated[
        float | None, typer.Option(min=0, max=1, help="How much of the start is changed; 1 forgets it.")
    ] = None
    scheduler: Scheduler = None
    unconditional: Annotated[
        Unconditional, typer.Option(help="Of both contexts; by default zeros for the image, the empty text.")
    ] = Unconditional.DEFAULT
    rank_by: Annotated[
        RankBy | None, typer.Option(help="Likeness to the predicted class token (image), or to all tokens.")
    ] = None


@dataclass(frozen=True)
class Place:
    """A picture to make: of which scan, from which seed, and its file."""

    scan: int
    seed: int
    file: Path


def reconstruct(
    embeddings: Annotated[
        Path, typer.Argument(help="A .npz or .safetensors file.", exists=True, dir_okay=False, show_default=False)
    ],
    recipe: Recipe,
    output: Annotated[
        Path, typer.Option("--output", "-o", file_okay=False, help="A folder for the pictures.", show_default=False)
    ],
    num: Annotated[int, typer.Option("--num", "-n", min=1, help="Pictures of each scan.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Of the first picture of each scan; the next has the next.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures made at once.")] = 8,
) -> None:
    """Make pictures of predicted CLIP embeddings, scan by scan.

    The file holds arrays named image and text (scans, tokens, width), or one of them, and perhaps start (scans,
    channels, height, width), latents to start from. A rerun makes only the pictures that are missing.

    \b
    vd reconstruct embeddings.npz --output pictures --rank-by image
    vd reconstruct embeddings.npz -o pictures --scheduler unipc --steps 20 --guidance-scale 3.5 --strength 0.85
    """
    require_writable_folder(output)
    from versatile_diffusion.applications.embeddings import read_embeddings

    arrays = read_embeddings(embeddings)
    options = _options(recipe, arrays)
    require_same_settings(output / SETTINGS, _settings(embeddings, recipe), any(output.glob("scan-*.png")))
    places = _places(output, len(next(iter(arrays.values()))), range(seed, seed + num))
    missing = [place for place in places if not place.file.exists()]
    if missing:
        contexts = sorted({"image", "text"} & (arrays.keys() | ({"image"} if recipe.rank_by else set())))
        pipe = open_pipeline(recipe, [f"{context}-to-image" for context in contexts])
        _make(pipe, recipe, arrays, missing, batch_size, options, _told(recipe, embeddings, pipe))
    if recipe.rank_by:
        write_whole(output / RANKING, (json.dumps(_ranking(places), indent=2) + "\n").encode())
    say(f"{len(missing)} of {len(places)} pictures made, the others were there: {output}.")


# ---- details ----


def _options(recipe: Recipe, arrays: Mapping[str, Tensor]) -> dict[str, Any]:
    """Options of `reconstruct`."""
    if "start" in arrays and recipe.strength is None:
        raise ValueError("The file holds a start: say with --strength how much of it is changed, such as 0.85.")
    if "start" not in arrays and recipe.strength not in (None, 1):
        raise ValueError("--strength needs latents to start from: add an array named start to the file.")
    if recipe.rank_by and "image" not in arrays:
        raise ValueError("--rank-by compares with the predicted image: add an array named image to the file.")
    return {
        "num_inference_steps": recipe.steps,
        "guidance_scale": recipe.guidance_scale,
        "image_weight": recipe.image_weight,
        "strength": 1.0 if recipe.strength is None else recipe.strength,
        "scheduler": recipe.scheduler,
        "image_unconditional": recipe.unconditional.value,
        "text_unconditional": recipe.unconditional.value,
        "rank_by": None if recipe.rank_by is None else recipe.rank_by.value,
    }


def _settings(embeddings: Path, recipe: Recipe) -> dict[str, Any]:
    """What must not change in a folder. Where it computes may: one machine helps out another."""
    with embeddings.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return {"embeddings": digest} | {k: v for k, v in asdict(recipe).items() if k not in ("device", "dtype")}


def _places(output: Path, scans: int, seeds: Sequence[int]) -> list[Place]:
    digits = max(4, len(str(scans - 1)))
    return [
        Place(scan, seed, output / f"scan-{scan:0{digits}}-seed-{seed}.png") for scan in range(scans) for seed in seeds
    ]


def _make(
    pipe: VersatileDiffusionPipeline,
    recipe: Recipe,
    arrays: Mapping[str, Tensor],
    places: Sequence[Place],
    batch_size: int,
    options: Mapping[str, Any],
    told: Mapping[str, Any],
) -> None:
    from versatile_diffusion.provenance.files import write_picture

    if "start" in arrays:
        _check_start(pipe, arrays["start"])
    pipe.set_progress_bar_config(disable=True)
    names = {"image": "image_embedding", "text": "text_embedding", "start": "start"}
    with (
        warnings_as_notes(),
        Progress(console=messages, transient=True, disable=not messages.is_terminal) as progress,
    ):
        task = progress.add_task(f"Reconstructing {len(places)} pictures", total=len(places))
        for batch in _batches(places, batch_size):
            rows = [place.scan for place in batch]
            made = pipe.reconstruct(
                **{names[name]: array[rows] for name, array in arrays.items()},
                num_outputs=1,
                batch_size=batch_size,
                generator=generators([place.seed for place in batch]),
                **options,
            )
            kept = recipes_of(pipe, [origin for of_scan in made.origins for origin in of_scan], recipe)
            for i, place in enumerate(batch):
                score = {} if made.scores is None else {"score": made.scores[i][0]}
                words = {"scan": place.scan, "seed": place.seed, **told, **score}
                write_picture(place.file, made.images[i][0], words, kept[i])
            progress.advance(task, len(batch))


def _check_start(pipe: VersatileDiffusionPipeline, start: Tensor) -> None:
    shape = cast("Modality", pipe.modalities["image"]).latent_shape()
    if start.shape[1] != shape[0]:
        raise ValueError(
            f"start must hold latents of {shape[0]} channels, for pictures of the usual size "
            f"(scans, {', '.join(map(str, shape))}), got {tuple(start.shape)}."
        )


def _told(recipe: Recipe, embeddings: Path, pipe: VersatileDiffusionPipeline) -> dict[str, Any]:
    """What pictures tell of how they were made."""
    entries = {
        "command": "reconstruct",
        "embeddings": embeddings.name,
        "steps": recipe.steps,
        "guidance_scale": scale_of(pipe, "image", recipe.guidance_scale),
        "image_weight": recipe.image_weight,
        "strength": recipe.strength,
        "scheduler": recipe.scheduler,
        "unconditional": recipe.unconditional.value,
        "rank_by": None if recipe.rank_by is None else recipe.rank_by.value,
        "model": recipe.model,
        "version": __version__,
    }
    return {key: value for key, value in entries.items() if value is not None}


def _ranking(places: Sequence[Place]) -> dict[str, list[dict[str, Any]]]:
    """For each scan its pictures, the most similar first, as their files tell."""
    from PIL import Image

    ranking: dict[str, list[dict[str, Any]]] = {}
    for place in places:
        with Image.open(place.file) as picture:
            score = float(picture.info["score"])
        ranking.setdefault(str(place.scan), []).append({"file": place.file.name, "seed": place.seed, "score": score})
    return {scan: sorted(found, key=lambda one: -one["score"]) for scan, found in ranking.items()}


def _batches(places: Sequence[Place], size: int) -> Iterator[Sequence[Place]]:
    for first in range(0, len(places), size):
        yield places[first : first + size]
