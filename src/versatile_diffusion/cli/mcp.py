# pyright: strict
"""`vd mcp`: tools for agents."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from versatile_diffusion.cli.console import say
from versatile_diffusion.cli.limits import QueueOptions, RequestOptions
from versatile_diffusion.cli.serve import ServerOptions, serve_models
from versatile_diffusion.extras import extra


def mcp(
    http: Annotated[bool, typer.Option("--http", help="Listen at --host and --port, instead of stdio.")] = False,
    folder: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="Pictures in it can be named by the client at stdio."),
    ] = None,
    *,
    server: ServerOptions,
    engine_limits: QueueOptions,
    limits: RequestOptions,
) -> None:
    """Offer models to agents as tools, over the Model Context Protocol. See docs/mcp.md.

    Over stdio, the client starts this command. With --http it is vd serve, with the tools at /mcp.

    \b
    vd mcp
    vd mcp --folder ~/Pictures
    vd mcp --http --port 9000
    vd mcp --model postcards --model large=my-folder --steps 50
    """
    with extra("mcp", "vd mcp"):
        from versatile_diffusion.mcp.http import PATH, add_tools
        from versatile_diffusion.mcp.stdio import serve_stdio
    if http and folder is not None:
        raise typer.BadParameter("Files are named over stdio alone, where the client is on this machine anyway.")
    if http:
        serve_models(server, engine_limits, limits, extend=add_tools, offers=f"agents find the tools at {PATH}")
        return
    names = [source.name for source in server.sources]
    say(f"Offering {', '.join(names)} to the client at standard input and output.")
    asyncio.run(serve_stdio(server.start, names, folder=folder, engine_limits=engine_limits, limits=limits))
