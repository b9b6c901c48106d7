"""The worlds that are there, found by name: the folders of this package, and entry points of installed packages."""

from __future__ import annotations

from versatile_diffusion.bundled import load_world, world_names
from versatile_diffusion.worlds.base import World


def find_world(name: str) -> World | None:
    """Returns the world of that name, or None if there is none.

    Raises:
        TypeError: if what bears the name is no world.
    """
    if name not in world_names():
        return None
    found = load_world(name)
    if not isinstance(found, World):
        raise TypeError(f"The world {name!r} is described by {type(found).__name__}, not by a World.")
    return found


def get_world(name: str) -> World:
    """Returns the world of that name.

    Raises:
        ValueError: if there is none; the message names those that there are.
        TypeError: if what bears the name is no world.
    """
    found = find_world(name)
    if found is None:
        raise ValueError(f"There is no world {name!r}, only {', '.join(world_names())}.")
    return found
