"""The LoRA with which a model samples in few steps, and the diffuser that it makes of the model's.

That diffuser is another one beside the model's, which stays as it is: what is made with guidance is the same whether
or not anything was made in few steps before, and several calls may run at once.
"""

from __future__ import annotations

import copy
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from torch import nn

from versatile_diffusion import kernels
from versatile_diffusion.checkpoints.errors import reading
from versatile_diffusion.checkpoints.lora_files import Factors, read_lora
from versatile_diffusion.checkpoints.lora_keys import unet_layers
from versatile_diffusion.diffuser import Diffuser
from versatile_diffusion.kernels.packing import PackedLayer
from versatile_diffusion.kernels.quantization import is_quantized
from versatile_diffusion.pipeline import lora
from versatile_diffusion.pipeline.lora_layers import adaptable_layers
from versatile_diffusion.pipeline.lora_matching import matched
from versatile_diffusion.pipeline.openvino import OpenVinoForward
from versatile_diffusion.sampling.few_steps import FewSteps
from versatile_diffusion.sampling.schedulers import named_scheduler

State = tuple[object, ...]


class FewStepLora:
    """A LoRA for few steps. Nothing is read but how it samples, until something is made with it.

    Args:
        folder: of the LoRA.
        how: it samples.
    """

    def __init__(self, folder: Path, how: FewSteps) -> None:
        self.folder, self.how = folder, how
        self._lock = Lock()
        self._made: tuple[State, Diffuser] | None = None

    def __reduce__(self) -> tuple[type[FewStepLora], tuple[Path, FewSteps]]:
        """A copy reads the files again: nobody else may hold its lock."""
        return FewStepLora, (self.folder, self.how)

    def scheduler(self, name: str, like: Any) -> Any:
        """Returns the scheduler of that name with which it samples, for the noise schedule of another one."""
        return named_scheduler(name, like, original_inference_steps=self.how.solver_steps)

    def usable_with(self, diffuser: Diffuser) -> bool:
        """Tells whether it can change a diffuser: not if its weights are int8, or come and go layer by layer."""
        away = any(parameter.is_meta for parameter in diffuser.parameters())
        hooked = any(hasattr(module, "_hf_hook") for module in diffuser.modules())
        return not (away or hooked or is_quantized(diffuser))

    def applied_to(self, diffuser: Diffuser) -> Diffuser:
        """Returns a diffuser with this LoRA and those that are active in its weights. It takes memory of its own.

        It is kept, and made anew once the other one has changed.

        Raises:
            CheckpointError: if the LoRA is damaged, or belongs to another model.
        """
        with self._lock:
            state = _state(diffuser)
            if self._made is None or self._made[0] != state:
                self._made = None  # before another takes memory
                self._made = state, self._make(diffuser)
            return self._made[1]

    @torch.no_grad()
    def _make(self, diffuser: Diffuser) -> Diffuser:
        elsewhere = vars(diffuser).get("forward")  # what may stand in its place
        made = copy.deepcopy(diffuser, {id(elsewhere): elsewhere})
        packed = any(isinstance(module, PackedLayer) for module in made.modules())
        kernels.restore(made)
        lora.fuse_and_unload_lora(made)
        found = read_lora(self.folder, made.config["context_dims"])
        layers = dict(adaptable_layers(made))
        for path, factors in matched(made, unet_layers(made.plan), found.unet, found).items():
            with reading(path):
                _add(layers[path], factors)
        made.requires_grad_(False)
        if isinstance(elsewhere, OpenVinoForward):
            kernels.run_elsewhere(made, elsewhere.of(made))
        elif packed:
            kernels.optimize(made)
        return made


def _add(layer: nn.Linear | nn.Conv2d, factors: Factors) -> None:
    weight = layer.weight
    down, up = factors.load(tuple(weight.shape))
    change = (up.flatten(1) @ down.flatten(1)).reshape(weight.shape)
    weight.copy_((weight.float() + change.to(weight.device)).to(weight.dtype))


def _state(diffuser: Diffuser) -> State:
    """What is equal as long as a diffuser computes the same."""
    weights = [
        (tensor.data_ptr(), tensor._version, tensor.dtype, tensor.device)  # pyright: ignore[reportPrivateUsage] - which changes are counted by
        for tensor in diffuser.parameters()
    ]
    packed = [id(module.weight) for module in diffuser.modules() if isinstance(module, PackedLayer)]
    return (
        id(diffuser),
        id(vars(diffuser).get("forward")),
        tuple(weights),
        tuple(packed),
        tuple(lora.adapters(diffuser).items()),
    )
