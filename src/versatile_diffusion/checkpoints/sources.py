"""Whatever a user calls a model: the bundled one, a hub id, a folder of any layout, an official file."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path

import torch

from versatile_diffusion.bundled import DEFAULT_MODEL, bundled_weights, world_names
from versatile_diffusion.checkpoints import diffusers_folder, folder, hub, official, stable_diffusion
from versatile_diffusion.checkpoints.components import Checkpoint, Components
from versatile_diffusion.checkpoints.errors import CheckpointError
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
) -> Components:
    """Loads a model.

    Args:
        source: the name of a bundled model, a folder (ours, diffusers' or Stable Diffusion v1's), a folder of official
            .pth files or one of them, or a hub id.
        flows: read only what these need; by default all that the source has.
        torch_dtype: type of the weights; as they are stored by default.
        modalities: classes of modalities that folders of ours have, instead of those that are registered.

    Raises:
        CheckpointError: if there is no such model, or it is damaged, or lacks something that the flows need.
        UnavailableError: if something has to come over the network and cannot.
    """
    return read_source(source, flows, modalities).load(torch_dtype)


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
    return read_source(place, [Flow(name, output)]).load_modality(name, torch_dtype)


def read_source(
    source: str | Path,
    flows: Sequence[Flow] | None = None,
    modalities: Sequence[type[Modality]] = (),
) -> Checkpoint:
    """Like `open_source`, but leaves the tensors on disk."""
    place = locate(source, flows)
    read = _reader(place, modalities)
    if read is None:
        raise CheckpointError(
            f"{place} holds no model that is known. Pass a folder saved by save_pretrained or `vd convert`, one in "
            f"diffusers' layout (image_unet, text_unet, …, or unet, vae, …), or one with {official.FILES[0]} in it."
        )
    return read(flows)


def locate(source: str | Path, flows: Sequence[Flow] | None = None) -> Path:
    """Returns the folder of a model, which is downloaded if need be, or its official file.

    A folder with the name of a bundled model takes its place only if it holds a model itself.

    Raises:
        CheckpointError: if there is no such model.
        UnavailableError: if it has to come over the network and cannot.
    """
    name, path = str(source), Path(source).expanduser()
    if (bundled := bundled_weights(name)) is not None:
        return path if path.is_dir() and _reader(path) else bundled
    if name and path.exists():
        return path
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not name.startswith("."):
        return hub.download(name, flows)
    near = [known for known in get_close_matches(name, (*world_names(), *KNOWN), n=1) if known != name]
    raise CheckpointError(
        f"There is no model {name!r}."
        + (f" Did you mean {near[0]!r}?" if near else "")
        + f' Models are "{DEFAULT_MODEL}" (bundled), a folder, or a hub id such as "{KNOWN[0]}".'
    )


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


def _reader(
    place: Path, modalities: Sequence[type[Modality]] = ()
) -> Callable[[Sequence[Flow] | None], Checkpoint] | None:
    """What reads a folder or an official file, given the flows; None if there is no model that is known."""
    if place.is_file():
        return partial(official.read, place.parent, file=place)
    if folder.is_ours(place):
        return partial(folder.read, place, modalities=modalities)
    for layout in (diffusers_folder, stable_diffusion):
        if layout.recognises(place):
            return partial(layout.read, place)
    for candidate in (place, place / "pretrained_pth", place / "pretrained"):
        if official.recognises(candidate):
            return partial(official.read, candidate)
    return None
