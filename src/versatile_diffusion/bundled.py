"""The worlds that come with the package or with others, by name, and where their models lie.

Finding one imports nothing but the one that is asked for, and of those in this package not even that for its weights.
`worlds.registry` gives worlds with their type; what is here serves rooms that know no worlds.
"""

from __future__ import annotations

import os
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

DEFAULT_MODEL = os.environ.get("VD_MODEL") or "postcards"
"""The model that commands take where the user names none; the environment variable VD_MODEL names another."""

DRAWN_WORLD = "postcards"
"""The world whose data set is drawn from a seed, so that benchmarks and examples need nothing from elsewhere."""

GROUP = "versatile_diffusion.worlds"
"""Entry points of installed packages that are worlds."""

_WORLDS = Path(__file__).with_name("worlds")
_INDEX = "model_index.json"


def world_names() -> tuple[str, ...]:
    """Returns the names of all worlds: those of this package first."""
    own = sorted(file.parent.name for file in _WORLDS.glob("*/__init__.py"))
    return tuple(dict.fromkeys([*own, *sorted(point.name for point in entry_points(group=GROUP))]))


def load_world(name: str) -> object:
    """Returns what describes the world of that name.

    Raises:
        LookupError: if there is no such world.
    """
    if (_WORLDS / name / "__init__.py").is_file():
        return vars(import_module(f"{__package__}.worlds.{name}"))["WORLD"]
    return _entry_point(name).load()


def bundled_weights(name: str) -> Path | None:
    """Returns the folder of the model that comes with the world of that name, or None if there is none."""
    own = _WORLDS / name / "weights"
    if "/" not in name and (own / _INDEX).is_file():
        return own
    if name not in world_names():
        return None
    weights = getattr(load_world(name), "weights", None)
    return weights if isinstance(weights, Path) and (weights / _INDEX).is_file() else None


def _entry_point(name: str) -> EntryPoint:
    found = entry_points(group=GROUP, name=name)
    if not found:
        raise LookupError(f"There is no world {name!r}, only {', '.join(world_names())}.")
    return next(iter(found))
