"""Times the works of `vd bench` in two checkouts in turns: did a change make anything slower?

git worktree add /tmp/before v0.1.0
python benchmarks/trees.py /tmp/before . generation optimus diffuser --rounds 9

Each checkout has a process of its own, which does its works only when it is asked; the other one waits meanwhile.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

PEERS = ("diffusers", "official", "plain")
"""Works whose names hold one of these are not ours."""


class Checkout:
    """A process that does the works of one checkout.

    Args:
        root: of the checkout.
        benchmark: a module of `versatile_diffusion.bench`.
    """

    def __init__(self, root: Path, benchmark: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--work", benchmark],
            env=os.environ | {"PYTHONPATH": str(root.resolve() / "src")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def next(self) -> list[str]:
        """Returns the names of the works of the next group; none after the last."""
        return self._read().split("\t") if self._ask("next") == "group" else []

    def seconds(self, work: int, number: int) -> float:
        """Does a work with the inputs of a round, and returns how long it took."""
        return float(self._ask(f"{work} {number}"))

    def _ask(self, words: str) -> str:
        assert self.process.stdin is not None
        print(words, file=self.process.stdin, flush=True)
        return self._read()

    def _read(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("A checkout ended: its error is above.")
        return line.strip("\n")


def work(benchmark: str) -> None:
    """Runs a benchmark whose works are done when they are asked for, by their numbers, instead of in turns."""
    module: Any = import_module(f"versatile_diffusion.bench.{benchmark}")
    report: Any = import_module("versatile_diffusion.bench.report")
    timing: Any = import_module("versatile_diffusion.bench.timing")
    answers, sys.stdout = sys.stdout, sys.stderr

    def answer(words: str) -> None:
        print(words, file=answers, flush=True)

    def alternate(works: Mapping[str, Callable[[int], Any]], rounds: int) -> Any:
        input()  # "next"
        answer("group")
        answer("\t".join(works))
        each = list(works.values())
        while (line := input()) != "over":
            place, number = map(int, line.split())
            answer(str(timing.timed(each[place], number).seconds))
        return {name: [timing.timed(one, 0)] for name, one in works.items()}

    module.alternate = alternate
    module.measure(report.Settings(rounds=1))
    input()
    answer("done")


def compare(
    before: Annotated[Path, typer.Argument(help="A checkout.")],
    after: Annotated[Path, typer.Argument(help="Another one.")],
    benchmarks: Annotated[list[str], typer.Argument(help="Such as generation, optimus, diffuser.")],
    rounds: Annotated[int, typer.Option(min=1)] = 9,
) -> None:
    """Prints the medians of both, and the ratio of each round's pair as its median and quartiles."""
    table = Table("work", "before", "after", "before / after", "quartiles", title="above 1: after is quicker")
    for benchmark in benchmarks:
        checkouts = [Checkout(root, benchmark) for root in (before, after)]
        while True:
            groups = [each.next() for each in checkouts]
            if not all(groups):
                break
            for place, name in enumerate(groups[1]):
                if not any(peer in name for peer in PEERS):
                    table.add_row(f"{benchmark}: {name}", *_compared(checkouts, place, rounds))
            for each in checkouts:
                assert each.process.stdin is not None
                print("over", file=each.process.stdin, flush=True)
    Console().print(table)


def _compared(checkouts: list[Checkout], place: int, rounds: int) -> list[str]:
    took: list[list[float]] = [[], []]
    for number in range(rounds + 1):
        for each in (0, 1) if number % 2 else (1, 0):
            took[each].append(checkouts[each].seconds(place, number))
    first, second = (each[1:] for each in took)  # the first round warms up
    ratios = sorted(one / other for one, other in zip(first, second, strict=True))
    low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
    medians = [f"{statistics.median(each):.3f} s" for each in (first, second)]
    return [*medians, f"{statistics.median(ratios):.3f}", f"{low:.3f} – {high:.3f}"]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work(sys.argv[2])
    else:
        typer.run(compare)
