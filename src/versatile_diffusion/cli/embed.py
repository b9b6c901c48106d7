"""`vd embed`: context embeddings of a folder of pictures, or of the lines of a file."""
# pyright: strict

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress
from rich.text import Text

from versatile_diffusion.bundled import DEFAULT_MODEL
from versatile_diffusion.cli.console import messages, note, say, warnings_as_notes
from versatile_diffusion.cli.files import require_writable
from versatile_diffusion.cli.options import Dtype, Model, Overwrite
from versatile_diffusion.files import read_lines
from versatile_diffusion.modalities.image_spec import IMAGE
from versatile_diffusion.modalities.registry import modality_spec
from versatile_diffusion.modalities.spec import Codec

if TYPE_CHECKING:
    from torch import Tensor

    from versatile_diffusion.modalities import Modality

_SHOWN = 5  # files that a note names


class Stored(StrEnum):
    """Number formats of a file of embeddings."""

    FP32 = "fp32"
    FP16 = "fp16"


@dataclass(frozen=True)
class Encoder:
    """Which model, and how it computes: exactly unless told otherwise, since others learn from it."""

    model: Model = DEFAULT_MODEL
    device: Annotated[str, typer.Option(help="auto, cuda, mps or cpu.", rich_help_panel="Model")] = "auto"
    dtype: Annotated[Dtype, typer.Option(help="What it computes in.", rich_help_panel="Model")] = Dtype.FP32


def embed(
    source: Annotated[
        Path, typer.Argument(help="A folder of pictures, or a .txt file.", exists=True, show_default=False)
    ],
    encoder: Encoder,
    output: Annotated[
        Path, typer.Option("--output", "-o", dir_okay=False, help="The .safetensors file to write.", show_default=False)
    ],
    modality: Annotated[
        str, typer.Option(metavar="NAME", help="Of the embeddings: image, text or what else the model takes.")
    ] = IMAGE.name,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures or lines in memory at once.")] = 16,
    store: Annotated[Stored, typer.Option(help="fp16 halves the file.")] = Stored.FP32,
    overwrite: Overwrite = False,
) -> None:
    """Write the context embeddings of all pictures in a folder, or of the lines of a file.

    The file holds one tensor, called image or text, of shape (items, tokens, width), and the items' names as a JSON
    list under "names" in its metadata. A run that was killed goes on where it was. Hidden files and folders are left
    out.

    \b
    vd embed pictures --modality image --output targets.safetensors
    vd embed captions.txt --modality text --output captions.safetensors --store fp16
    """
    if output.suffix != ".safetensors":
        raise ValueError(f"Embeddings are written as safetensors: let --output {output} end in .safetensors.")
    codec = modality_spec(modality).codec
    items = _lines(source) if codec.inline else _files(source, codec)
    require_writable([output], overwrite)
    bound = _open(encoder, modality)
    from versatile_diffusion.applications.embeddings import RowFile
    from versatile_diffusion.devices import DTYPES

    def rows(first: int, end: int) -> Tensor:
        chosen = items[first:end]
        return bound.embed(bound.read(chosen if codec.inline else [codec.read(source / item) for item in chosen]))

    with warnings_as_notes():
        shape = rows(0, 1).shape[1:]
        metadata = {"names": json.dumps(items), "model": encoder.model, "dtype": str(bound.dtype)}
        file = RowFile(output, modality, (len(items), *shape), DTYPES[store.value], metadata)
        with Progress(console=messages, transient=True, disable=not messages.is_terminal) as progress:
            task = progress.add_task(f"Embedding {len(items)} × {modality}", total=len(items))
            for done in file.write(rows, batch_size):
                progress.update(task, completed=done)
    say(f"{len(items)} × {modality} in {output}.")


def _files(folder: Path, codec: Codec) -> list[str]:
    """Names of the files in a folder that hold items; a note says which others there are."""
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder: pictures are read from a folder, and those below it.")
    names = sorted(file.relative_to(folder) for file in folder.rglob("*") if not file.is_dir())
    seen = [name for name in names if not any(part.startswith(".") for part in name.parts)]
    taken = [name for name in seen if _holds_item(folder / name, codec)]
    if not taken:
        raise ValueError(f"{folder} holds no files that can be read, such as {', '.join(codec.suffixes)}.")
    if left := [name.as_posix() for name in seen if name not in set(taken)]:
        more = f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
        note(f"Left out, since they cannot be read: {', '.join(left[:_SHOWN])}{more}.")
    return [name.as_posix() for name in taken]


def _holds_item(file: Path, codec: Codec) -> bool:
    """Tells whether a file can be read, whatever its suffix, as far as that is known without decoding it."""
    try:
        codec.require(file)
    except ValueError:
        return False
    return True


def _lines(file: Path) -> list[str]:
    from versatile_diffusion.applications.prompt_lists import JSON_LINES, require_list

    if file.is_dir():
        raise ValueError(f"{file} is a folder: texts are read from the lines of a .txt file.")
    require_list(file, JSON_LINES)
    lines = read_lines(file)
    if not lines:
        raise ValueError(f"{file} is empty: write one text a line.")
    return lines


def _open(encoder: Encoder, modality: str) -> Modality:
    """The modality alone: the diffuser is not read."""
    with messages.status(Text(f"Opening {encoder.model} …")):
        from versatile_diffusion.checkpoints import open_modality
        from versatile_diffusion.devices import choose_device, choose_dtype

        device = choose_device(encoder.device)
        bound = open_modality(encoder.model, modality, choose_dtype(encoder.dtype, device))
        return bound.to(device)  # pyright: ignore[reportArgumentType, reportUnknownMemberType] - untyped in diffusers
