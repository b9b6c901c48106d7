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


def world_commands(command_of: CommandOf, command_of_other: CommandOfOther | None = None) -> type[TyperGroup]:
    """Returns a group of commands, one for each world. A world is imported when its command is asked for.

    Args:
        command_of: makes the command of a world.
        command_of_other: makes the command of any other name, if there is one.
    """

    class WorldCommands(TyperGroup):
        def list_commands(self, ctx: Any) -> list[str]:  # typer keeps its kind of context to itself
            return list(world_names())

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            world = find_world(cmd_name)
            if world is not None:
                return _alone(world.name, world.about, *command_of(world))
            return None if command_of_other is None else _alone(cmd_name, None, *command_of_other(cmd_name))

    return WorldCommands


def _alone(name: str, about: str | None, command: Callable[..., None], shown: str) -> Any:
    alone = typer.Typer(add_completion=False, rich_markup_mode="rich")
    settings = {"help_option_names": ["-h", "--help"]}
    alone.command(name, cls=ManyValues, help=shown, short_help=about, context_settings=settings)(spread(command))
    return get_command(alone)
