"""What an evaluation of the applications found, as JSON, as a table and as a plot."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from io import BytesIO

from rich.table import Table

from versatile_diffusion._moved import former_names
from versatile_diffusion.extras import require
from versatile_diffusion.worlds.base import WorldReport

__getattr__ = former_names(
    __name__,
    {
        "Applications": "versatile_diffusion.worlds.postcards.evaluation.applications_report:ApplicationsReport",
        "Kept": "versatile_diffusion.worlds.postcards.evaluation.applications_report:ChangedAndKept",
    },
)


@dataclass(frozen=True)
class ChangedAndKept:
    """What became of pictures that were changed on purpose, as shares in [0, 1].

    Attributes:
        changed: of the attributes that were to change, those that did, and as asked.
        kept: of the others, those that did not.
    """

    changed: float
    kept: float

    @property
    def worse(self) -> float:
        """The smaller of the two."""
        return min(self.changed, self.kept)


@dataclass(frozen=True)
class Blend:
    """Where two pictures differ, whose attribute the blend of both shows; shares in [0, 1]."""

    first: float
    second: float
    neither: float


@dataclass(frozen=True)
class Masked:
    """The share of variations that show the subject of their picture: of the whole picture, and with it hidden."""

    whole: float
    hidden: float


@dataclass(frozen=True)
class ApplicationsReport(WorldReport):
    """All findings.

    Attributes:
        dual_guided: by the share of the text: style from a text, all else from a picture.
        edit: by words for what goes and what comes; by the attribute that was changed, and "all".
        instructed: likewise, edited by an instruction, which does not say what goes.
        masked: see `Masked`.
        focus: by the level, the share kept of the style ("style") and of all else ("semantic").
        blend: two pictures, one half each.
        settings: how it was measured.
    """

    dual_guided: dict[float, ChangedAndKept]
    edit: dict[str, ChangedAndKept]
    instructed: dict[str, ChangedAndKept]
    masked: Masked
    focus: dict[float, dict[str, float]]
    blend: Blend
    settings: dict[str, object]

    @property
    def best_text_share(self) -> float:
        """The share of the text at which the worse of the two figures of `dual_guided` is best."""
        return max(self.dual_guided, key=lambda share: self.dual_guided[share].worse)

    def as_dict(self) -> dict[str, object]:
        """See `WorldReport.as_dict`."""
        return {**asdict(self), "best_text_share": self.best_text_share}

    def tables(self) -> list[Table]:
        """See `WorldReport.tables`."""
        table = Table("", title=f"applications, {self.settings['num']} fresh postcards", title_justify="left")
        for column in ("changed as asked", "kept"):
            table.add_column(column, justify="right")
        for name, first, second in self._rows():
            table.add_row(name, first, second)
        return [table]

    def _rows(self) -> Iterator[tuple[str, str, str]]:
        best = self.dual_guided[self.best_text_share]
        yield f"dual-guided, text {self.best_text_share:.0%}", f"{best.changed:.3f}", f"{best.kept:.3f}"
        for way, found in (("words", self.edit), ("instruction", self.instructed)):
            for name, kept in found.items():
                yield f"edit by {way}: {name}", f"{kept.changed:.3f}", f"{kept.kept:.3f}"
        yield "mask: subject shown when hidden / whole", f"{self.masked.hidden:.3f}", f"{self.masked.whole:.3f}"
        for level, shares in self.focus.items():
            yield f"focus {level:g}: style / the rest kept", f"{shares['style']:.3f}", f"{shares['semantic']:.3f}"
        yield "blend: from the first / second picture", f"{self.blend.first:.3f}", f"{self.blend.second:.3f}"

    def drawing(self) -> bytes:
        """See `WorldReport.drawing`: dual guidance over the share of the text, and focus over its levels.

        Raises:
            ImportError: if matplotlib is not installed.
        """
        require("matplotlib", "A plot", "evaluate")
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9, 3.4), layout="constrained")
        dual, focus = figure.subplots(1, 2)
        shares = list(self.dual_guided)
        dual.plot(shares, [kept.changed for kept in self.dual_guided.values()], "o-", label="style of the text")
        dual.plot(shares, [kept.kept for kept in self.dual_guided.values()], "s-", label="the rest of the picture")
        dual.axvline(self.best_text_share, color="gray", linestyle=":")
        dual.set(title="Dual-guided", xlabel="share of the text", ylabel="share of attributes")
        for name, label in (("style", "style"), ("semantic", "the rest")):
            focus.plot(list(self.focus), [shares[name] for shares in self.focus.values()], "o-", label=label)
        focus.set(title="Image variation", xlabel="focus (0 semantics, 1 style)", ylabel="share kept")
        for panel in (dual, focus):
            panel.set_ylim(0, 1.02)
            panel.grid(alpha=0.3)
            panel.legend(fontsize="small")
        drawn = BytesIO()
        figure.savefig(drawn, dpi=100)  # pyright: ignore[reportUnknownMemberType] - matplotlib leaves parameters untyped
        return drawn.getvalue()
