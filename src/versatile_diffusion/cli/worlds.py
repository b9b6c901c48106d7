"""Commands that there is one of for each world, found by the world's name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from versatile_diffusion.bundled import world_names
from versatile_diffusion.cli.options import ManyValues, spread
from versatile_diffusion.worlds.base import World
from versatile_diffusion.worlds.registry import find_world

CommandOf = Callable[[World], tuple[Callable[..., None], str]]
"""Returns the command of a world, and its help."""


CommandOfOther = Callable[[str], tuple[Callable[..., None], str]]
"""Returns the command of what is not the name of a world, and its help."""


def world_commands(
    command_of: CommandOf,
    command_of_other: CommandOfOther | None = None,
    has: Callable[[World], bool] = lambda _: True,
) -> type[TyperGroup]:
    """Returns a group of commands, one for each world. A world is imported when its command is asked for.

    Args:
        command_of: makes the command of a world.
        command_of_other: makes the command of any other name, if there is one.
        has: tells whether a world has this command.
    """

    class WorldCommands(TyperGroup):
        def list_commands(self, ctx: Any) -> list[str]:  # typer keeps its kind of context to itself
            worlds = [name for name in world_names() if (world := find_world(name)) is not None and has(world)]
            return [*super().list_commands(ctx), *worlds]

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            world = find_world(cmd_name)
            if world is not None and has(world):
                return alone(world.name, *command_of(world), about=world.about)
            if command_of_other is not None:
                return alone(cmd_name, *command_of_other(cmd_name))
            return super().get_command(ctx, cmd_name)

    return WorldCommands


def alone(
    name: str, command: Callable[..., None], shown: str, about: str | None = None, panel: str | None = None
) -> Any:
    """Returns a command that is made when it is asked for.

    Args:
        name: of the command.
        command: what it runs.
        shown: its help.
        about: its help in a list of commands; by default the first line of `shown`.
        panel: of the list of commands.
    """
    app = typer.Typer(add_completion=False, rich_markup_mode="rich")
    settings = {"help_option_names": ["-h", "--help"]}
    added = app.command(
        name, cls=ManyValues, help=shown, short_help=about, context_settings=settings, rich_help_panel=panel
    )
    added(spread(command))
    return get_command(app)
