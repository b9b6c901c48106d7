"""A file of embeddings, read into contexts."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from versatile_diffusion.modalities.image_spec import IMAGE
from versatile_diffusion.modalities.text_spec import TEXT
from versatile_diffusion.studio.controls import NamedFile

if TYPE_CHECKING:
    from torch import Tensor


def embedding_contexts(file: NamedFile, scan: int, image_share: float) -> list[dict[str, object]]:
    """Returns the embeddings in one row of a file as contexts, in the fields of `ContextIn`.

    Args:
        file: a .safetensors or .npz file of arrays named image and text, or one of them; or a .npy file of one array of
            image tokens.
        scan: the row, counted from 0.
        image_share: the weight of the image, where there is a text as well.

    Raises:
        ValueError: if the file cannot be read, or has no such row.
    """
    from safetensors.torch import save

    arrays = _arrays(file)
    rows = len(next(iter(arrays.values())))
    if scan >= rows:
        raise ValueError(f"{file.name} holds {rows} scans: choose one from 0 to {rows - 1}.")
    both = {IMAGE.name: image_share, TEXT.name: 1 - image_share}
    return [
        {
            "modality": name,
            "embedding": base64.b64encode(save({"embedding": array[scan].float().contiguous()})).decode(),
            "weight": both[name] if len(arrays) > 1 else 1.0,
        }
        for name, array in arrays.items()
    ]


def _arrays(file: NamedFile) -> Mapping[str, Tensor]:
    """The arrays of embeddings by their modalities, each with a row for each scan."""
    from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType] - typed in part

    from versatile_diffusion.applications.embeddings import read_arrays, read_embeddings

    with tempfile.TemporaryDirectory() as folder:
        given = path = Path(folder, "embeddings").with_suffix(Path(file.name).suffix.lower())
        given.write_bytes(file.content)
        try:
            if given.suffix == ".npy":
                [array] = read_arrays(given).values()
                path = given.with_suffix(".safetensors")
                save_file({IMAGE.name: array[None] if array.ndim == 2 else array}, path)
            arrays = read_embeddings(path)
        except ValueError as error:
            raise ValueError(str(error).replace(str(path), file.name).replace(str(given), file.name)) from error
    return {name: array for name, array in arrays.items() if name in (IMAGE.name, TEXT.name)}
