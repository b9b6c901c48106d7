"""What is seen of training while it runs: steps, samples a second, time left, memory, and the loss of each flow."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager

import torch
from rich.console import RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from versatile_diffusion.training.loop.machine import held_memory


class TrainingProgress(Progress):
    """A bar, with the losses in a line below it.

    Args:
        title: before the bar.
        steps: updates in all.
        done: those that an earlier run has done.
        device: that computes, whose memory is told.
        shown: whether there is anything to be seen.
    """

    def __init__(self, title: str, steps: int, done: int, device: torch.device, shown: bool) -> None:
        self.device, self.losses = device, ""
        super().__init__(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[report]}"),
            TimeRemainingColumn(),
            expand=True,
            disable=not shown,
        )
        self.bar = self.add_task(title, total=steps, completed=done, report="")

    def tell(self, step: int, speed: float, losses: Mapping[str, float]) -> None:
        """Shows how far the run is.

        Args:
            step: the last one that is done.
            speed: samples a second.
            losses: by their names.
        """
        self.losses = "  ".join(f"{name} {loss:.4f}" for name, loss in losses.items())
        memory = held_memory(self.device)
        held = "" if memory is None else f", {memory / 2**30:.1f} GiB"
        self.update(self.bar, completed=step, report=f"{speed:.3g} samples/s{held}")

    @contextmanager
    def doing(self, what: str) -> Generator[None]:
        """Shows what is done between steps, as long as it is done."""
        before = self.tasks[self.bar].fields["report"]
        self.update(self.bar, report=what)
        yield
        self.update(self.bar, report=before)

    def get_renderables(self) -> Iterable[RenderableType]:
        """See rich's."""
        yield from super().get_renderables()
        if self.losses:
            yield Text(self.losses, "dim")
