"""The folder that ComfyUI finds the nodes by: two lines that import them, what its registry reads, and examples."""

from __future__ import annotations

from pathlib import Path

from versatile_diffusion.files import write_whole

NAME = "versatile_diffusion"
SOURCE = Path(__file__).parent / "custom_nodes" / NAME
"""The folder as it lies in this package: it can be copied by hand as well."""


def write_nodes(place: Path) -> Path:
    """Copies the folder of nodes into the custom_nodes of ComfyUI, and returns where it lies.

    Args:
        place: the folder of ComfyUI, or its custom_nodes.

    Raises:
        ValueError: if it is neither, or holds another folder of that name.
    """
    nodes = place if place.name == "custom_nodes" else place / "custom_nodes"
    if not nodes.is_dir():
        raise ValueError(f"{place} is not the folder of ComfyUI: it has no custom_nodes.")
    target = nodes / NAME
    if target.exists() and not (target / "pyproject.toml").is_file():
        raise ValueError(f"{target} exists and holds something else: move it away.")
    for file in sorted(path for path in SOURCE.rglob("*") if path.is_file() and path.suffix != ".pyc"):
        copy = target / file.relative_to(SOURCE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        write_whole(copy, file.read_bytes())
    return target
