"""What a library finds out anew at each start, kept among the user's caches."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from versatile_diffusion.files import write_whole

Names = dict[frozenset[str], dict[str, set[str]]]
"""What modules define, by the libraries that are needed and the module."""
Finder = Callable[[Path, str | None], Names]


def user_cache() -> Path:
    """Returns the folder of our caches: `$XDG_CACHE_HOME/versatile-diffusion`, or in `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "versatile-diffusion"


def kept(find: Finder) -> Finder:
    """Keeps what transformers' models define: it reads the code of all of them to know, a third of a second.

    Args:
        find: its `define_import_structure`.

    Returns:
        The same, which for the folder of all models does so once for each installation and version. What cannot be
        kept, or read, is found anew.
    """

    def define_import_structure(module_path: Path, prefix: str | None = None) -> Names:
        if prefix != "models":
            return find(module_path, prefix)
        try:
            file = _file(module_path)
            names = _read(file)
        except (OSError, RuntimeError):  # there is no home
            return find(module_path, prefix)
        if names is None:
            names = find(module_path, prefix)
            with suppress(OSError):
                write_whole(
                    file, json.dumps([[sorted(needs), names[needs]] for needs in names], default=sorted).encode()
                )
        return names

    return define_import_structure


def _file(module_path: Path) -> Path:
    place = f"{module_path} {module_path.stat().st_mtime_ns} {version('transformers')}"
    return user_cache() / f"transformers-{zlib.crc32(place.encode()):08x}.json"


def _read(file: Path) -> Names | None:
    """What a file keeps; None if it is not there or damaged."""
    try:
        found: list[tuple[list[str], dict[str, list[str]]]] = json.loads(file.read_bytes())
        return {frozenset(needs): {module: set(names) for module, names in each.items()} for needs, each in found}
    except (FileNotFoundError, ValueError, TypeError, AttributeError):
        return None
