"""The page of a run of `vd distill`."""

from __future__ import annotations

from typing import cast

from versatile_diffusion.training.report.run_commands import use_command
from versatile_diffusion.training.report.run_page import RunPage
from versatile_diffusion.training.settings.distillation_settings import DistillationSettings


class DistillationPage(RunPage):
    """As `RunPage`, with the commands that use a LoRA for few steps."""

    @property
    def commands(self) -> list[tuple[str, list[str]]]:
        """See `RunPage.commands`."""
        settings = cast(DistillationSettings, self.settings)  # which this run alone makes
        run = ["vd", *settings.command, "--output", str(self.folder)]
        return [
            ("Use it", self.use),
            ("Take another number of steps", [*self.use, "--steps", str(2 * settings.phases)]),
            ("Go on, where it was stopped", run),
            ("Go on to twice as many steps", [*run, "--steps", str(2 * settings.steps)]),
        ]

    @property
    def use(self) -> list[str]:
        """See `RunPage.use`."""
        return use_command(self.flows, ["--model", self.start, "--lora", str(self.folder), "--preset", "fast"])
