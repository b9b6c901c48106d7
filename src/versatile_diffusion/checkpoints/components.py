"""What a checkpoint gives: a model on disk, and the same model in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import init_empty_weights  # pyright: ignore[reportMissingTypeStubs] - there are none
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from versatile_diffusion.checkpoints.errors import CheckpointError, MissingFlowError, first_few
from versatile_diffusion.checkpoints.keys import check
from versatile_diffusion.checkpoints.tensors import LazyTensor, Tensors
from versatile_diffusion.diffuser import Diffuser, DiffuserConfig
from versatile_diffusion.flows import Flow
from versatile_diffusion.kernels.quantization import is_quantized
from versatile_diffusion.modalities.base import Modality

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class Components:
    """A model in memory: what a pipeline is made of.

    Attributes:
        diffuser, modalities, scheduler: its parts.
        few_steps: the folder of the LoRA with which it samples in few steps, if it carries one.
    """

    diffuser: Diffuser
    modalities: dict[str, Modality]
    scheduler: SchedulerMixin
    few_steps: Path | None = None


@dataclass(frozen=True)
class Checkpoint:
    """A model on disk: its modules are built, but empty (on the meta device).

    Attributes:
        diffuser, modalities, scheduler: as in `Components`; modalities have their assets.
        tensors: what the diffuser (under DIFFUSER) and each modality are to be filled with, under our keys.
        companions: folders that go with the model and are written as they are, such as the classifier that measures it.
        few_steps: as in `Components`; it is written as it is.
    """

    diffuser: Diffuser
    modalities: dict[str, Modality]
    scheduler: SchedulerMixin
    tensors: Mapping[str, Tensors]
    companions: tuple[Path, ...] = ()
    few_steps: Path | None = None

    def load(self, dtype: torch.dtype | None = None) -> Components:
        """Fills the modules, with floating-point numbers of `dtype` or as they are stored."""
        fill(self.diffuser, self.tensors[DIFFUSER], dtype)
        modalities = {name: self.load_modality(name, dtype) for name in self.modalities}
        return Components(self.diffuser, modalities, self.scheduler, self.few_steps)

    def load_modality(self, name: str, dtype: torch.dtype | None = None) -> Modality:
        """Fills one modality, and nothing else."""
        modality = self.modalities[name]
        fill(modality, self.tensors[name], dtype)
        modality.tie_weights()
        return modality

    @classmethod
    def of(cls, components: Components) -> Checkpoint:
        """Returns a model in memory, to be written.

        Raises:
            ValueError: if it holds LoRAs; see `Diffuser.require_no_loras`.
            CheckpointError: if it holds weights in int8, which no layout knows.
        """
        components.diffuser.require_no_loras()
        modules = {DIFFUSER: components.diffuser, **components.modalities}
        if any(".lora_" in name for module in modules.values() for name, _ in module.named_parameters()):
            raise ValueError(
                "An encoder of contexts holds LoRAs. Call `unload_lora` to save the model without them, or "
                "`fuse_and_unload_lora` to save it changed by them."
            )
        if any(map(is_quantized, modules.values())):
            raise CheckpointError(
                "The weights are int8: save the model before `quantize`, or open it again to save it."
            )
        tensors = {
            name: {key: LazyTensor.of(tensor) for key, tensor in module.state_dict().items()}
            for name, module in modules.items()
        }
        few = components.few_steps
        return cls(components.diffuser, components.modalities, components.scheduler, tensors, few_steps=few)


DIFFUSER = "diffuser"


@dataclass(frozen=True)
class Wanted:
    """The modalities that some flows need."""

    outputs: tuple[str, ...]
    contexts: tuple[str, ...]

    @classmethod
    def of(cls, flows: Sequence[Flow] | None, outputs: Iterable[str], contexts: Iterable[str], where: object) -> Wanted:
        """Returns what `flows` need, or everything there is.

        Raises:
            MissingFlowError: if there is no such output or context.
        """
        outputs, contexts = tuple(outputs), tuple(contexts)
        if flows is None:
            return cls(outputs, contexts)
        for flow in flows:
            if flow.output not in outputs or flow.context not in contexts:
                raise MissingFlowError(
                    f"{where} has no flow {flow}: it makes {' or '.join(outputs)} from {' or '.join(contexts)}. "
                    "Ask for other flows, or take another model."
                )
        made, given = {flow.output for flow in flows}, {flow.context for flow in flows}
        return cls(tuple(o for o in outputs if o in made), tuple(c for c in contexts if c in given))

    @property
    def modalities(self) -> tuple[str, ...]:
        """All of them, once."""
        return tuple(dict.fromkeys((*self.outputs, *self.contexts)))

    def parts(self, modality: str, config: Mapping[str, Any]) -> dict[str, Any]:
        """Returns a modality's configuration without the parts that are not needed."""
        needed = {"autoencoder": modality in self.outputs, "context_encoder": modality in self.contexts}
        return {name: value if needed.get(name, True) else None for name, value in config.items()}


def empty(build: Callable[[], M]) -> M:
    """Builds a module whose parameters take no memory, and are not drawn at random in vain."""
    with init_empty_weights(include_buffers=False), _NothingDrawn():
        return build().eval()


class _NothingDrawn(TorchFunctionMode):
    """Within it, tensors that take no memory are not filled: PyTorch would load its compiler to do nothing."""

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        filled = args[0] if args else (kwargs or {}).get("tensor")
        if func.__name__ in _DRAWING and isinstance(filled, Tensor) and filled.is_meta:
            return filled
        return func(*args, **(kwargs or {}))


_DRAWING = frozenset(
    {"normal_", "uniform_", "trunc_normal_", "kaiming_uniform_", "kaiming_normal_", "xavier_uniform_", "xavier_normal_"}
)
"""What fills tensors at random, as methods and in `torch.nn.init`."""


def empty_diffuser(config: DiffuserConfig, modalities: Mapping[str, Modality], wanted: Wanted) -> Diffuser:
    """Returns a diffuser of the wanted outputs and contexts, without weights."""
    data_layers = {name: modalities[name].data_layers for name in wanted.outputs}
    context_dims = {name: modalities[name].context_dim for name in wanted.contexts}
    return empty(lambda: Diffuser(config, data_layers, context_dims))


def official_scheduler() -> DDIMScheduler:
    """Returns the noise schedule and sampler of the official code."""
    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        steps_offset=1,
        set_alpha_to_one=False,
        clip_sample=False,
    )


def fill(module: nn.Module, tensors: Tensors, dtype: torch.dtype | None = None) -> None:
    """Gives an empty module its tensors, one by one.

    Raises:
        CheckpointError: if a tensor is missing, is not expected or has another shape.
    """
    expected = module.state_dict()
    name = type(module).__name__
    check([key for key in expected if key not in tensors], [key for key in tensors if key not in expected], name)
    wrong = [
        f"{key}: {tensors[key].shape} instead of {tuple(tensor.shape)}"
        for key, tensor in expected.items()
        if tensors[key].shape != tuple(tensor.shape)
    ]
    if wrong:
        raise CheckpointError(
            f"{name}: {len(wrong)} tensors have another shape than the configuration says ({first_few(wrong)}). "
            "The configuration and the weights belong to different models: take both from the same place."
        )
    module.load_state_dict({key: tensor.load(dtype) for key, tensor in tensors.items()}, assign=True, strict=False)
