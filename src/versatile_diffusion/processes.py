"""The processes that share a training run."""

from __future__ import annotations

import os

import torch
from accelerate import PartialState  # pyright: ignore[reportMissingTypeStubs] - accelerate has no types
from accelerate.state import AcceleratorState  # pyright: ignore[reportMissingTypeStubs] - accelerate has no types


def forget_precision() -> None:
    """Lets accelerate choose the precision anew, which it does once in a process."""
    AcceleratorState._reset_state(reset_partial_state=False)  # pyright: ignore[reportPrivateUsage] - it has no public way


def processes() -> PartialState:
    """Returns this process among those that `accelerate launch --multi_gpu` started; without a GPU they share the CPU.

    Ask here first, since accelerate keeps its first answer: by itself it takes processes on the CPU for single ones.
    """
    launched = "LOCAL_RANK" in os.environ
    return PartialState(cpu=launched and not torch.cuda.is_available())
