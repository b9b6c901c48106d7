"""Our own saved folder.

model_index.json   which modalities there are, and what diffusers reads
pipeline.py        what diffusers opens the folder by; see `remote_code`
diffuser/          config.json and safetensors
image/  text/ …    config.json, safetensors and assets, one folder a modality
scheduler/         scheduler_config.json
fast/              only with some models: the LoRA with which they sample in few steps
oracle/            only with some bundled models: the classifier that measures them
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, cast
from uuid import uuid4

import diffusers
import torch
from diffusers.configuration_utils import ConfigMixin
from diffusers.models.modeling_utils import ModelMixin
from diffusers.schedulers.scheduling_utils import SCHEDULER_CONFIG_NAME, SchedulerMixin
from huggingface_hub import (
    split_state_dict_into_shards_factory,  # pyright: ignore[reportUnknownVariableType] - typed in part
)
from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType] - typed in part

from versatile_diffusion.checkpoints.components import DIFFUSER, Checkpoint, Components, Wanted, empty, empty_diffuser
from versatile_diffusion.checkpoints.errors import CheckpointError, shortened
from versatile_diffusion.checkpoints.keys import check
from versatile_diffusion.checkpoints.lora_folder import copy_lora
from versatile_diffusion.checkpoints.remote_code import PIPELINE, write_code
from versatile_diffusion.checkpoints.tensors import LazyTensor, Tensors, open_all
from versatile_diffusion.checkpoints.weight_files import ANY_FILES, FileOptions, find_weights
from versatile_diffusion.diffuser import DiffuserConfig
from versatile_diffusion.flows import Flow
from versatile_diffusion.modalities.base import Modality
from versatile_diffusion.modalities.registry import modality_names, modality_spec

C = TypeVar("C", bound=ModelMixin | SchedulerMixin)

FORMAT = 1
INDEX = "model_index.json"
WEIGHTS = "diffusion_pytorch_model"
SCHEDULER = "scheduler"
CLASSIFIER = "oracle"
"""The folder of the classifier that goes with a bundled model, named as in the first one."""
COMPANIONS = (CLASSIFIER,)
FEW_STEPS = "fast"
"""The folder of the LoRA with which a model samples in few steps."""


def load(
    folder: Path | str,
    flows: Sequence[Flow] | None = None,
    torch_dtype: torch.dtype | None = None,
    modalities: Sequence[type[Modality]] = (),
) -> Components:
    """Loads a folder that `save` wrote.

    Args:
        folder: the folder.
        flows: read only what these need.
        torch_dtype: type of the weights; as they are stored by default.
        modalities: classes to build the folder's modalities with, instead of those that the registry knows by name.

    Raises:
        CheckpointError: if the folder is damaged, or lacks something that the flows need.
    """
    return read(folder, flows, modalities).load(torch_dtype)


def read(
    folder: Path | str,
    flows: Sequence[Flow] | None = None,
    modalities: Sequence[type[Modality]] = (),
    options: FileOptions = ANY_FILES,
) -> Checkpoint:
    """Like `load`, but leaves the tensors on disk."""
    folder = Path(folder)
    index, config = read_json(folder / INDEX), read_json(folder / DIFFUSER / "config.json")
    if index.get("format") != FORMAT:
        raise CheckpointError(f"{folder} has format {index.get('format')}, not {FORMAT}. Update versatile-diffusion.")
    wanted = Wanted.of(flows, config["outputs"], config["context_dims"], folder)
    classes = {name: _class_of(name, modalities, folder) for name in wanted.modalities}
    built = {name: _read_modality(folder / name, cls, wanted) for name, cls in classes.items()}
    diffuser = empty_diffuser(_sizes(config), built, wanted)
    modules = {DIFFUSER: diffuser, **built}
    tensors = {name: _read_tensors(folder / name, module.state_dict(), options) for name, module in modules.items()}
    companions = tuple(folder / name for name in COMPANIONS if (folder / name).is_dir())
    few = folder / FEW_STEPS if (folder / FEW_STEPS).is_dir() else None
    return Checkpoint(diffuser, built, read_scheduler(folder / SCHEDULER), tensors, companions, few)


def outputs_of(folder: Path) -> tuple[str, ...]:
    """Returns the modalities that a saved model makes."""
    return tuple(read_json(folder / DIFFUSER / "config.json")["outputs"])


def is_ours(folder: Path) -> bool:
    """Tells whether `save` wrote this folder."""
    return bool(saved_parts(folder))


def saved_parts(folder: Path) -> tuple[str, ...]:
    """Returns the names of what `save` wrote in a folder; none if it did not write it."""
    index = read_json(folder / INDEX) if (folder / INDEX).is_file() else {}
    names: object = index.get("modalities")
    if not isinstance(names, list | dict):
        return ()
    return (INDEX, PIPELINE, DIFFUSER, SCHEDULER, *map(str, cast("list[object] | dict[str, object]", names)))


def save(components: Components, folder: Path | str, max_shard_size: int | str = "5GB") -> None:
    """Saves a model in memory, whole or not at all.

    Args:
        components: the model.
        folder: is made; if a model was saved there before, it is replaced, and what lies beside it is kept.
        max_shard_size: larger weights are split into several files.

    Raises:
        ValueError: if the diffuser holds LoRAs.
        FileExistsError: if the folder holds something else.
        OSError: if it cannot be written.
    """
    write(Checkpoint.of(components), folder, max_shard_size=max_shard_size)


def write(
    checkpoint: Checkpoint,
    folder: Path | str,
    dtype: torch.dtype | None = None,
    max_shard_size: int | str = "5GB",
) -> None:
    """Writes a model, reading and casting its tensors file by file. Otherwise as `save`."""
    with replacing(Path(folder)) as target:
        _write_scheduler(checkpoint.scheduler, target / SCHEDULER)
        _write_config(checkpoint.diffuser, target / DIFFUSER)
        for name, modality in checkpoint.modalities.items():
            _write_config(modality, target / name)
            modality.save_assets(target / name)
        for name, tensors in checkpoint.tensors.items():
            _write_tensors(tensors, target / name, dtype, max_shard_size)
        for companion in checkpoint.companions:
            shutil.copytree(companion, target / companion.name)
        if checkpoint.few_steps is not None:
            copy_lora(checkpoint.few_steps, target / FEW_STEPS)
        modalities = {name: name for name in checkpoint.modalities}  # diffusers takes lists for components
        code = write_code(target, DIFFUSER, type(checkpoint.scheduler).__name__, COMPANIONS)
        (target / INDEX).write_text(json.dumps({**code, "format": FORMAT, "modalities": modalities}, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Reads a configuration."""
    try:
        read: object = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing. Download the whole folder again.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged ({shortened(error)}). Download it again.") from error
    if not isinstance(read, dict):
        raise CheckpointError(f"{path} is damaged: it holds no object. Download it again.")
    return cast("dict[str, Any]", read)  # the keys of JSON are strings


