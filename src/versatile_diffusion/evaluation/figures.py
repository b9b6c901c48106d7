"""What an evaluation found: each figure with how it was measured, as tables and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from io import BytesIO

from rich.table import Table

from versatile_diffusion.evaluation.estimates import Estimate
from versatile_diffusion.evaluation.exhibition import Section, exhibition
from versatile_diffusion.evaluation.published import PUBLISHED, SOURCE

_DIGITS = 4


@dataclass(frozen=True)
class MeasuredFigure:
    """A figure.

    Attributes:
        name: of the measure.
        estimate: its value, and how sure it is.
        better: "lower" or "higher".
        how: by which library, on which features and what else its value depends on.
    """

    name: str
    estimate: Estimate
    better: str
    how: str


@dataclass(frozen=True)
class FlowFigures:
    """The figures of a flow.

    Attributes:
        flow: its name.
        protocol: how what is measured was made, by what it is called.
        figures: that were measured.
        section: the first samples, to look at.
    """

    flow: str
    protocol: Mapping[str, str]
    figures: Sequence[MeasuredFigure]
    section: Section

    def table(self) -> Table:
        """Returns the figures as a table for people."""
        found = Table("measure", "value", "95 %", "the paper's", "how", title=self.flow)
        for figure in self.figures:
            interval = figure.estimate.interval
            between = "" if interval is None else f"{interval[0]:.{_DIGITS}g} – {interval[1]:.{_DIGITS}g}"
            arrow = "↓" if figure.better == "lower" else "↑"
            published = "\n".join(map(str, PUBLISHED.get((self.flow, figure.name), ())))
            value = f"{figure.estimate.value:.{_DIGITS}g}"
            found.add_row(f"{figure.name} {arrow}", value, between, published, figure.how)
        return found

    def protocol_table(self, common: Mapping[str, str]) -> Table:
        """Returns how the figures were measured as a table for people.

        Args:
            common: what holds for all flows.
        """
        found = Table(box=None, show_header=False)
        compared = any((self.flow, figure.name) in PUBLISHED for figure in self.figures)
        for name, value in {**common, **self.protocol, **({"the paper's": SOURCE} if compared else {})}.items():
            found.add_row(name, value)
        return found

    def as_dict(self) -> dict[str, object]:
        """Returns the figures by their names, and the protocol, as JSON can hold them."""
        return {
            "protocol": dict(self.protocol),
            "figures": {figure.name: self._told(figure) for figure in self.figures},
        }

    def _told(self, figure: MeasuredFigure) -> dict[str, object]:
        published = PUBLISHED.get((self.flow, figure.name), ())
        papers = {"published": [asdict(each) for each in published], "source": SOURCE} if published else {}
        return {**figure.estimate.as_dict(), "better": figure.better, "how": figure.how, **papers}


@dataclass(frozen=True)
class EvaluationReport:
    """What an evaluation found.

    Attributes:
        protocol: what holds for all flows, by what it is called.
        flows: the figures of each.
    """

    protocol: Mapping[str, str]
    flows: Sequence[FlowFigures] = field(default_factory=list[FlowFigures])

    def tables(self) -> Iterator[Table]:
        """Yields the figures of each flow as a table, followed by one of how they were measured."""
        for flow in self.flows:
            yield flow.table()
            yield flow.protocol_table(self.protocol)

    def as_dict(self) -> dict[str, object]:
        """Returns all figures as JSON can hold them."""
        return {"protocol": dict(self.protocol), "flows": {flow.flow: flow.as_dict() for flow in self.flows}}

    def drawing(self) -> bytes:
        """Returns the first samples of each flow as a PNG."""
        file = BytesIO()
        exhibition([flow.section for flow in self.flows]).save(file, "PNG")
        return file.getvalue()
