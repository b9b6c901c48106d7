# pyright: strict
"""`vd serve`: models over HTTP."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from versatile_diffusion.bundled import DEFAULT_MODEL
from versatile_diffusion.cli.console import messages, say
from versatile_diffusion.cli.limits import QueueOptions, RequestOptions
from versatile_diffusion.cli.options import BACKEND_HELP, Backend, Dtype
from versatile_diffusion.extras import extra


def serve(
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            metavar="[NAME=]MODEL",
            help=f'"{DEFAULT_MODEL}" (bundled), a folder, a file or a hub id; may be repeated (default: the first).',
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen at. Beyond this machine only with keys.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="To listen at; 0 is any that is free.")] = 8000,
    device: Annotated[str, typer.Option(help="auto, cuda, mps or cpu.")] = "auto",
    dtype: Annotated[Dtype, typer.Option(help="auto is fp16 on accelerators, else bf16 or fp32.")] = Dtype.AUTO,
    backend: Annotated[Backend | None, typer.Option(help=BACKEND_HELP)] = None,
    keys: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="A file of API keys, one a line; VD_API_KEYS adds to it."),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(metavar="ORIGIN", help="Pages that browsers may ask from, or *; may be repeated."),
    ] = None,
    *,
    engine_limits: QueueOptions,
    limits: RequestOptions,
) -> None:
    """Serve models over HTTP, with OpenAI's image interface among others. See docs/server.md.

    \b
    vd serve
    vd serve --model postcards --model large=my-folder --port 9000
    vd serve --host 0.0.0.0 --keys keys.txt --queue 100 --batch 16
    """
    from versatile_diffusion.engine.isolation import ProcessWorker
    from versatile_diffusion.engine.workers import Source
    from versatile_diffusion.serving.keys import KEYS_VARIABLE, Keys, require_keys

    sources = [Source.parse(text) for text in model or [DEFAULT_MODEL]]
    known = Keys.read(os.environ.get(KEYS_VARIABLE), keys)
    require_keys(host, known)
    # Its process opens the models while this one imports the server.
    with (
        closing(ProcessWorker(sources, device, dtype, backend)) as worker,
        messages.status("Opening the models …") as opening,
    ):
        with extra("serve", "serving"):
            from versatile_diffusion.serving.server import serve as run
        names = ", ".join(source.name for source in sources)

        def ready(port: int) -> None:
            opening.stop()
            say(f"Serving {names} at http://{host}:{port} (/docs tells how to ask).")

        run(
            worker,
            host=host,
            port=port,
            keys=known,
            engine_limits=engine_limits,
            limits=limits,
            origins=allow_origin or (),
            on_ready=ready,
        )