def read_scheduler(folder: Path) -> SchedulerMixin:
    """Returns the scheduler of a folder, of the class that its configuration names."""
    config = read_json(folder / SCHEDULER_CONFIG_NAME)
    cls = getattr(diffusers, str(config.get("_class_name")), None)
    if not (isinstance(cls, type) and issubclass(cls, SchedulerMixin)):
        raise CheckpointError(f"{folder} names no scheduler of diffusers: {config.get('_class_name')!r}.")
    return _built(cls, config)


def _write_scheduler(scheduler: SchedulerMixin, folder: Path) -> None:
    """Writes the options that a scheduler was given, and none that it took by default.

    Schedulers differ in their defaults: another one that is made of this configuration is to have its own, before
    saving and after. The official file leaves them out, too.
    """
    assert isinstance(scheduler, ConfigMixin)  # as all schedulers of diffusers
    _write_config(scheduler, folder)
    file = folder / SCHEDULER_CONFIG_NAME
    by_default: Sequence[str] = scheduler.config.get("_use_default_values", ())
    config = {name: value for name, value in read_json(file).items() if name not in by_default}
    file.write_text(json.dumps(config, indent=2) + "\n")


def _class_of(name: str, given: Sequence[type[Modality]], folder: Path) -> type[Modality]:
    """The class of a folder's modality: the one that was given, or the one that is registered under its name."""
    found = next((cls for cls in given if cls.name == name), None)
    if found is not None:
        return found
    if name not in modality_names():
        raise CheckpointError(
            f"{folder} has the modality {name!r}, and only {', '.join(modality_names())} are known here. Install the "
            "package that brings it, `register` its spec, or pass its class as `modalities`."
        )
    return modality_spec(name).load()


