"""Former names of modules and of what is in them: they go on working for one version, and say where the thing is now.

`install` makes `import versatile_diffusion.sampling_presets` give the module `versatile_diffusion.sampling.presets`,
the very same object, with a DeprecationWarning. `former_names` does the same for a renamed class or function:

    __getattr__ = former_names(__name__, {"Oracle": "versatile_diffusion.worlds.classifier:AttributeClassifier"})

This file imports nothing heavy, because every command imports it before it answers.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.abc import Loader
else:
    Loader = object  # importlib.abc imports a dozen modules, and every command would wait for them

_PACKAGE = "versatile_diffusion."

FORMER_MODULES: Mapping[str, str] = {
    "acceleration": "pipeline.acceleration",
    "adapters": "pipeline.lora",
    "app": "studio",
    "app.embedded": "studio.embeddings_file",
    "app.keeping": "studio.results_store",
    "app.shelf": "studio.results_panel",
    "app.studio": "studio.page",
    "batches": "applications.prompt_lists",
    "bench.painter": "bench.image_job",
    "cli.conditions": "cli.contexts",
    "cli.extras": "extras",
    "cli.make": "cli.flows",
    "cli.making": "cli.job",
    "cli.mix": "cli.generate",
    "conditioning": "pipeline.conditioning",
    "datasets": "worlds",
    "datasets.pool": "worlds.postcards.image_pool",
    "datasets.postcards.canvas": "worlds.postcards.data.canvas",
    "datasets.postcards.captions": "worlds.postcards.data.captions",
    "datasets.postcards.dataset": "worlds.postcards.data.dataset",
    "datasets.postcards.drawing": "worlds.postcards.data.drawing",
    "datasets.postcards.render": "worlds.postcards.data.render",
    "datasets.postcards.scene": "worlds.postcards.data.scene",
    "datasets.postcards.styles": "worlds.postcards.data.styles",
    "datasets.postcards.subjects": "worlds.postcards.data.subjects",
    "datasets.sheet": "evaluation.contact_sheet",
    "editing": "applications.editing",
    "embeddings": "applications.embeddings",
    "evaluation.applications": "worlds.postcards.evaluation.applications",
    "evaluation.findings": "worlds.postcards.evaluation.applications_report",
    "evaluation.oracle": "worlds.postcards.attribute_classifier",
    "evaluation.postcards": "worlds.postcards.evaluation.flows",
    "evaluation.report": "worlds.postcards.evaluation.flows_report",
    "evaluation.scores": "evaluation.attribute_scores",
    "evaluation.sheet": "evaluation.exhibition",
    "evaluation.stages": "worlds.postcards.evaluation.stage_scores",
    "guidance": "sampling.guidance",
    "libraries": "extras",
    "modalities.pictures": "modalities.images",
    "named_flows": "applications.versatile",
    "offloading": "pipeline.offloading",
    "outputs": "pipeline.outputs",
    "presets": "model_presets",
    "quantization": "kernels.quantization",
    "recipes": "provenance",
    "recipes.comparing": "provenance.comparison",
    "recipes.kept": "provenance.stored_record",
    "recipes.making": "provenance.replay",
    "recipes.recipe": "provenance.record",
    "reconstruction": "applications.brain_decoding",
    "rewriting": "applications.rewriting",
    "sampling_presets": "sampling.presets",
    "schedulers": "sampling.schedulers",
    "serving.computing": "engine.computing",
    "serving.desk": "serving.job_service",
    "serving.engine": "engine.engine",
    "serving.isolation": "engine.isolation",
    "serving.jobs": "engine.jobs",
    "serving.requests": "engine.requests",
    "serving.workers": "engine.workers",
    "start": "pipeline.initial_latents",
    "training.autoencoder_stages": "training.stages.autoencoder_stages",
    "training.average": "training.loop.average",
    "training.captioned_folder": "training.stages.captioned_folder",
    "training.card": "training.stages.card",
    "training.checkpoint": "training.loop.checkpoint",
    "training.config": "training.settings.config",
    "training.curves": "training.report.curves",
    "training.data": "training.tasks.data",
    "training.interrupt": "training.loop.interrupt",
    "training.journal": "training.loop.metric_logger",
    "training.latent_cache": "training.stages.latent_cache",
    "training.latents": "training.stages.latent_cache",
    "training.material": "worlds.postcards.training_data",
    "training.measurements": "training.stages.measurements",
    "training.metric_logger": "training.loop.metric_logger",
    "training.model_recipe": "training.stages.model_recipe",
    "training.names": "training.stages.names",
    "training.postcards": "worlds.postcards.training",
    "training.preparation": "training.stages.preparation",
    "training.preview": "training.loop.preview",
    "training.processes": "processes",
    "training.recipe": "worlds.postcards.recipe",
    "training.run": "training.stages.training_run",
    "training.sharding": "training.loop.sharding",
    "training.sheet": "training.report.sheet",
    "training.task": "training.loop.task",
    "training.tasks.oracle": "worlds.postcards.attribute_classifier",
    "training.trainer": "training.loop.trainer",
}
"""Former names of modules, and their names now, both without the package's own name.

