# pyright: strict
"""Groups of commands, and commands that are made when they are asked for: to make all takes longer than most run."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand
from typer.main import get_command, get_group

from versatile_diffusion.cli.options import spread
from versatile_diffusion.modalities.registry import modality_names

_SETTINGS = {"help_option_names": ["-h", "--help"]}


def group(**options: Any) -> typer.Typer:
    """Returns a group of commands without any yet, which looks as all groups of `vd` do.

    Args:
        options: of `typer.Typer`.
    """
    return typer.Typer(
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_show_locals=False,
        context_settings=_SETTINGS,
        **options,
    )


def alone(
    name: str,
    command: Callable[..., None],
    shown: str | None = None,
    about: str | None = None,
    panel: str | None = None,
    cls: type[TyperCommand] = TyperCommand,
) -> Any:
    """Returns a command as groups take it in, whatever else there is.

    Args:
        name: of the command.
        command: what it runs.
        shown: its help; that of the function by default.
        about: its help in a list of commands; the first line of `shown` by default.
        panel: of the list of commands.
        cls: of the command.
    """
    app = typer.Typer(add_completion=False, rich_markup_mode="rich")
    app.command(name, cls=cls, help=shown, short_help=about, context_settings=_SETTINGS, rich_help_panel=panel)(
        spread(command)
    )
    return get_command(app)


def found(name: str, path: str, panel: str, cls: type[TyperCommand] = TyperCommand) -> Any:
    """Returns the command or the group of commands at a path.

    Args:
        name: of the command.
        path: "module:name" within this package.
        panel: of the list of commands.
        cls: of the command, if it is no group.
    """
    module, _, attribute = path.partition(":")
    there = getattr(import_module(f"versatile_diffusion.cli.{module}"), attribute)
    if not isinstance(there, typer.Typer):
        return _with_options(name, there, panel, cls, tuple(modality_names()))
    made = get_group(there)
    made.name, made.rich_help_panel = name, panel
    return made


@cache
def _with_options(
    name: str, command: Callable[..., None], panel: str, cls: type[TyperCommand], modalities: tuple[str, ...]
) -> Any:
    """A command, made once for the modalities that there are, of which it has options."""
    return alone(name, command, panel=panel, cls=cls)
