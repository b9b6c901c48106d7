# pyright: strict
"""The commands, and what happens when one fails."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from io import TextIOWrapper
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from versatile_diffusion import __version__, lean
from versatile_diffusion.cli.console import error, show_whatever_is_said
from versatile_diffusion.cli.groups import alone, found, group
from versatile_diffusion.cli.options import ManyValues
from versatile_diffusion.extras import silence_imports
from versatile_diffusion.validation import shortened

COMMANDS: Mapping[str, Mapping[str, str]] = {
    "Make": {
        "demo": "demo:demo",
        "text-to-image": "flows:text_to_image",
        "image-to-text": "flows:image_to_text",
        "image-variation": "flows:image_variation",
        "text-variation": "flows:text_variation",
        "generate": "generate:generate",
        "blend": "generate:blend",
        "edit": "edit:edit",
        "batch": "batch:batch",
        "replay": "replay:replay",
    },
    "Brain decoding": {"reconstruct": "reconstruct:reconstruct", "embed": "embed:embed"},
    "Models": {
        "train": "train:models",
        "distill": "distill:distill",
        "evaluate": "evaluate:evaluations",
        "data": "data:data_sets",
        "vote": "vote:votes",
        "app": "studio:app",
        "serve": "serve:serve",
        "mcp": "mcp:mcp",
        "convert": "convert:convert",
        "export": "export:exports",
        "bench": "bench:bench",
    },
}
"""Where the commands are, as module and name, by the panels of the help that they stand in."""
CLASSES: Mapping[str, type[TyperCommand]] = {"distill": ManyValues}


class Commands(TyperGroup):
    """Commands that are imported when they are asked for. Their errors are shown as one message, with exit code 1."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        names: Any = dict.fromkeys(name for panel in COMMANDS.values() for name in panel)
        self.commands: Any = names  # to list, and to suggest; what they stand for is found by `get_command`

    def list_commands(self, ctx: Any) -> list[str]:  # typer keeps its kind of context to itself
        """The flows of other modalities stand behind those of the paper."""
        from versatile_diffusion.cli.other_flows import other_flows

        names = super().list_commands(ctx)
        place = names.index("text-variation") + 1
        return [*names[:place], *map(str, other_flows()), *names[place:]]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        places = ((panel, names[cmd_name]) for panel, names in COMMANDS.items() if cmd_name in names)
        for panel, path in places:
            return found(cmd_name, path, panel, CLASSES.get(cmd_name, TyperCommand))
        from versatile_diffusion.cli.other_flows import find_other_flow, flow_command

        flow = find_other_flow(cmd_name)
        return None if flow is None else alone(cmd_name, *flow_command(flow), panel="Make", cls=ManyValues)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, BrokenPipeError):
            raise
        except typer.BadParameter as problem:
            problem.message = shortened(problem.message)  # which quotes what was given
            raise
        except (ValueError, TypeError, OSError, RuntimeError, ImportError, FloatingPointError) as problem:
            if ctx.params.get("traceback"):
                raise
            error(str(problem) or type(problem).__name__)
            raise typer.Exit(1) from problem


app = group(cls=Commands)


def _show_version(asked: bool) -> bool:
    if asked:
        print(f"versatile-diffusion {__version__}")
        raise typer.Exit
    return asked


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version.")
    ] = False,
    traceback: Annotated[bool, typer.Option("--traceback", help="Show where an error comes from.")] = False,
) -> None:
    """Texts, pictures and variations of both from one diffusion model."""
    silence_imports()
    show_whatever_is_said()


def main() -> None:
    """Runs `vd`."""
    lean.install(own_process=True)
    stdout: object = sys.stdout
    if isinstance(stdout, TextIOWrapper):  # names of files may hold bytes that are no text
        stdout.reconfigure(errors="backslashreplace")
    app()
