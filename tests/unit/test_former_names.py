"""Modules and names that have moved are still found where they were, and whoever uses them is told where they are."""

import importlib
import os
import pickle
import re
import subprocess
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

import pytest

import versatile_diffusion
from versatile_diffusion._moved import FORMER_MODULES, former_names, present_name

ROOT = Path(versatile_diffusion.__file__).parent

FORMER = """
    acceleration adapters app app.compare_tab app.controls app.embedded app.examples app.forms app.history
    app.history_tab app.keeping app.options app.server app.shelf app.status app.studio app.task_tab app.tasks
    app.theme batches
    bench.painter cli.extras conditioning datasets datasets.pool datasets.postcards datasets.postcards.canvas
    datasets.postcards.captions datasets.postcards.dataset datasets.postcards.drawing datasets.postcards.render
    datasets.postcards.scene datasets.postcards.styles datasets.postcards.subjects datasets.sheet editing embeddings
    evaluation.applications evaluation.findings evaluation.oracle evaluation.postcards evaluation.report
    evaluation.scores evaluation.sheet evaluation.stages guidance libraries modalities.pictures named_flows offloading
    outputs presets
    quantization recipes recipes.comparing recipes.inputs recipes.kept recipes.making recipes.recipe reconstruction
    rewriting sampling_presets schedulers serving.computing serving.engine serving.isolation serving.jobs
    serving.requests serving.workers start training.journal training.latents training.material training.postcards
    training.processes training.recipe training.tasks.oracle
""".split()  # noqa: SIM905 - easier to read than a list
"""Every module of version 0.1.0 that is not where it was then."""

SAMPLER = ("Denoiser", "Rows", "Schedule", "StepCallback", "count_steps", "draw_noise", "sample")

FORMER_NAMES = (
    *(f"sampling:{name}" for name in SAMPLER),
    *(f"pipeline:{name}" for name in ("CallbackOnStepEnd", "Modalities")),
    "serving.limits:EngineLimits",
    "worlds.postcards.attribute_classifier:Oracle",
    "worlds.postcards.attribute_classifier:OracleTask",
    "worlds.postcards.attribute_classifier:to_pictures",
    "worlds.postcards.evaluation.flows:has_oracle",
    "worlds.postcards.evaluation.flows:load_oracle",
    "worlds.postcards.evaluation.flows_report:Report",
    "worlds.postcards.evaluation.flows_report:Settings",
    "worlds.postcards.evaluation.applications_report:Applications",
    "worlds.postcards.evaluation.applications_report:Kept",
    "worlds.postcards.recipe:Recipe",
    "worlds.postcards.recipe:STAGES",
    "worlds.postcards.training_data:Material",
    "worlds.postcards.training_data:fresh",
    "training.stages.latent_cache:PostcardLatents",
    "training.loop.metric_logger:Journal",
    "training.tasks.clip:nearly_equal",
)
"""What lay in modules that are packages now, or has left its module."""


@pytest.mark.parametrize("former", FORMER)
def test_a_former_module_is_the_present_one(former: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"versatile_diffusion.{former}"
    present = present_name(name)
    assert present is not None
    monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.warns(DeprecationWarning, match=f"{name} is {present} now"):
        module = importlib.import_module(name)
    assert module is importlib.import_module(present) and module.__name__ == present
    assert module.__spec__ is not None and module.__spec__.name == present


def test_a_former_name_is_no_file_and_leads_to_one() -> None:
    for former, present in FORMER_MODULES.items():
        assert find_spec(f"versatile_diffusion.{present}") is not None
        assert present_name(f"versatile_diffusion.{present}") is None, f"{present} is a former name itself"
        path = ROOT / former.replace(".", "/")
        assert not path.exists() and not path.with_suffix(".py").exists()


@pytest.mark.parametrize("former", FORMER_NAMES)
def test_a_former_name_is_the_present_thing(former: str) -> None:
    place, _, name = former.partition(":")
    module = importlib.import_module(f"versatile_diffusion.{place}")
    with pytest.warns(
        DeprecationWarning, match=rf"^versatile_diffusion\.{place}\.{name} is versatile_diffusion\."
    ) as told:
        thing = getattr(module, name)
    present = str(told[0].message).split()[2]
    assert thing is getattr(importlib.import_module(present.rpartition(".")[0]), present.rpartition(".")[2])


def test_what_was_pickled_under_a_former_name_is_read() -> None:
    for place in ("sampling", "sampling.sampler"):
        with warnings.catch_warnings(record=True):
            assert pickle.loads(f"cversatile_diffusion.{place}\nSchedule\n.".encode()).__name__ == "Schedule"


def test_an_unknown_name_is_unknown() -> None:
    find = former_names("here", {"Old": "versatile_diffusion.flows:Flow"})
    with pytest.raises(AttributeError, match="module 'here' has no attribute 'New'"):
        find("New")
    with pytest.raises(ModuleNotFoundError, match=r"versatile_diffusion\.recipes\.nothing"):
        importlib.import_module("versatile_diffusion.recipes.nothing")
    with pytest.raises(ImportError, match="cannot import name 'Nothing'"):
        from versatile_diffusion.sampling import Nothing  # noqa: F401


def test_who_imports_is_told_and_nothing_heavy_is_loaded_for_it(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "import versatile_diffusion.recipes as recipes\n"
        "from versatile_diffusion.serving.limits import EngineLimits\n"
        "print(recipes.__name__, EngineLimits.__module__, 'torch' in sys.modules)\n"
    )
    path = os.environ | {"PYTHONPATH": str(ROOT.parent)}
    told = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True, env=path)
    assert told.stdout.split() == ["versatile_diffusion.provenance", "versatile_diffusion.engine.limits", "False"]
    assert re.findall(r"script\.py:(\d): DeprecationWarning: (\S+) is", told.stderr) == [
        ("2", "versatile_diffusion.recipes"),
        ("3", "versatile_diffusion.serving.limits.EngineLimits"),
    ]
