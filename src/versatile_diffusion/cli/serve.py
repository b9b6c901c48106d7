# pyright: strict
"""`vd serve`: models over HTTP."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from versatile_diffusion.bundled import DEFAULT_MODEL
from versatile_diffusion.cli.console import messages, say
from versatile_diffusion.cli.limits import QueueOptions, RequestOptions
from versatile_diffusion.cli.options import BACKEND_HELP, Backend, Dtype
from versatile_diffusion.extras import extra

if TYPE_CHECKING:
    from fastapi import FastAPI

    from versatile_diffusion.engine.workers import Source, Worker


@dataclass(frozen=True)
class ServerOptions:
    """Which models are offered, to whom and where."""

    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            metavar="[NAME=]MODEL",
            help=f"A bundled model (default: {DEFAULT_MODEL}), a folder, a file or a hub id; of several the first "
            "is the default.",
        ),
    ] = None
    host: Annotated[str, typer.Option(help="Address to listen at. Beyond this machine only with keys.")] = "127.0.0.1"
    port: Annotated[int, typer.Option(min=0, max=65535, help="To listen at; 0 is any that is free.")] = 8000
    device: Annotated[str, typer.Option(help="auto, cuda, mps or cpu.")] = "auto"
    dtype: Annotated[Dtype, typer.Option(help="auto is fp16 on accelerators, else bf16 or fp32.")] = Dtype.AUTO
    backend: Annotated[Backend | None, typer.Option(help=BACKEND_HELP)] = None
    keys: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="A file of API keys, one a line; VD_API_KEYS adds to it."),
    ] = None
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(metavar="ORIGIN", help="Pages that browsers may ask from, or *; may be repeated."),
    ] = None

    @property
    def sources(self) -> list[Source]:
        """The models, the default first."""
        from versatile_diffusion.engine.workers import Source

        return [Source.parse(text) for text in self.model or [DEFAULT_MODEL]]

    def start(self) -> Worker:
        """Starts a process that opens the models, while this one imports the server."""
        from versatile_diffusion.engine import isolation

        return isolation.ProcessWorker(self.sources, self.device, self.dtype, self.backend)


def serve(*, server: ServerOptions, engine_limits: QueueOptions, limits: RequestOptions) -> None:
    """Serve models over HTTP, with OpenAI's image interface among others. See docs/server.md.

    \b
    vd serve
    vd serve --model postcards --model large=my-folder --port 9000
    vd serve --host 0.0.0.0 --keys keys.txt --queue 100 --batch 16
    """
    serve_models(server, engine_limits, limits)


def serve_models(
    server: ServerOptions,
    engine_limits: QueueOptions,
    limits: RequestOptions,
    extend: Callable[[FastAPI], object] = lambda app: None,
    offers: str = "/docs tells how to ask",
) -> None:
    """Serves models until it is interrupted.

    Args:
        server: which, to whom and where.
        engine_limits: of the queue, batches and jobs.
        limits: of a request, and of a key.
        extend: adds other interfaces to the app.
        offers: what the user is told of it.
    """
    from versatile_diffusion.serving.keys import KEYS_VARIABLE, Keys, require_keys

    known = Keys.read(os.environ.get(KEYS_VARIABLE), server.keys)
    require_keys(server.host, known)
    with closing(server.start()) as worker, messages.status("Opening the models …") as opening:
        with extra("serve", "serving"):
            from versatile_diffusion.serving.server import serve as run
        names = ", ".join(source.name for source in server.sources)

        def ready(port: int) -> None:
            opening.stop()
            say(f"Serving {names} at http://{server.host}:{port} ({offers}).")

        run(
            worker,
            host=server.host,
            port=server.port,
            keys=known,
            engine_limits=engine_limits,
            limits=limits,
            origins=server.allow_origin or (),
            extend=extend,
            on_ready=ready,
        )
