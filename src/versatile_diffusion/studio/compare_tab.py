"""The tab that shows results side by side."""

from __future__ import annotations

import gradio as gr

from versatile_diffusion.modalities.spec import ShownAs
from versatile_diffusion.studio import status
from versatile_diffusion.studio.history import HistoryEntry
from versatile_diffusion.studio.results_panel import ResultsPanel, caption, find
from versatile_diffusion.studio.tasks import shown_as

MOST = 8
_EMPTY = "Nothing to compare yet. Choose a result in any tab, and click Compare below it."


class CompareTab:
    """A tab that shows results side by side, made where it is to stand."""

    def __init__(self) -> None:
        with gr.Tab("Compare", id="compare"):
            self.entries = gr.State([])
            gr.Markdown("Results side by side; the last two pictures also one over the other.", elem_classes="vd-hint")
            self.about = gr.HTML(status.idle(_EMPTY), padding=False)
            self.images = gr.Gallery(
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
        outputs = [self.about, self.images, self.slider, self.texts, self.clear]
        self.entries.change(self._shown, self.entries, outputs, show_progress="hidden", queue=False)
        self.clear.click(_nothing, None, self.entries, show_progress="hidden", queue=False)

    def collect(self, panel: ResultsPanel) -> None:
        """Lets the button of a panel put its chosen result here."""
        inputs = [self.entries, panel.entries, panel.chosen]
        panel.compare.click(self._added, inputs, self.entries, show_progress="hidden")

    def _added(self, known: list[HistoryEntry], entries: list[HistoryEntry], chosen: str | None) -> list[HistoryEntry]:
        entry = find(entries, chosen)
        if entry is None:
            gr.Warning("Choose a result first.")
            return known
        gathered = [*(other for other in known if other.id != entry.id), entry][-MOST:]
        gr.Info(f"{len(gathered)} to compare: see the tab Compare.")
        return gathered

    def _shown(self, entries: list[HistoryEntry]) -> list[object]:
        there = [entry for entry in entries if entry.file.exists()]
        images = [(str(entry.file), caption(entry)) for entry in there if shown_as(entry.modality) is ShownAs.IMAGE]
        texts = [[caption(entry), entry.text] for entry in there if entry.text is not None]
        last = [file for file, _ in images[-2:]]
        return [
            status.said(f"{len(there)} to compare.") if there else status.idle(_EMPTY),
            gr.Gallery(value=images, visible=bool(images)),
            gr.ImageSlider(value=(last[0], last[1]) if len(last) == 2 else None, visible=len(last) == 2),
            gr.Dataframe(value=texts, visible=bool(texts)),
            gr.Button(visible=bool(there)),
        ]


def _nothing() -> list[HistoryEntry]:
    return []
