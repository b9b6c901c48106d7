"""The page of a run of `vd distill`."""

from __future__ import annotations

from typing import cast

from versatile_diffusion.training.report.run_page import RunPage
from versatile_diffusion.training.settings.distillation_settings import DistillationSettings


class DistillationPage(RunPage):
    """As `RunPage`, with the commands that use a LoRA for few steps."""

    @property
    def commands(self) -> list[tuple[str, list[str]]]:
        """See `RunPage.commands`."""
        settings = cast(DistillationSettings, self.settings)  # which this run alone makes
        example = self.example if self.example == "FILE" else "a prompt"
        fast = ["--lora", str(self.folder), "--preset", "fast"]
        use = ["vd", str(self.flows[0]), example, "--model", self.start, *fast]
        run = ["vd", *settings.command, "--output", str(self.folder)]
        return [
            ("Use it", use),
            ("Take another number of steps", [*use, "--steps", str(2 * settings.phases)]),
            ("Go on, where it was stopped", run),
            ("Go on to twice as many steps", [*run, "--steps", str(2 * settings.steps)]),
        ]

    @property
    def model(self) -> list[str]:
        """See `RunPage.model`."""
        return ["--model", self.start, "--lora", str(self.folder), "--preset", "fast"]
