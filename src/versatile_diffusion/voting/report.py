"""What the votes of a study say."""

from __future__ import annotations

import io
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from versatile_diffusion._moved import former_names
from versatile_diffusion.voting.study import CHOICES, Study

__getattr__ = former_names(__name__, {"Report": f"{__name__}:VoteReport", "Share": f"{__name__}:VoteShare"})

_COLORS = {"a": "#2b6cb0", "same": "#cbd5e0", "b": "#dd6b20"}
_NAMES = {"a": "#2b6cb0", "b": "#9c4221"}
_INKS = {"a": "white", "same": "#1a202c", "b": "#1a202c"}


@dataclass(frozen=True)
class VoteShare:
    """A share of votes, and its 95 % confidence interval by Wilson's method.

    Attributes:
        votes: how many votes there are.
        share: their share of all votes, from 0 to 1.
        low: the lower end of the confidence interval.
        high: its upper end.
    """

    votes: int
    share: float
    low: float
    high: float

    @classmethod
    def of(cls, votes: int, total: int) -> VoteShare:
        """Makes the share of some votes among all. With no votes at all nothing is known: 0 to 1."""
        if not total:
            return cls(0, 0.0, 0.0, 1.0)
        from scipy.stats import binomtest  # pyright: ignore - scipy has no types

        interval: Any = binomtest(votes, total).proportion_ci(method="wilson")
        return cls(votes, votes / total, float(interval.low), float(interval.high))


@dataclass(frozen=True)
class VoteReport:
    """What the votes of a study say.

    Attributes:
        names: the names of sides A and B.
        shares: the shares of votes for "a", "same" and "b".
        pairs: how many pairs can be voted on.
        voters: how many people have voted.
        agreement: how often two voters' votes on the same pair are equal, from 0 to 1; None if there are no such votes.
        kappa: Fleiss' kappa, which is the agreement beyond chance; None if it is not defined.
    """

    names: tuple[str, str]
    shares: dict[str, VoteShare]
    pairs: int
    voters: int
    agreement: float | None
    kappa: float | None

    @classmethod
    def of(cls, study: Study) -> VoteReport:
        """Reports what has been voted until now."""
        votes = study.votes()
        counted = Counter(vote["choice"] for vote in votes)
        by_pair: dict[str, Counter[str]] = defaultdict(Counter)
        for vote in votes:
            by_pair[vote["pair"]][vote["choice"]] += 1
        observed, beyond = agreement(list(by_pair.values()))
        return cls(
            study.names,
            {choice: VoteShare.of(counted[choice], len(votes)) for choice in CHOICES},
            len(study.pairs),
            len({vote["voter"] for vote in votes}),
            observed,
            beyond,
        )

    @property
    def labels(self) -> dict[str, str]:
        """What each choice is called."""
        return {"a": self.names[0], "same": "same", "b": self.names[1]}

    @property
    def votes(self) -> int:
        """How many votes there are."""
        return sum(share.votes for share in self.shares.values())

    def as_dict(self) -> dict[str, object]:
        """Returns the report as JSON holds it."""
        entries = {name: value for name, value in vars(self).items() if name not in ("names", "shares")}
        shares = {choice: {"name": self.labels[choice], **vars(share)} for choice, share in self.shares.items()}
        return {**shares, "votes": self.votes, **entries}


def agreement(votes: Sequence[Counter[str]]) -> tuple[float | None, float | None]:
    """Returns how far voters agree: the observed share of equal votes, and Fleiss' kappa; None where it is not defined.

    Args:
        votes: how often each choice was made, for each pair. A pair that fewer than two voted on is left out.
    """
    several = [count for count in votes if count.total() > 1]
    if not several:
        return None, None
    same = sum(n * (n - 1) for count in several for n in count.values())
    observed = same / sum(count.total() * (count.total() - 1) for count in several)
    overall = sum(several, Counter[str]())
    chance = sum((n / overall.total()) ** 2 for n in overall.values())
    return observed, None if chance == 1 else (observed - chance) / (1 - chance)


def plot(reports: Sequence[VoteReport]) -> bytes:
    """Returns the paper's chart as a PNG: a bar for each study, stacked from votes for A, same and B, with intervals.

    A whisker is the confidence interval of the share that ends there: of A's at the left, of B's at the right.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1.5 + 0.9 * len(reports)), dpi=160, layout="constrained")
    axes: Any = figure.subplots()  # whose methods matplotlib types in part
    for row, report in enumerate(reports):
        _bar(axes, row, report)
    axes.set_yticks(range(len(reports)), [f"{_many(r.votes, 'vote')}\n{_many(r.voters, 'voter')}" for r in reports])
    axes.set_xlim(0, 1)
    axes.set_ylim(len(reports) - 0.35, -0.65)
    axes.xaxis.set_major_formatter(_percent)
    axes.set_xlabel("share of votes (grey: the same), with 95 % confidence intervals")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    file = io.BytesIO()
    figure.savefig(file, format="png")  # pyright: ignore[reportUnknownMemberType] - matplotlib types it in part
    return file.getvalue()


def _percent(share: float, _: int) -> str:
    """How an axis shows a share at a place."""
    return f"{share:.0%}"


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _bar(axes: Any, row: int, report: VoteReport) -> None:
    start = 0.0
    for choice, share in report.shares.items():
        axes.barh(row, share.share, left=start, height=0.5, color=_COLORS[choice])
        if share.share >= 0.06:
            middle = start + share.share / 2
            axes.text(middle, row, f"{share.share:.0%}", ha="center", va="center", color=_INKS[choice], fontsize=10)
        start += share.share
    a, b = report.shares["a"], report.shares["b"]
    if report.votes:
        for ends, at, side in (((a.low, a.high), row - 0.29, "a"), ((1 - b.high, 1 - b.low), row + 0.29, "b")):
            axes.plot(ends, (at, at), color=_NAMES[side], linewidth=1.6, marker="|", markersize=7, clip_on=False)
    for side, at, anchor in (("a", 0, "left"), ("b", 1, "right")):
        text = f"{report.labels[side]} is better"
        axes.text(at, row - 0.36, text, va="bottom", ha=anchor, color=_NAMES[side], fontsize=10, weight="bold")
