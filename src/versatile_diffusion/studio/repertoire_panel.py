"""What the model of a world can be asked for: its things, to be searched and clicked, and its styles as buttons."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import gradio as gr

from versatile_diffusion.worlds.base import KnownThing, Repertoire

SHOWN = 48
"""Things on a page."""


class RepertoirePanel:
    """Things and styles, made where they are to stand. Those that are clicked are written into a prompt.

    Args:
        repertoire: what the model can be asked for.
        prompt: the component to write into.
    """

    def __init__(self, repertoire: Repertoire, prompt: gr.Textbox) -> None:
        self._repertoire = repertoire
        some = [thing.words[0] for thing in repertoire.things[:: max(len(repertoire.things) // 3, 1)]]
        with gr.Accordion(f"What it knows: {len(repertoire.things):,} things", open=False):
            self.search = gr.Textbox(label="Search", placeholder=f"{', '.join(some[:3])} …", lines=1, max_lines=1)
            self.found = gr.Dataset(
                components=[gr.Textbox(visible=False)],
                samples=_samples(repertoire.things),
                samples_per_page=SHOWN,
                show_label=False,
            )
        self.styles: dict[str, gr.Button] = {}
        if repertoire.styles:
            gr.HTML('<p class="vd-label">Styles</p>', padding=False)
            with gr.Row(elem_classes="vd-buttons"):
                self.styles = {style: gr.Button(style, size="sm") for style in repertoire.styles}
        self._wire(prompt)

    def _wire(self, prompt: gr.Textbox) -> None:
        self.search.change(self._search, self.search, self.found, show_progress="hidden", queue=False)
        self.found.click(_chosen, self.found, prompt, show_progress="hidden", queue=False)
        for style, button in self.styles.items():
            button.click(self._restyle(style), prompt, prompt, show_progress="hidden", queue=False)

    def _search(self, words: str) -> gr.Dataset:
        return gr.Dataset(samples=_samples(self._repertoire.search(words)))

    def _restyle(self, style: str) -> Callable[[str], str]:
        return partial(self._repertoire.styled, style=style)


def _samples(things: Sequence[KnownThing]) -> list[list[str]]:
    return [[f"{thing.symbol} {thing.prompt}".strip()] for thing in things]


def _chosen(sample: Sequence[str]) -> str:
    """The prompt of a thing that was clicked, without its symbol."""
    symbol, _, prompt = sample[0].partition(" ")
    return sample[0] if symbol.isascii() else prompt
