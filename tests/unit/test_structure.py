"""Imports point one way, and what serves all modalities knows none by name."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = "versatile_diffusion"
ROOT = Path(__file__).parents[2] / "src" / PACKAGE
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))

MAY_IMPORT = {
    "flows.py": [],
    "context.py": [],
    "sampling.py": [],
    "schedulers.py": [],
    "sampling_presets.py": [],
    "guidance.py": ["diffuser", "sampling"],
    "outputs.py": ["modalities.base"],
    "start.py": ["conditioning", "modalities.base", "sampling"],
    "conditioning.py": ["context", "diffuser", "modalities.base"],
    "named_flows.py": ["context", "editing", "outputs", "reconstruction"],
    "editing.py": ["conditioning", "context", "modalities.focus", "outputs", "rewriting"],
    "rewriting.py": [],
    "acceleration.py": ["diffuser", "kernels"],
    "kernels/": ["kernels"],
    "reconstruction.py": ["context", "outputs", "start"],
    "embeddings.py": [],
    "adapters.py": [
        "checkpoints.errors",
        "checkpoints.folder",
        "checkpoints.tensors",
        "diffuser",
        "kernels.packing",
        "quantization",
    ],
    "quantization.py": ["diffuser", "kernels.packing"],
    "offloading.py": ["diffuser", "kernels.packing"],
    "files.py": [],
    "recipes/": [
        *("__version__", "context", "devices", "files", "modalities.pictures", "outputs", "recipes"),
        "sampling_presets",
    ],
    "voting/": ["recipes", "sampling_presets", "voting"],
    "batches.py": ["context", "files", "modalities.pictures", "outputs", "pipeline"],
    "diffuser/": ["diffuser", "kernels"],
    "modalities/": ["modalities", "diffuser", "kernels"],
    "training/task.py": [],
    "training/tasks/diffuser.py": [
        "diffuser",
        "flows",
        "guidance",
        "modalities.base",
        "sampling",
        "training.preview",
        "training.task",
    ],
}
HTTP = [f"serving.{name}" for name in ("access", "app", "desk", "jobs_api", "metrics", "openai_api", "problems")]
MUST_NOT_IMPORT = {
    "pipeline.py": ["modalities.image", "modalities.text", "presets", "datasets", "training", "evaluation"],
    "training/trainer.py": [
        *("modalities", "diffuser", "checkpoints", "pipeline", "presets", "datasets", "evaluation"),
        *("training.postcards", "training.recipe", "training.tasks", "training.latents"),
    ],
    "checkpoints/": ["adapters", "pipeline", "datasets", "training", "evaluation"],
    "datasets/": ["pipeline", "training", "evaluation"],
    **{f"serving/{name}.py": HTTP for name in ("requests", "computing", "workers", "isolation", "jobs", "engine")},
}
FOR_ALL_MODALITIES = (
    "diffuser/", "sampling.py", "guidance.py", "conditioning.py", "start.py", "flows.py", "pipeline.py",
    "offloading.py", "quantization.py",
    "modalities/base.py", "modalities/parts.py", "training/trainer.py", "training/task.py", "training/checkpoint.py",
)  # fmt: skip


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


def within(name: str, parts: list[str]) -> bool:
    return any(name == part or name.startswith(f"{part}.") for part in parts)


def of(patterns: tuple[str, ...] | dict[str, list[str]]) -> list[tuple[str, str]]:
    found = [
        (p, module) for p in patterns for module in MODULES if module == p or (p[-1] == "/" and module.startswith(p))
    ]
    assert {pattern for pattern, _ in found} == set(patterns), "a file named here is gone"
    return found


@pytest.mark.parametrize(("pattern", "module"), of(MAY_IMPORT))
def test_lower_layers_import_only_what_lies_below(pattern: str, module: str) -> None:
    assert [name for name in imports(module) if not within(name, MAY_IMPORT[pattern])] == []


@pytest.mark.parametrize(("pattern", "module"), of(MUST_NOT_IMPORT))
def test_nothing_imports_what_lies_above(pattern: str, module: str) -> None:
    assert [name for name in imports(module) if within(name, MUST_NOT_IMPORT[pattern])] == []


def test_nothing_imports_the_command_line_or_the_app() -> None:
    above = [module for module in MODULES if not module.startswith(("cli", "app", "__main__"))]
    assert {module: name for module in above for name in imports(module) if within(name, ["cli", "app"])} == {}


@pytest.mark.parametrize(("pattern", "module"), of(FOR_ALL_MODALITIES))
def test_what_serves_all_modalities_names_none(pattern: str, module: str) -> None:
    strings = {node.value for node in ast.walk(tree(module)) if isinstance(node, ast.Constant)}
    assert not strings & {"image", "text"}


def test_gradio_is_for_the_studio_alone() -> None:
    users = {
        module
        for module in MODULES
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
        if name.partition(".")[0] == "gradio"
    }
    assert users and all(module.startswith("app/") for module in users)
