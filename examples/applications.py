"""Shows on two fresh postcards what can be made beyond the four flows, with the bundled model.

python examples/applications.py docs/images/applications-sheet.png
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from torch import Generator

from versatile_diffusion import Context, VersatileDiffusionPipeline
from versatile_diffusion.evaluation.exhibition import Exhibit, Section, exhibition
from versatile_diffusion.worlds.postcards import Postcards
from versatile_diffusion.worlds.postcards.evaluation.applications import subject_mask

INSTRUCTIONS = ("make this picture an oil painting", "at night", "in the desert", "a tent", "purple", "on the right")
TEXT_SHARES = (0.0, 0.3, 0.5, 0.7, 1.0)
FOCUS = (0.0, 0.25, 0.5, 0.75, 1.0)
FIDELITIES = (0.0, 0.2, 0.4, 0.6, 0.8)
COLUMNS = 6


def main() -> None:
    """Makes everything once, with seed 0: nothing was chosen but the words."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--steps", type=int, default=25)
    arguments = parser.parse_args()
    pipe = VersatileDiffusionPipeline.from_pretrained("postcards")
    pipe.set_progress_bar_config(disable=True)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    exhibition(list(sections(pipe, arguments.steps))).save(arguments.output)


def sections(pipe: VersatileDiffusionPipeline, steps: int) -> Iterator[Section]:
    """A row for each application."""
    cards = Postcards(2026)
    first, second = cards[0], cards[1]
    a, b = Image.fromarray(first.image), Image.fromarray(second.image)
    mask = Image.fromarray(subject_mask(cards.scene(0), a.width))

    def seeded() -> dict[str, object]:
        return {"generator": Generator().manual_seed(0), "num_inference_steps": steps}

    def row(title: str, *exhibits: tuple[Image.Image, str]) -> Section:
        return Section(title, [Exhibit((picture,), text) for picture, text in exhibits], COLUMNS)

    edits = [(pipe.edit(a, words, **seeded()).images[0], words) for words in INSTRUCTIONS]
    yield row("Edit", (a, "the picture"), *edits[: COLUMNS - 1])
    words = "pixel art"
    mixed = [(pipe.dual_guided(words, a, share, **seeded()).images[0], f"text {share:.0%}") for share in TEXT_SHARES]
    yield row(f"Dual-guided: the picture, and “{words}”", (a, "the picture"), *mixed)
    focused = [(pipe.image_variation(a, focus=focus, **seeded()).images[0], f"focus {focus:g}") for focus in FOCUS]
    yield row("Image variation: focus from semantics to style", (a, "the picture"), *focused)
    closer = [(pipe.image_variation(a, level, **seeded()).images[0], f"fidelity {level:g}") for level in FIDELITIES]
    yield row("Image variation: fidelity", (a, "the picture"), *closer)
    blend = pipe.generate("image", [Context("image", a), Context("image", b)], **seeded()).images[0]
    hidden = pipe.generate("image", [Context("image", a, mask=mask)], **seeded()).images[0]
    both = pipe.generate("image", [Context("image", a, mask=mask), Context("text", "a tent")], **seeded()).images[0]
    seen = Image.composite(a, Image.new("RGB", a.size), mask)
    yield row(
        "Two pictures, and a mask",
        (a, "first"), (b, "second"), (blend, "half of each"), (seen, "first, subject hidden"),
        (hidden, "variation of that"), (both, "that, and “a tent”"),
    )  # fmt: skip


if __name__ == "__main__":
    main()
