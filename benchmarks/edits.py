"""Compares ways to edit on fresh postcards, as the attribute classifier reads what became of them.

python benchmarks/edits.py --num 84 --seed 77
"""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.worlds.postcards.attribute_classifier import load_classifier
from versatile_diffusion.worlds.postcards.evaluation.applications import compare_edits

WAYS: dict[str, dict[str, Any]] = {
    "rewrite, text_share 1.0": {"text_share": 1.0},
    "rewrite, text_share 0.9": {"text_share": 0.9},
    "rewrite, text_share 0.8": {"text_share": 0.8},
    "rewrite, text_share 0.8, strength 0.9": {"text_share": 0.8, "strength": 0.9},
    "rewrite, text_share 0.6": {"text_share": 0.6},
    "latent, text_share 0.67": {"method": "latent"},
}


def main(
    model: Annotated[str, typer.Option(help="A model of postcards.")] = "postcards",
    num: Annotated[int, typer.Option(min=2, help="Postcards; seven attributes are changed by turns.")] = 84,
    seed: Annotated[int, typer.Option(help="Of the postcards, the changes and the noise.")] = 77,
    steps: Annotated[int, typer.Option(min=1, help="Of the sampler.")] = 25,
) -> None:
    """Prints a table."""
    pipe = VersatileDiffusionPipeline.from_pretrained(model)
    table = Table("", "changed as asked", "all else kept")
    for name, kept in compare_edits(pipe, load_classifier(model), WAYS, num, seed, steps).items():
        table.add_row(name, f"{kept.changed:.2f}", f"{kept.kept:.2f}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
