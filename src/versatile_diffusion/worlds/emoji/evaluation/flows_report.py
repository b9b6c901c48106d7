"""What an evaluation of a model of emoji found, as JSON and as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from PIL import Image
from rich.table import Table

from versatile_diffusion.provenance import png
from versatile_diffusion.worlds.base import WorldReport

Figures = Mapping[str, float]
"""Shares in [0, 1] by their names, or distances."""


@dataclass(frozen=True)
class EmojiReport(WorldReport):
    """All findings.

    Attributes:
        scores: of each flow, by the part that it was measured on: seen, held_out and stranger.
        settings: how it was done.
        sheet: some of what was made.
        seconds: how long it took.
    """

    scores: Mapping[str, Mapping[str, Figures]]
    settings: Mapping[str, float | None]
    sheet: Image.Image = field(compare=False, repr=False)
    seconds: float = field(compare=False)

    def as_dict(self) -> dict[str, object]:
        """See `WorldReport.as_dict`."""
        return {**self.scores, "settings": self.settings, "seconds": round(self.seconds, 1)}

    def tables(self) -> Sequence[Table]:
        """See `WorldReport.tables`."""
        table = Table(
            "",
            *(name.replace("_", " ") for name in self.scores),
            title="shares that are right, and distances of sets of images",
        )
        flows = dict.fromkeys(flow for part in self.scores.values() for flow in part)
        for flow in flows:
            names = dict.fromkeys(name for part in self.scores.values() for name in part.get(flow, {}))
            for name in names:
                shares = [part.get(flow, {}).get(name) for part in self.scores.values()]
                shown = ["–" if share is None else f"{share:.3f}" for share in shares]
                table.add_row(f"{flow.replace('_', ' ')}: {name.replace('_', ' ')}", *shown)
            table.add_section()
        return [table]

    def drawing(self) -> bytes:
        """See `WorldReport.drawing`: the sheet."""
        return png(self.sheet)
