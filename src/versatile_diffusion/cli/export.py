# pyright: strict
"""`vd export`: what other programs and places run a model by."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from versatile_diffusion.bundled import DEFAULT_MODEL
from versatile_diffusion.cli.console import say
from versatile_diffusion.cli.groups import group
from versatile_diffusion.extras import extra


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


def space(
    folder: Annotated[Path, typer.Argument(file_okay=False, help="To write, and to push.", show_default=False)],
    model: Annotated[str, typer.Option("--model", "-m", help="A bundled name or a hub id.")] = DEFAULT_MODEL,
    title: Annotated[str, typer.Option(help="Of the page.")] = "Versatile Diffusion",
) -> None:
    """Write a Space of the hub, which shows every flow of a model to anybody. See docs/hub.md.

    \b
    vd export space my-space --model me/my-model
    hf upload me/my-space my-space --repo-type space
    """
    from versatile_diffusion.cli.hub_files import write_space

    with extra("app", "a Space"):
        gradio = version("gradio")
    _require_room(folder, "app.py")
    write_space(folder, model, title, gradio)
    say(f"{folder} is a Space: try it with `python {folder / 'app.py'}`.")


def endpoint(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Of a saved model.", show_default=False)],
) -> None:
    """Add what an Inference Endpoint of the hub calls to a saved model. See docs/hub.md.

    \b
    vd export endpoint my-model
    hf upload me/my-model my-model
    """
    from versatile_diffusion.checkpoints.folder import is_ours
    from versatile_diffusion.cli.hub_files import write_endpoint

    if not is_ours(folder):
        raise ValueError(f"{folder} holds no model that `vd convert` or save_pretrained wrote: make one of it first.")
    _require_room(folder, "handler.py")
    write_endpoint(folder)
    say(f"{folder} can be deployed as an endpoint, once it is on the hub.")


def _require_room(folder: Path, file: str) -> None:
    """Raises FileExistsError if the file is there, and is none of ours."""
    there = folder / file
    if there.exists() and "from versatile_diffusion." not in there.read_text(errors="replace"):
        raise FileExistsError(f"{there} exists and is somebody's own: move it away, or choose another folder.")


exports = group(help=__doc__)
for command in (comfyui, space, endpoint):
    exports.command(command.__name__)(command)
