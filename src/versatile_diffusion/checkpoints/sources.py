"""Whatever a user calls a model: the bundled one, a hub id, a folder of any layout, a single file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

import torch

from versatile_diffusion.bundled import bundled_weights, world_names
from versatile_diffusion.checkpoints import folder, hub, official
from versatile_diffusion.checkpoints.components import Checkpoint, Components
from versatile_diffusion.checkpoints.errors import CheckpointError, reading, shortened
from versatile_diffusion.checkpoints.layouts import file_reader, folder_reader
from versatile_diffusion.checkpoints.weight_files import ANY_FILES, FileOptions, variants
from versatile_diffusion.flows import Flow
from versatile_diffusion.modalities.base import Modality
from versatile_diffusion.modalities.image_spec import IMAGE

KNOWN = ("shi-labs/versatile-diffusion", "CompVis/stable-diffusion-v1-4")
"""Models of the hub that a misspelt name may mean."""


def open_source(
    source: str | Path,
    flows: Sequence[Flow] | None = None,
    torch_dtype: torch.dtype | None = None,
    modalities: Sequence[type[Modality]] = (),
    options: FileOptions = ANY_FILES,
) -> Components:
    """Loads a model.

    Args:
        source: the name of a bundled model, a folder (ours, diffusers', Stable Diffusion v1's, or of official .pth
            files), any file of one, Stable Diffusion v1 as one file, or a hub id.
        flows: read only what these need; by default all that the source has.
        torch_dtype: type of the weights; as they are stored by default.
        modalities: classes of modalities that folders of ours have, instead of those that are registered.
        options: which of its files to take, and where they come from.

    Raises:
        CheckpointError: if there is no such model, or it is damaged, or lacks something that the flows need.
        UnavailableError: if something has to come over the network and cannot.
    """
    checkpoint = read_source(source, flows, modalities, options)
    with reading(shortened(source)):
        return checkpoint.load(torch_dtype)


def open_modality(source: str | Path, name: str, torch_dtype: torch.dtype | None = None) -> Modality:
    """Loads what embeds data of one modality, without the diffuser.

    Args:
        source: see `open_source`.
        name: of the modality.
        torch_dtype: see `open_source`.

    Raises:
        CheckpointError: see `open_source`.
    """
    place = locate(source, [Flow(name, IMAGE.name)])
    output = folder.outputs_of(place)[0] if folder.is_ours(place) else IMAGE.name  # which models of other layouts make
    checkpoint = read_source(place, [Flow(name, output)])
    with reading(place):
        return checkpoint.load_modality(name, torch_dtype)


def read_source(
    source: str | Path,
    flows: Sequence[Flow] | None = None,
    modalities: Sequence[type[Modality]] = (),
    options: FileOptions = ANY_FILES,
) -> Checkpoint:
    """Like `open_source`, but leaves the tensors on disk."""
    place = locate(source, flows, options)
    with reading(place):
        if place.is_file():
            return file_reader(place, modalities, options)(flows)
        read = folder_reader(place, modalities, options)
        if read is None:
            raise CheckpointError(
                f"{place} holds no model that is known. Pass a folder saved by save_pretrained or `vd convert`, one in "
                "diffusers' layout (image_unet, text_unet, …, or unet, vae, …), one with "
                f"{official.FILES[0]} in it, or a single file of Stable Diffusion v1."
            )
        if options.variant is not None and options.variant not in (found := variants(place)):
            raise CheckpointError(
                f"{place} has no weights of the variant {options.variant!r}"
                + (f", only of {', '.join(sorted(found))}." if found else ".")
                + " Leave `variant` out to take what is there."
            )
        return read(flows)


def locate(source: str | Path, flows: Sequence[Flow] | None = None, options: FileOptions = ANY_FILES) -> Path:
    """Returns the folder of a model, which is downloaded if need be, or its file.

    A folder with the name of a bundled model takes its place only if it holds a model itself.

    Raises:
        CheckpointError: if there is no such model.
        UnavailableError: if it has to come over the network and cannot.
    """
    name = str(source)
    with reading(shortened(name)):
        path = Path(source).expanduser()
        if (bundled := bundled_weights(name)) is not None:
            return path if path.is_dir() and folder_reader(path) else bundled
        if name and path.exists():
            return path
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not name.startswith("."):
        return hub.download(name, flows, options)
    near = [known for known in get_close_matches(name, (*world_names(), *KNOWN), n=1) if known != name]
    raise CheckpointError(
        f"There is no model {shortened(name)!r}."
        + (f" Did you mean {near[0]!r}?" if near else "")
        + f' Models are {", ".join(_bundled_names())} (bundled), a folder or a file, or a hub id such as "{KNOWN[0]}".'
    )


def _bundled_names() -> list[str]:
    return [f'"{name}"' for name in world_names() if bundled_weights(name)]


def convert(
    source: str | Path,
    target: str | Path,
    dtype: torch.dtype | None = None,
    flows: Sequence[Flow] | None = None,
    max_shard_size: int | str = "2GB",
    modalities: Sequence[type[Modality]] = (),
) -> None:
    """Writes any model as a folder of ours, one shard at a time, so that it is never held whole.

    Args:
        source: see `open_source`.
        target: the folder to write, whole or not at all; see `folder.save`.
        dtype: type of the floating-point numbers; as they are stored by default.
        flows: write only what these need.
        max_shard_size: largest file, and largest piece of the model in memory.
        modalities: see `open_source`.

    Raises:
        CheckpointError: see `open_source`.
        FileExistsError: if the target holds something else.
    """
    folder.write(read_source(source, flows, modalities), target, dtype, max_shard_size)