def _built(cls: type[C], config: Mapping[str, object]) -> C:
    """An object of a class of diffusers, of its configuration."""
    return cast(C, cast(Any, cls).from_config(config))  # typed in part in diffusers


def _write_config(module: ConfigMixin, folder: Path) -> None:
    module.save_config(folder)  # pyright: ignore[reportUnknownMemberType] - typed in part in diffusers


def _sizes(config: Mapping[str, Any]) -> DiffuserConfig:
    values: dict[str, Any] = {}
    for field in fields(DiffuserConfig):
        value: object = config.get(field.name, field.default)
        values[field.name] = tuple(cast("list[object]", value)) if isinstance(value, list) else value  # of JSON
    return DiffuserConfig(**values)


def _read_modality(folder: Path, cls: type[Modality], wanted: Wanted) -> Modality:
    config = wanted.parts(cls.name, read_json(folder / "config.json"))
    modality = empty(lambda: _built(cls, config))
    modality.load_assets(folder)
    return modality


def _read_tensors(folder: Path, keys: Mapping[str, object], options: FileOptions) -> Tensors:
    """The tensors of these keys; those of parts that are not wanted stay where they are."""
    weights = find_weights(folder, options, [WEIGHTS])
    if not weights:
        if keys:
            raise CheckpointError(f"{folder} holds no weights ({options.kinds}). Download the whole folder again.")
        return {}
    stored = open_all(weights)
    missing = [key for key in keys if key not in stored]
    check(missing, [], weights[0] if len(weights) == 1 else folder)
    return {key: stored[key] for key in keys}


def _write_tensors(tensors: Tensors, folder: Path, dtype: torch.dtype | None, max_shard_size: int | str) -> None:
    folder.mkdir(exist_ok=True)
    if not tensors:
        return

    def stored_size(tensor: LazyTensor) -> int:
        return tensor.nbytes(dtype)

    split = split_state_dict_into_shards_factory(
        dict(tensors),
        get_storage_size=stored_size,
        filename_pattern=WEIGHTS + "{suffix}.safetensors",
        max_shard_size=max_shard_size,
    )
    for filename, keys in split.filename_to_tensors.items():
        shard = {key: tensors[key].load(dtype).detach().cpu().contiguous() for key in keys}
        save_file(shard, folder / filename, metadata={"format": "pt"})
        shutil.copymode(folder / "config.json", folder / filename)  # safetensors lets the owner alone read it
        del shard  # or the next would be read beside it
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        (folder / f"{WEIGHTS}.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


@contextmanager
def replacing(
    folder: Path, parts: Callable[[Path], Collection[str]] = saved_parts, kind: str = "model"
) -> Generator[Path]:
    """A new folder that takes the place of `folder` when it is complete.

    Args:
        folder: the place. What lies there beside what is replaced is kept.
        parts: the names of what is replaced in a folder; none if it holds something else.
        kind: what errors call it.

    Raises:
        FileExistsError: if the folder holds something else.
    """
    if folder.exists() and not (folder.is_dir() and (parts(folder) or not any(folder.iterdir()))):
        raise FileExistsError(f"{folder} exists and holds something else than a saved {kind}. Choose another folder.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    target = folder.parent / f".{folder.name}.{uuid4().hex}"
    target.mkdir()
    try:
        yield target
        if folder.exists():
            _keep_others(folder, target, parts(folder))
            old = folder.rename(target.with_name(target.name + ".old"))
            target.rename(folder)
            shutil.rmtree(old)
        else:
            target.rename(folder)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise


def _keep_others(old: Path, new: Path, parts: Collection[str]) -> None:
    """Takes along what people put beside a model, such as a README or a .git, and what goes with it."""
    for path in old.iterdir():
        if path.name in parts or (new / path.name).exists():
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.copytree(path, new / path.name, symlinks=True)
        else:
            shutil.copy2(path, new / path.name, follow_symlinks=False)
