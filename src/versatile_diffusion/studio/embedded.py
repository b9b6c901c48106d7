"""Files of embeddings as contexts."""

from __future__ import annotations

import base64
import tempfile
from pathlib import Path
from typing import Any

from versatile_diffusion.studio.controls import NamedFile


def contexts_of(file: NamedFile, scan: int, image_share: float) -> list[dict[str, Any]]:
    """Contexts, as fields of `ContextIn`, of one row of a file.

    Args:
        file: .safetensors or .npz of arrays named image and text, or one of them; or .npy of one array of image tokens.
        scan: the row.
        image_share: weight of the image, where there is a text as well.

    Raises:
        ValueError: if the file cannot be read, or has no such row.
    """
    from safetensors.torch import save

    arrays = _arrays(file)
    rows = len(next(iter(arrays.values())))
    if scan >= rows:
        raise ValueError(f"{file.name} holds {rows} scans: choose one from 0 to {rows - 1}.")
    weights = {"image": image_share, "text": 1 - image_share} if len(arrays) > 1 else dict.fromkeys(arrays, 1.0)
    return [
        {
            "modality": name,
            "embedding": base64.b64encode(save({"embedding": array[scan].float().contiguous()})).decode(),
            "weight": weights[name],
        }
        for name, array in arrays.items()
    ]


def _arrays(file: NamedFile) -> dict[str, Any]:
    import numpy as np

    from versatile_diffusion.applications.embeddings import read_embeddings

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "embeddings").with_suffix(Path(file.name).suffix.lower())
        path.write_bytes(file.content)
        try:
            if path.suffix == ".npy":
                array = np.load(path, allow_pickle=False)
                path = path.with_suffix(".npz")
                np.savez(path, image=array[None] if array.ndim == 2 else array)
            arrays = read_embeddings(path)
        except ValueError as error:
            raise ValueError(str(error).replace(str(path), file.name)) from error
    return {name: array for name, array in arrays.items() if name != "start"}
