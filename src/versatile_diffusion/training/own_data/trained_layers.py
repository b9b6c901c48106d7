"""Which weights of a diffuser are trained, and in what numbers the others are held meanwhile."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import torch

from versatile_diffusion.devices import choose_device, computes_bf16
from versatile_diffusion.diffuser import Diffuser
from versatile_diffusion.flows import Flow
from versatile_diffusion.pipeline.lora_layers import FACTORS, adaptable_layers, adapted_layers, group_of, inject
from versatile_diffusion.training.loop.trainer import PRECISIONS
from versatile_diffusion.training.settings.choices import Precision, Trained
from versatile_diffusion.training.settings.training_settings import TrainingSettings
from versatile_diffusion.training.stages.preparation import seeded

LORA = "lora"
"""What a LoRA is called that is trained."""


def mixed_precision(settings: TrainingSettings) -> str:
    """Returns what steps compute in, as accelerate calls it."""
    precision = settings.precision
    if precision is Precision.AUTO:
        precision = Precision.BF16 if computes_bf16() else Precision.FP32
    if precision is Precision.FP16 and choose_device().type == "cpu":
        warnings.warn("CPUs compute in fp16 many times slower than in fp32: take bf16 or fp32.", stacklevel=2)
    return "no" if precision is Precision.FP32 else str(precision)


def layer_groups(settings: TrainingSettings, flows: Sequence[Flow]) -> frozenset[str]:
    """Returns the groups of layers, such as "context_layers.text", that learn; what no flow uses stays frozen.

    Of a LoRA these are the groups whose layers it changes, and whose own weights stay as they are.
    """
    data = {f"data_layers.{flow.output}" for flow in flows}
    context = {f"context_layers.{flow.context}" for flow in flows}
    groups = {
        Trained.LORA: data | context,
        Trained.CONTEXT: context,
        Trained.DATA: data,
        Trained.ALL: data | context | {"global_layers"},
    }
    return frozenset(groups[settings.train])


def held_as(
    settings: TrainingSettings, flows: Sequence[Flow], mixed_precision: str
) -> Callable[[str, tuple[int, ...]], torch.dtype]:
    """Returns what tells the numbers to hold a weight in, by its name and its shape.

    What is trained is held in float32. What is frozen is held in what steps compute in: they would cast it at every
    use, to the same numbers. Vectors, which are small and partly computed with in float32, stay in float32.
    """
    computed = PRECISIONS[mixed_precision]
    trained = frozenset[str]() if settings.train is Trained.LORA else layer_groups(settings, flows)

    def dtype_of(name: str, shape: tuple[int, ...]) -> torch.dtype:
        return torch.float32 if len(shape) < 2 or _is_in(name, trained) else computed

    return dtype_of


def prepare(diffuser: Diffuser, flows: Sequence[Flow], settings: TrainingSettings) -> None:
    """Freezes all of a diffuser but what is trained: a new LoRA, or some of its layers.

    Args:
        diffuser: to be changed.
        flows: that are learnt.
        settings: which layers.

    Raises:
        ValueError: if there are no such layers.
    """
    groups = layer_groups(settings, flows)
    diffuser.requires_grad_(False)
    if settings.checkpointing:
        diffuser.enable_gradient_checkpointing()  # pyright: ignore[reportUnknownMemberType] - untyped in part in diffusers
    if settings.train is Trained.LORA:
        _add_lora(diffuser, groups, settings)
        return
    for name, parameter in diffuser.named_parameters():
        parameter.requires_grad_(_is_in(name, groups))


def _add_lora(diffuser: Diffuser, groups: frozenset[str], settings: TrainingSettings) -> None:
    targets = [path for path, _ in adaptable_layers(diffuser) if group_of(path) in groups]
    seeded(settings.seed, lambda: inject(diffuser, LORA, dict.fromkeys(targets, settings.rank)))
    for _, layer in adapted_layers(diffuser):
        for factor in FACTORS:
            getattr(layer, factor)[LORA].float().requires_grad_(True)  # peft makes it of the numbers of the layer


def _is_in(name: str, groups: frozenset[str]) -> bool:
    return any(name.startswith(f"{group}.") for group in groups)
