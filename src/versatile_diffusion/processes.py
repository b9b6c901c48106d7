"""The processes that share a training run."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, cast

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


@dataclass(frozen=True)
class ProcessShare:
    """Which of several processes this one is, and where it computes.

    Attributes:
        process: its number, from 0.
        processes: how many there are.
        device: that is its own, such as "cuda:1".
    """

    process: int
    processes: int
    device: str

    @classmethod
    def of(cls, state: PartialState) -> ProcessShare:
        """Returns the share of a process as accelerate knows it."""
        untyped = cast(Any, state)  # accelerate says no types of these
        return cls(untyped.process_index, untyped.num_processes, str(untyped.device))
