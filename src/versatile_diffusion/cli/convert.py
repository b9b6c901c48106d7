# pyright: strict
"""`vd convert`: any model as a folder of ours."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from versatile_diffusion.cli.console import messages
from versatile_diffusion.cli.files import require_writable_folder


class StoredDtype(StrEnum):
    """Number formats of a saved model."""

    KEEP = "keep"
    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


def convert(
    source: Annotated[str, typer.Argument(help="A folder, an official .pth file or a hub id.", show_default=False)],
    target: Annotated[Path, typer.Argument(help="The folder to write.", file_okay=False, show_default=False)],
    dtype: Annotated[StoredDtype, typer.Option(help="Of the weights.")] = StoredDtype.KEEP,
    flows: Annotated[
        str | None, typer.Option(help="Only what these need, with commas between them; all if left out.")
    ] = None,
    max_shard_size: Annotated[str, typer.Option(help="Of one file; so much memory is needed, too.")] = "2GB",
) -> None:
    """Convert a model of any layout into a folder of safetensors.

    \b
    vd convert shi-labs/versatile-diffusion models/vd --dtype fp16
    vd convert official-pth-folder models/vd-images --flows text-to-image,image-variation
    """
    require_writable_folder(target.parent)
    with messages.status("Converting …"):
        from versatile_diffusion import checkpoints
        from versatile_diffusion.devices import DTYPES
        from versatile_diffusion.flows import Flow

        wanted = None if flows is None else [Flow.parse(name.strip()) for name in flows.split(",")]
        checkpoints.convert(source, target, DTYPES.get(dtype), wanted, max_shard_size)
    messages.print(f"Wrote {target}", markup=False)
