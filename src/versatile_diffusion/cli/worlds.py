"""Commands that there is one of for each world, found by the world's name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from versatile_diffusion.bundled import world_names
from versatile_diffusion.cli.options import spread
from versatile_diffusion.worlds.base import World
from versatile_diffusion.worlds.registry import find_world

CommandOf = Callable[[World], tuple[Callable[..., None], str]]
"""Returns the command of a world, and its help."""


def world_commands(command_of: CommandOf, has: Callable[[World], bool] = lambda _: True) -> type[TyperGroup]:
    """Returns a group of commands, one for each world that has it. A world is imported when its command is asked for.

    Args:
        command_of: makes the command of a world.
        has: tells whether a world has this command.
    """

    class WorldCommands(TyperGroup):
        def list_commands(self, ctx: Any) -> list[str]:  # typer keeps its kind of context to itself
            return [name for name in world_names() if (world := find_world(name)) is not None and has(world)]

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            world = find_world(cmd_name)
            if world is None or not has(world):
                return None
            command, shown = command_of(world)
            alone = typer.Typer(add_completion=False, rich_markup_mode="rich")
            settings = {"help_option_names": ["-h", "--help"]}
            alone.command(world.name, help=shown, short_help=world.about, context_settings=settings)(spread(command))
            return get_command(alone)

    return WorldCommands
