# pyright: strict
"""`vd export`: what other programs and places run a model by."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from versatile_diffusion.cli.console import say
from versatile_diffusion.cli.groups import group


def comfyui(
    folder: Annotated[
        Path, typer.Argument(exists=True, file_okay=False, help="Of ComfyUI, or its custom_nodes.", show_default=False)
    ],
) -> None:
    """Add the nodes to ComfyUI, with example workflows. See docs/comfyui.md.

    This package must be installed in the environment that ComfyUI runs in.

    \b
    vd export comfyui ~/ComfyUI
    """
    from versatile_diffusion.comfyui.folder import write_nodes

    say(f"The nodes are in {write_nodes(folder)}: start ComfyUI anew, and find them under Versatile Diffusion.")


exports = group(help=__doc__)
exports.command("comfyui")(comfyui)
