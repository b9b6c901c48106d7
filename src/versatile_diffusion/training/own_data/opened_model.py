"""The model that a run begins from, opened part by part: memory holds no more of it than is needed at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from torch import Tensor, nn

from versatile_diffusion.checkpoints import Checkpoint, write
from versatile_diffusion.checkpoints.components import DIFFUSER, fill
from versatile_diffusion.checkpoints.errors import reading, shortened
from versatile_diffusion.checkpoints.sources import read_source
from versatile_diffusion.checkpoints.tensors import LazyTensor
from versatile_diffusion.diffuser import Diffuser
from versatile_diffusion.flows import Flow
from versatile_diffusion.modalities import Modality
from versatile_diffusion.training.own_data.predictions import changes
from versatile_diffusion.training.stages.preparation import learnt_schedule


class OpenedModel:
    """A model on disk whose parts are brought into memory one after the other, and let go again.

    The modalities encode the samples; then their context encoders may go, and the diffuser comes, with the layers of
    the flows that are learnt and no others.

    Args:
        source: see `open_source`.
        flows: that the model is opened for; all that it has if None.

    Raises:
        CheckpointError, UnavailableError: see `open_source`.
    """

    def __init__(self, source: str | Path, flows: Sequence[Flow] | None = None) -> None:
        self.source, self.flows = source, flows
        self.checkpoint = read_source(source, flows)

    @property
    def scheduler(self) -> SchedulerMixin:
        """The scheduler of the model, whose noise schedule is learnt."""
        return self.checkpoint.scheduler

    @property
    def skeleton(self) -> Diffuser:
        """The diffuser of these flows without its weights, which tells its configuration and its sizes."""
        return self.checkpoint.diffuser

    @cached_property
    def modalities(self) -> dict[str, Modality]:
        """The modalities, frozen and in float32: what they encode is kept, and computed once."""
        with reading(shortened(self.source)):
            loaded = {name: self.checkpoint.load_modality(name, torch.float32) for name in self.checkpoint.modalities}
        for modality in loaded.values():
            modality.requires_grad_(False)
        return loaded

    def bring_modalities(self, device: torch.device) -> None:
        """Moves the modalities to a device, where they encode."""
        for modality in self.modalities.values():
            nn.Module.to(modality, device)

    def release_context_encoders(self) -> None:
        """Lets go what only encodes contexts, once all contexts are encoded; autoencoders stay, to draw previews."""
        for modality in self.modalities.values():
            if isinstance(getattr(modality, "context_encoder", None), nn.Module):
                modality.register_module("context_encoder", None)

    def open_diffuser(self, flows: Sequence[Flow], dtype_of: Callable[[str, tuple[int, ...]], torch.dtype]) -> Diffuser:
        """Returns a diffuser with the layers that some flows use, each weight in the numbers that it is to be held in.

        Args:
            flows: of the model.
            dtype_of: returns the type of a weight by its name and its shape.
        """
        checkpoint = read_source(self.source, flows)
        held = {
            key: _held_as(tensor, dtype_of(key, tensor.shape)) for key, tensor in checkpoint.tensors[DIFFUSER].items()
        }
        with reading(shortened(self.source)):
            fill(checkpoint.diffuser, held)
        return checkpoint.diffuser

    def save(
        self, trained: Mapping[str, Tensor], target: Path, dtype: torch.dtype | None, schedule: DDIMScheduler
    ) -> None:
        """Writes the model with some weights of its diffuser changed. What stayed the same comes from disk.

        Args:
            trained: the changed weights of the diffuser, by their names.
            target: the folder to write, whole or not at all.
            dtype: of the numbers that are written; as they are if None.
            schedule: that was learnt. The model keeps its scheduler if it samples what is predicted now.
        """
        read = read_source(self.source, self.flows)  # anew: modules may have been changed in memory
        changed = {name: LazyTensor.of(tensor) for name, tensor in trained.items()}
        tensors = {**read.tensors, DIFFUSER: {**read.tensors[DIFFUSER], **changed}}
        scheduler = schedule if changes(learnt_schedule(read.scheduler), schedule) else read.scheduler
        write(Checkpoint(read.diffuser, read.modalities, scheduler, tensors), target, dtype)


def _held_as(tensor: LazyTensor, dtype: torch.dtype) -> LazyTensor:
    """The same tensor in other numbers, which it is cast to when it is read."""
    return replace(tensor, dtype=dtype, read=lambda: tensor.load(dtype), mapped=False)
