# pyright: strict
"""`vd app`: the studio in a browser."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from versatile_diffusion.bundled import DEFAULT_MODEL
from versatile_diffusion.cli.console import messages, say
from versatile_diffusion.cli.options import BACKEND_HELP, Backend, Dtype
from versatile_diffusion.extras import extra


def app(
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            metavar="[NAME=]MODEL",
            help=f"A bundled model (default: {DEFAULT_MODEL}), a folder, a file or a hub id; of several the first "
            "is the default.",
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address of this machine to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="To listen at.")] = 7860,
    history: Annotated[
        Path | None, typer.Option(file_okay=False, help="Folder that keeps results; by default one of the user's.")
    ] = None,
    history_limit: Annotated[
        str, typer.Option(metavar="SIZE", help="The oldest results go when there are more bytes, such as 500MB.")
    ] = "2GB",
    device: Annotated[str, typer.Option(help="auto, cuda, mps or cpu.")] = "auto",
    dtype: Annotated[Dtype, typer.Option(help="auto is fp16 on accelerators, else bf16 or fp32.")] = Dtype.AUTO,
    backend: Annotated[Backend | None, typer.Option(help=BACKEND_HELP)] = None,
) -> None:
    """Open the studio: every task in a browser. See docs/studio.md.

    \b
    vd app
    vd app --model postcards --model large=my-folder --port 9000
    vd app --history results --history-limit 500MB
    """
    from versatile_diffusion.engine.isolation import ProcessWorker
    from versatile_diffusion.engine.workers import Source

    limit = read_size(history_limit)
    sources = [Source.parse(text) for text in model or [DEFAULT_MODEL]]
    # Its process opens the models while this one imports the studio.
    with closing(ProcessWorker(sources, device, dtype, backend)) as worker, messages.status("Opening the studio …"):
        with extra("app", "the studio"):
            from versatile_diffusion.studio.history import History, default_folder
            from versatile_diffusion.studio.server import serve
        serve(
            worker,
            History(history or default_folder(), limit),
            host=host,
            port=port,
            on_ready=lambda port: say(f"The studio is at http://{host}:{port} (Ctrl-C ends it)."),
        )


_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def read_size(text: str) -> int:
    """Returns bytes of a size such as 500MB.

    Raises:
        ValueError: if it is none.
    """
    number, unit = text[:-2].strip(), text[-2:].upper()
    try:
        return round(float(number) * _UNITS[unit])
    except (KeyError, ValueError) as error:
        raise ValueError(f"A size is a number and KB, MB, GB or TB, such as 500MB, got {text!r}.") from error
