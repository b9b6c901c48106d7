# pyright: strict
"""Files that commands write: names, checks before any work is done, and writing whole or not at all."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from versatile_diffusion.files import is_data_url, quoted, require_file
from versatile_diffusion.modalities.spec import Codec
from versatile_diffusion.validation import shortened

if TYPE_CHECKING:
    from torch import Tensor

OUTPUTS = Path("outputs")
_LONGEST_NAME = 48


def plan_files(output: Path | None, subjects: Sequence[str], seeds: Sequence[int], codec: Codec) -> list[Path]:
    """Returns a file for each subject and seed, those of the first subject first.

    Args:
        output: a folder, or the name of a file, to which the seeds are added if there are several outputs.
        subjects: what the outputs are made from; they name the files in a folder.
        seeds: of the outputs of each subject.
        codec: of the outputs.

    Raises:
        ValueError: if the output names a file of another kind than is written.
    """
    output = output or OUTPUTS
    suffix, kind = codec.suffix, codec.suffix.removeprefix(".").upper()
    if output.suffix.lower() in codec.suffixes and output.suffix.lower() != suffix:
        raise ValueError(f"Outputs are written as {kind}: change {output.suffix} of --output {output} to {suffix}.")
    if output.suffix.lower() != suffix or output.is_dir():
        return [output / f"{name}-{seed}{suffix}" for name in _unlike(map(slug, subjects)) for seed in seeds]
    if len(subjects) * len(seeds) == 1:
        return [output]
    names = [output.stem] if len(subjects) == 1 else [f"{output.stem}-{i + 1}" for i in range(len(subjects))]
    return [output.with_name(f"{name}-{seed}{output.suffix}") for name in names for seed in seeds]


def require_writable(files: Sequence[Path], overwrite: bool) -> None:
    """Raises OSError, before anything is computed, unless all files can be written without losing one."""
    existing = [file for file in files if file.exists()]
    if folders := [file for file in existing if file.is_dir()]:
        raise IsADirectoryError(f"{folders[0]} is a folder: name a file in it.")
    if existing and not overwrite:
        others = f" (and {len(existing) - 1} more)" if len(existing) > 1 else ""
        raise FileExistsError(f"{existing[0]} exists{others}: pass --overwrite to replace it, or another --output.")
    for folder in dict.fromkeys(file.parent for file in files):
        require_writable_folder(folder)


def require_writable_folder(folder: Path) -> None:
    """Raises OSError unless files can be written in the folder, or in a new folder of that name."""
    nearest = folder.absolute()
    while not nearest.exists():
        nearest = nearest.parent
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise OSError(f"Cannot write in {folder}: {error.strerror or error}. Choose another place.") from error


def read_tensor(file: Path | str) -> Tensor:
    """Reads the one array of a .safetensors, .npz or .npy file.

    Raises:
        ValueError: if it cannot be read, or holds several.
    """
    from versatile_diffusion.applications.embeddings import read_arrays

    tensors = read_arrays(Path(file))
    if len(tensors) != 1:
        held = shortened(", ".join(tensors), 300) or "nothing"
        raise ValueError(f"{quoted(file)} holds {held}: keep one array in it.")
    return next(iter(tensors.values()))


def picture_argument(given: str) -> str:
    """Returns what was given as a picture, if it is a file or a data URL.

    Raises:
        typer.BadParameter: if there is no such file.
    """
    if not is_data_url(given):
        try:
            require_file(Path(given))
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
    return given


def name_of(argument: str) -> str:
    """Returns the name of a file without its folder and its suffix, or what stands for one of a data URL."""
    return argument[5:].partition("/")[0] if is_data_url(argument) else Path(argument).stem


def slug(text: str) -> str:
    """Returns a text as part of a file name: its words, in lower case, as far as there is room."""
    name = re.sub(r"[\W_]+", "-", text.lower()).strip("-")
    if len(name) > _LONGEST_NAME:
        name = name[: _LONGEST_NAME + 1].rpartition("-")[0] or name[:_LONGEST_NAME]
    return name or "untitled"


def _unlike(names: Iterable[str]) -> list[str]:
    """The names, with a number where one occurred before."""
    unlike: list[str] = []
    for name in names:
        candidates = (name if i == 1 else f"{name}-{i}" for i in range(1, len(unlike) + 2))
        unlike.append(next(candidate for candidate in candidates if candidate not in unlike))
    return unlike
