"""What an evaluation of the applications of a model of emoji found, as JSON, as tables and as a plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO

from rich.table import Table

from versatile_diffusion.extras import require
from versatile_diffusion.worlds.base import WorldReport


@dataclass(frozen=True)
class EditScore:
    """Shares in [0, 1] of the edited images.

    Attributes:
        style_changed: those that look as was asked.
        thing_kept: those that still show the same thing.
    """

    style_changed: float
    thing_kept: float


@dataclass(frozen=True)
class FocusScore:
    """Shares in [0, 1] of the variations.

    Attributes:
        thing: those that show the thing of their original.
        style: those that look like their original.
    """

    thing: float
    style: float


@dataclass(frozen=True)
class EmojiApplicationsReport(WorldReport):
    """All findings.

    Attributes:
        edit: by whether the thing in its new look was learnt from ("seen", "held_out"), then by what of its look was to
            change ("hand", "treatment").
        focus: by the level, from 0 (semantics) to 1 (style).
        settings: how it was measured.
    """

    edit: Mapping[str, Mapping[str, EditScore]]
    focus: Mapping[float, FocusScore]
    settings: Mapping[str, float | None]

    def as_dict(self) -> dict[str, object]:
        """See `WorldReport.as_dict`."""
        return asdict(self)

    def tables(self) -> Sequence[Table]:
        """See `WorldReport.tables`."""
        edits = Table("", "style changed", "thing kept", title="edit by an instruction")
        for part, scores in self.edit.items():
            for kind, score in scores.items():
                name = f"{kind}, {part.replace('_', ' ')}"
                edits.add_row(name, f"{score.style_changed:.3f}", f"{score.thing_kept:.3f}")
        focus = Table("focus", "thing kept", "style kept", title="image variation")
        for level, score in self.focus.items():
            focus.add_row(f"{level:g}", f"{score.thing:.3f}", f"{score.style:.3f}")
        return [edits, focus]

    def drawing(self) -> bytes:
        """See `WorldReport.drawing`: what is kept over the levels of focus, and what edits change and keep.

        Raises:
            ImportError: if matplotlib is not installed.
        """
        require("matplotlib", "A plot", "evaluate")
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9, 3.4), layout="constrained")
        edits, focus = figure.subplots(1, 2)
        rows = [
            (f"{kind}, {part.replace('_', ' ')}", score)
            for part in self.edit
            for kind, score in self.edit[part].items()
        ]
        places = range(len(rows))
        edits.barh(
            [place - 0.2 for place in places], [score.style_changed for _, score in rows], 0.4, label="style changed"
        )
        edits.barh([place + 0.2 for place in places], [score.thing_kept for _, score in rows], 0.4, label="thing kept")
        edits.set_yticks(list(places), [name for name, _ in rows])
        edits.set(title="Edit by an instruction", xlabel="share", xlim=(0, 1.02))
        focus.plot(list(self.focus), [score.thing for score in self.focus.values()], "o-", label="thing")
        focus.plot(list(self.focus), [score.style for score in self.focus.values()], "s-", label="style")
        focus.set(title="Image variation", xlabel="focus (0 semantics, 1 style)", ylabel="share kept", ylim=(0, 1.02))
        for panel in (edits, focus):
            panel.grid(alpha=0.3)
            panel.legend(fontsize="small")
        drawn = BytesIO()
        figure.savefig(drawn, dpi=100)  # pyright: ignore[reportUnknownMemberType] - matplotlib leaves parameters untyped
        return drawn.getvalue()
