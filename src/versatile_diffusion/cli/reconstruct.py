"""`vd reconstruct`: pictures of CLIP embeddings that were predicted from scans."""
# pyright: strict

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress

from versatile_diffusion import __version__
from versatile_diffusion.cli.console import messages, say, warnings_as_notes
from versatile_diffusion.cli.files import require_writable_folder
from versatile_diffusion.cli.flags import given
from versatile_diffusion.cli.opening import open_pipeline, records_of, resolved_for, show_progress
from versatile_diffusion.cli.options import MOST_OUTPUTS, ModelOptions, require_seeds, set_options
from versatile_diffusion.cli.writing import UnwrittenOutput, write_outputs
from versatile_diffusion.files import require_same_settings, write_whole
from versatile_diffusion.modalities.image_spec import IMAGE
from versatile_diffusion.modalities.text_spec import TEXT
from versatile_diffusion.sampling.options import Sampling

if TYPE_CHECKING:
    from torch import Tensor

    from versatile_diffusion.applications.versatile import VersatileDiffusionPipeline
    from versatile_diffusion.pipeline.outputs import Origin

SETTINGS, RANKING = "settings.json", "ranking.json"
_START = "start"


class Unconditional(StrEnum):
    """What stands for no condition."""

    DEFAULT = "default"
    ZEROS = "zeros"


class RankBy(StrEnum):
    """What pictures are ranked by."""

    IMAGE = IMAGE.name
    TOKENS = "tokens"