What lay in a package that moved as a whole, such as `app.history`, is found in the package's new place.
"""


def present_name(module: str) -> str | None:
    """Returns the full name that a module has now, or None if the name given is not a former one.

    Args:
        module: The full name of a module, such as "versatile_diffusion.app.history".
    """
    if not module.startswith(_PACKAGE):
        return None
    name = module.removeprefix(_PACKAGE)
    if name in FORMER_MODULES:
        return _PACKAGE + FORMER_MODULES[name]
    package, _, last = module.rpartition(".")
    moved = present_name(package)
    return f"{moved}.{last}" if moved else None


class _FormerModuleLoader(Loader):
    """Puts the module of the present name into the place of the one that is asked for, and warns."""

    def __init__(self, present: str) -> None:
        self.present = present

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Returns None, for an empty module, which `exec_module` replaces."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Replaces the empty module by the real one, which importlib allows a module to do while it is loaded."""
        former = module.__name__
        warnings.warn(f"{former} is {self.present} now: import that.", DeprecationWarning, stacklevel=2)
        sys.modules[former] = import_module(self.present)


class FormerModules:
    """Finds modules under their former names."""

    def find_spec(self, fullname: str, path: object, target: ModuleType | None = None) -> ModuleSpec | None:
        """Returns how to load the module of a former name, or None if the name is no former one."""
        present = present_name(fullname)
        if present is None or (spec := find_spec(present)) is None:
            return None
        is_package = spec.submodule_search_locations is not None
        return ModuleSpec(fullname, _FormerModuleLoader(present), is_package=is_package)


def install() -> None:
    """Makes former names of modules work.

    The finder comes first. After Python's own it would be too late: that would find `provenance/inputs.py` for
    `versatile_diffusion.recipes.inputs`, since `recipes` is `provenance`, and load a second copy of its classes.
    """
    if not any(isinstance(finder, FormerModules) for finder in sys.meta_path):
        sys.meta_path.insert(0, FormerModules())


def former_names(module: str, former: Mapping[str, str]) -> Callable[[str], Any]:
    """Returns a `__getattr__` for a module, which finds names that have moved or changed, and warns of each use.

    Args:
        module: The name of the module, that is, its `__name__`.
        former: Former names, each with the place where the thing is now as "package.module:Name". That module is
            imported only when the name is asked for.

    Returns:
        A function to assign to the module's `__getattr__`. A module that has a `__getattr__` already can call the
        function as the last thing there. It raises AttributeError for any other name.
    """

    def find(name: str) -> Any:
        if name not in former:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        place, _, present = former[name].partition(":")
        warnings.warn(f"{module}.{name} is {place}.{present} now: use that.", DeprecationWarning, stacklevel=2)
        return getattr(import_module(place), present)

    return find
