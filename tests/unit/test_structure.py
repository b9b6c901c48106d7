"""Imports point one way, general rooms know no world, and what serves all modalities knows none by name."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = "versatile_diffusion"
ROOT = Path(__file__).parents[2] / "src" / PACKAGE
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))

ROOMS = (
    ("cli",),
    ("bench",),
    ("studio", "voting", "compat"),
    ("serving",),
    ("engine",),
    ("worlds",),
    ("training",),
    ("evaluation",),
    ("provenance",),
    ("applications",),
    ("pipeline",),
    ("model_presets",),
    ("checkpoints",),
    ("sampling",),
    ("modalities",),
    ("diffuser",),
    ("kernels",),
    ("context",),
    ("flows", "arrays", "fields", "validation", "devices", "files", "processes", "extras", "_moved"),
)
"""From what people touch down to what everything may use: a room imports itself, and rooms below it."""

STILL_UPWARD = {
    "evaluation/fid.py": "worlds",
    "evaluation/scores.py": "worlds",
    "training/card.py": "worlds",
    "training/curves.py": "worlds",
    "training/latent_cache.py": "worlds",
    "training/tasks/clip.py": "worlds",
    "training/tasks/kl_autoencoder.py": "worlds",
}
"""What is still to be mended."""

RANK = {room: rank for rank, rooms in enumerate(ROOMS) for room in rooms}


def tree(module: str) -> ast.Module:
    return ast.parse((ROOT / module).read_text())


def imports(module: str) -> Iterator[str]:
    """Modules of the package that a module imports, without the package's name."""
    here = [PACKAGE, *Path(module).parent.parts]
    for node in ast.walk(tree(module)):
        match node:
            case ast.Import():
                names = [alias.name for alias in node.names]
            case ast.ImportFrom():
                base = ".".join([*here[: len(here) - node.level + 1], node.module or ""]) if node.level else node.module
                names = [f"{base}.{alias.name}" for alias in node.names]
            case _:
                continue
        yield from (name.removeprefix(f"{PACKAGE}.") for name in names if name.startswith(f"{PACKAGE}."))


def room_of(name: str) -> str:
    return name.removesuffix(".py").replace("/", ".").partition(".")[0]


@pytest.mark.parametrize("module", [module for module in MODULES if not module.startswith("__")])
def test_a_room_imports_only_rooms_below_it(module: str) -> None:
    room = room_of(module)
    known = [name for name in imports(module) if room_of(name) in RANK]  # not the version
    upward = [name for name in known if room_of(name) != room and RANK[room_of(name)] <= RANK[room]]
    assert [name for name in upward if room_of(name) != STILL_UPWARD.get(module)] == []


def test_every_room_is_known() -> None:
    assert {room_of(module) for module in MODULES if not module.startswith("__")} == set(RANK)


def test_the_network_is_plain_pytorch() -> None:
    """Nothing of the package but itself: no kernel, which is applied from outside, and no modality."""
    network = [module for module in MODULES if module.startswith("diffuser/")]
    assert network and {room_of(name) for module in network for name in imports(module)} == {"diffuser"}


def test_kernels_know_no_network() -> None:
    kernels = [module for module in MODULES if module.startswith("kernels/")]
    assert kernels and {room_of(name) for module in kernels for name in imports(module)} == {"kernels"}


def test_gradio_is_for_the_studio_alone() -> None:
    users = {
        module
        for module in MODULES
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
        if name.partition(".")[0] == "gradio"
    }
    assert users and all(module.startswith("studio/") for module in users)