@dataclass(frozen=True)
class ScanOptions(ModelOptions):
    """What is made of each scan. All pictures of a folder are made alike."""

    image_weight: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the image, where there is a text as well.")
    ] = 0.5
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
    options: ScanOptions,
    sampling: Sampling,
    output: Annotated[
        Path, typer.Option("--output", "-o", file_okay=False, help="A folder for the pictures.", show_default=False)
    ],
    num: Annotated[int, typer.Option("--num", "-n", min=1, max=MOST_OUTPUTS, help="Pictures of each scan.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Of the first picture of each scan; the next has the next.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, max=MOST_OUTPUTS, help="Pictures made at once.")] = 8,
) -> None:
    """Make pictures of predicted CLIP embeddings, scan by scan.

    The file holds arrays named image and text (scans, tokens, width), or one of them, and perhaps start (scans,
    channels, height, width), latents to start from. A rerun makes only the pictures that are missing.

    \b
    vd reconstruct embeddings.npz --output pictures --rank-by image
    vd reconstruct embeddings.npz -o pictures --scheduler unipc --steps 20 --guidance-scale 3.5 --strength 0.85
    """
    require_writable_folder(output)
    require_seeds(seed, num)
    from versatile_diffusion.applications.embeddings import read_embeddings

    arrays = read_embeddings(embeddings)
    _require_fitting(options, sampling, arrays)
    settings = _settings(embeddings, options, sampling)
    require_same_settings(output / SETTINGS, settings, any(output.glob("scan-*.png")))
    places = _places(output, len(next(iter(arrays.values()))), range(seed, seed + num))
    missing = [place for place in places if not place.file.exists()]
    if missing:
        used = {*arrays, IMAGE.name} if options.rank_by else {*arrays}
        contexts = [name for name in (IMAGE.name, TEXT.name) if name in used]
        pipe = open_pipeline(options, [f"{context}-to-{IMAGE.name}" for context in contexts])
        _Reconstruction(pipe, options, sampling, arrays, embeddings.name).make(missing, batch_size)
    if options.rank_by:
        write_whole(output / RANKING, (json.dumps(_ranking(places), indent=2) + "\n").encode())
    say(f"{len(missing)} of {len(places)} pictures made, the others were there: {output}.")


# ---- details ----


@dataclass(frozen=True)
class _Reconstruction:
    """Pictures of the scans in a file.

    Attributes:
        pipe: makes them.
        options, sampling: how.
        arrays: what is known of the scans.
        source: name of the file.
    """

    pipe: VersatileDiffusionPipeline
    options: ScanOptions
    sampling: Sampling
    arrays: Mapping[str, Tensor]
    source: str

    def make(self, places: Sequence[Place], batch_size: int) -> None:
        """Makes and writes pictures, so many at once."""
        if _START in self.arrays:
            _check_start(self.pipe, self.arrays[_START])
        show_progress(self.pipe, None)
        told = self._words()
        with (
            warnings_as_notes(),
            Progress(console=messages, transient=True, disable=not messages.is_terminal) as progress,
        ):
            task = progress.add_task(f"Reconstructing {len(places)} pictures", total=len(places))
            for batch in _batches(places, batch_size):
                origins: list[Origin] = []
                made = self.pipe.reconstruct(**self._arguments(batch), on_batch=origins.extend)
                records = records_of(self.pipe, origins, self.options)
                unwritten: list[UnwrittenOutput] = []
                for i, place in enumerate(batch):
                    score = {} if made.scores is None else {"score": made.scores[i][0]}
                    words = {"scan": place.scan, "seed": place.seed, **told, **score}
                    unwritten.append(UnwrittenOutput(place.file, made.images[i][0], words, records[i]))
                write_outputs(IMAGE.name, unwritten)
                progress.advance(task, len(batch))

    def _arguments(self, batch: Sequence[Place]) -> dict[str, Any]:
        from torch import Generator

        rows, options = [place.scan for place in batch], self.options
        names = {name: name if name == _START else f"{name}_embedding" for name in self.arrays}
        return {
            **{names[name]: array[rows] for name, array in self.arrays.items()},
            **set_options(self.sampling),
            "num_outputs": 1,
            "batch_size": len(batch),
            "generator": [Generator().manual_seed(place.seed) for place in batch],
            "image_weight": options.image_weight,
            "image_unconditional": options.unconditional.value,
            "text_unconditional": options.unconditional.value,
            "rank_by": None if options.rank_by is None else options.rank_by.value,
        }

    def _words(self) -> dict[str, object]:
        """What pictures tell of how they were made."""
        from versatile_diffusion.provenance.words import sampling_words

        options = self.options
        entries = {
            "command": "reconstruct",
            "embeddings": self.source,
            **sampling_words(resolved_for(self.pipe, IMAGE.name, self.sampling)),
            "image_weight": options.image_weight,
            "strength": given(self.sampling).get("strength"),
            "unconditional": options.unconditional.value,
            "rank_by": None if options.rank_by is None else options.rank_by.value,
            "model": options.model,
            "version": __version__,
        }
        return {key: value for key, value in entries.items() if value is not None}


def _require_fitting(options: ScanOptions, sampling: Sampling, arrays: Mapping[str, Tensor]) -> None:
    """Raises ValueError if the arrays are not what the options need."""
    strength = given(sampling).get("strength")
    if _START in arrays and strength is None:
        raise ValueError("The file holds a start: say with --strength how much of it is changed, such as 0.85.")
    if _START not in arrays and strength not in (None, 1):
        raise ValueError("--strength needs latents to start from: add an array named start to the file.")
    if options.rank_by and IMAGE.name not in arrays:
        raise ValueError("--rank-by compares with the predicted image: add an array named image to the file.")


def _settings(embeddings: Path, options: ScanOptions, sampling: Sampling) -> dict[str, object]:
    """What must not change in a folder. Where it computes may: one machine helps out another."""
    from versatile_diffusion.provenance.words import sampling_words

    with embeddings.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    own = {key: value for key, value in asdict(options).items() if key not in ("device", "dtype", "backend")}
    return {"embeddings": digest, **own, **sampling_words(sampling), "strength": given(sampling).get("strength")}


def _places(output: Path, scans: int, seeds: Sequence[int]) -> list[Place]:
    digits = max(4, len(str(scans - 1)))
    return [
        Place(scan, seed, output / f"scan-{scan:0{digits}}-seed-{seed}.png") for scan in range(scans) for seed in seeds
    ]


def _check_start(pipe: VersatileDiffusionPipeline, start: Tensor) -> None:
    shape = pipe.modalities.named(IMAGE.name).latent_shape()
    if start.shape[1] != shape[0]:
        raise ValueError(
            f"start must hold latents of {shape[0]} channels, for pictures of the usual size "
            f"(scans, {', '.join(map(str, shape))}), got {tuple(start.shape)}."
        )


def _ranking(places: Sequence[Place]) -> dict[str, list[dict[str, object]]]:
    """For each scan its pictures, the most similar first, as their files tell."""
    ranking: dict[int, list[tuple[float, Place]]] = {}
    for place in places:
        score = float(IMAGE.codec.read_record(place.file.read_bytes())["score"])
        ranking.setdefault(place.scan, []).append((score, place))
    return {
        str(scan): [
            {"file": place.file.name, "seed": place.seed, "score": score}
            for score, place in sorted(found, key=lambda one: -one[0])
        ]
        for scan, found in ranking.items()
    }


def _batches(places: Sequence[Place], size: int) -> Iterator[Sequence[Place]]:
    for first in range(0, len(places), size):
        yield places[first : first + size]
