"""The tab that shows results side by side."""

from __future__ import annotations

from typing import Any

import gradio as gr

from versatile_diffusion.studio import status
from versatile_diffusion.studio.history import Entry
from versatile_diffusion.studio.results_panel import Shelf, caption, find

MOST = 8
_EMPTY = "Nothing to compare yet. Choose a result in any tab, and click Compare below it."


class CompareTab:
    """A tab, made where it is to stand."""

    def __init__(self) -> None:
        with gr.Tab("Compare", id="compare"):
            self.entries = gr.State([])
            gr.Markdown("Results side by side; the last two pictures also one over the other.", elem_classes="vd-hint")
            self.about = gr.HTML(status.idle(_EMPTY), padding=False)
            self.pictures = gr.Gallery(
                label="Pictures",
                visible=False,
                height="auto",
                object_fit="contain",
                interactive=False,
                allow_preview=False,
                buttons=[],
                elem_classes="vd-compare",
            )
            self.slider = gr.ImageSlider(
                label="The last two pictures", visible=False, height=400, buttons=[], elem_classes="vd-slider"
            )
            self.texts = gr.Dataframe(
                headers=["Made from", "Text"], visible=False, interactive=False, wrap=True, label="Texts"
            )
            with gr.Row(elem_classes="vd-buttons"):
                self.clear = gr.Button("Clear", size="sm", visible=False)
        quiet: dict[str, Any] = {"show_progress": "hidden", "queue": False}
        outputs = [self.about, self.pictures, self.slider, self.texts, self.clear]
        self.entries.change(self._shown, self.entries, outputs, **quiet)
        self.clear.click(lambda: [], None, self.entries, **quiet)

    def collect(self, shelf: Shelf) -> None:
        """Wires the button of a shelf."""
        inputs = [self.entries, shelf.entries, shelf.chosen]
        shelf.compare.click(self._added, inputs, self.entries, show_progress="hidden")

    def _added(self, known: list[Entry], entries: list[Entry], chosen: str | None) -> list[Entry]:
        entry = find(entries, chosen)
        if entry is None:
            gr.Warning("Choose a result first.")
            return known
        gathered = [*(other for other in known if other.id != entry.id), entry][-MOST:]
        gr.Info(f"{len(gathered)} to compare: see the tab Compare.")
        return gathered

    def _shown(self, entries: list[Entry]) -> list[Any]:
        there = [entry for entry in entries if entry.file.exists()]
        pictures = [(str(entry.file), caption(entry)) for entry in there if entry.text is None]
        texts = [[caption(entry), entry.text] for entry in there if entry.text is not None]
        last = [file for file, _ in pictures[-2:]]
        return [
            status.said(f"{len(there)} to compare.") if there else status.idle(_EMPTY),
            gr.Gallery(value=pictures, visible=bool(pictures)),
            gr.ImageSlider(value=(last[0], last[1]) if len(last) == 2 else None, visible=len(last) == 2),
            gr.Dataframe(value=texts, visible=bool(texts)),
            gr.Button(visible=bool(there)),
        ]
