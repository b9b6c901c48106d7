# pyright: strict
"""Image variation at several levels of fidelity and focus."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from versatile_diffusion.cli.flags import numbers

if TYPE_CHECKING:
    from versatile_diffusion.pipeline.outputs import Outputs


@dataclass(frozen=True)
class Sweep:
    """All pairs of a fidelity and a focus.

    Attributes:
        fidelities: one for each row of a grid.
        focuses: one for each column.
    """

    fidelities: tuple[float, ...]
    focuses: tuple[float, ...]

    @classmethod
    def parse(cls, fidelity: str, focus: str) -> Sweep:
        """Reads what the user wrote: numbers in [0, 1] with commas between them."""
        return cls(_levels(fidelity, "fidelity"), _levels(focus, "focus"))

    @property
    def settings(self) -> list[dict[str, float]]:
        """Options of `image_variation`, row by row."""
        return [{"fidelity": fidelity, "focus": focus} for fidelity in self.fidelities for focus in self.focuses]

    def names(self, images: Sequence[str]) -> list[str]:
        """Returns a name for each setting and picture, those of the first setting first."""
        if len(self.settings) == 1:
            return list(images)
        return [f"{image}, {_label(setting)}" for setting in self.settings for image in images]

    def run(self, vary: Callable[..., Outputs]) -> list[Outputs]:
        """Returns outputs of each setting, of `image_variation` with all but fidelity and focus."""
        return [vary(**setting) for setting in self.settings]

    def one_after_the_other(self, made: Sequence[Outputs]) -> Outputs:
        """Returns all outputs, those of the first setting first."""
        joined = self._joined(made, [item for outputs in made for item in outputs.items])
        return replace(joined, origins=tuple(origin for outputs in made for origin in outputs.origins))

    def as_grids(self, made: Sequence[Outputs]) -> Outputs:
        """Returns a grid for each output that a single setting has."""
        from versatile_diffusion.cli.grid import labelled_grid

        rows, columns = (
            [f"{name} {level:g}" if len(levels) > 1 else "" for level in levels]
            for name, levels in (("fidelity", self.fidelities), ("focus", self.focuses))
        )
        cells = zip(*(outputs.items for outputs in made), strict=True)
        wide = len(columns)
        grids = [
            labelled_grid([of_one[i : i + wide] for i in range(0, len(of_one), wide)], rows, columns)
            for of_one in cells
        ]
        return self._joined(made, grids)

    def _joined(self, made: Sequence[Outputs], items: list[Any]) -> Outputs:
        import torch

        from versatile_diffusion.pipeline.outputs import Outputs

        return Outputs(made[0].modality, items, torch.cat([outputs.latents for outputs in made]), made[0].per_context)


def _levels(text: str, name: str) -> tuple[float, ...]:
    levels = numbers(text, f"--{name}")
    if not all(0 <= level <= 1 for level in levels):
        raise ValueError(f"--{name} must lie between 0 and 1, got {text}.")
    return levels


def _label(setting: dict[str, float]) -> str:
    return ", ".join(f"{name} {level:g}" for name, level in setting.items())
