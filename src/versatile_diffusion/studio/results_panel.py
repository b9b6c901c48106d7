"""A shelf: results to look at, to download and to go on with."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import gradio as gr

from versatile_diffusion.studio import status
from versatile_diffusion.studio.history import Entry
from versatile_diffusion.studio.tasks import TASKS


class Shelf:
    """Components that show results, made where they are to stand.

    Args:
        modalities: that results may have.
        more: titles of buttons for the chosen result besides the usual ones.
        beside: whether the buttons stand beside the results, not below.

    Attributes:
        entries: a state that holds them.
        chosen: a state that holds the id of one of them.
        use: buttons that use the chosen one as input, by keys of tasks.
        compare: a button that puts it beside others.
        more: the other buttons, by title.
    """

    def __init__(self, *modalities: str, more: Sequence[str] = (), beside: bool = False) -> None:
        self.modalities = modalities
        self.entries = gr.State([])
        self.chosen = gr.State(None)
        with gr.Row(elem_classes="vd-columns") if beside else nullcontext():
            with gr.Column(scale=7, min_width=300) if beside else nullcontext():
                self._build_results()
            with gr.Column(scale=4, min_width=300, visible=False, elem_classes="vd-actions") as self.actions:
                self._build_actions(more)
        self.gallery.select(self._of_gallery, self.entries, [self.chosen, *self._detail], show_progress="hidden")
        self.texts.select(
            self._of_texts, [self.entries, self.texts], [self.chosen, *self._detail], show_progress="hidden"
        )

    def _build_results(self) -> None:
        self.gallery = gr.Gallery(
            label="Pictures",
            visible=False,
            height="auto",
            object_fit="contain",
            format="png",
            buttons=["fullscreen"],
            interactive=False,
            elem_classes="vd-gallery",
        )
        self.texts = gr.Radio(label="Texts", visible=False, elem_classes="vd-texts")

    def _build_actions(self, more: Sequence[str]) -> None:
        self.about = gr.HTML(padding=False)
        self.more = {}
        with gr.Row(elem_classes="vd-buttons"):
            for title in more:
                self.more[title] = gr.Button(title, size="sm")
            self.picture = gr.DownloadButton("Download", size="sm")
            self.recipe = gr.DownloadButton("Recipe", size="sm")
            self.compare = gr.Button("Compare", size="sm")
        gr.HTML('<p class="vd-label">Use as input of</p>', padding=False)
        self.use: dict[str, gr.Button] = {}
        with gr.Row(elem_classes="vd-buttons"):
            for task in TASKS:
                if any(task.takes(modality) for modality in self.modalities):
                    self.use[task.key] = gr.Button(task.title, size="sm")

    @property
    def _detail(self) -> list[Any]:
        return [self.actions, self.about, self.picture, self.recipe, *self.use.values()]

    @property
    def outputs(self) -> list[Any]:
        """Components that `shown` gives values to."""
        return [self.entries, self.gallery, self.texts, self.chosen, *self._detail]

    def shown(self, entries: Sequence[Entry]) -> list[Any]:
        """Values of the outputs that show these results, the first of them chosen."""
        pictures = [(str(entry.file), caption(entry)) for entry in entries if entry.text is None]
        texts = [(entry.text, entry.id) for entry in entries if entry.text is not None]
        first = entries[0] if entries else None
        return [
            list(entries),
            gr.Gallery(value=pictures, visible=bool(pictures), selected_index=None),
            gr.Radio(choices=texts, visible=bool(texts), value=first.id if first and first.text is not None else None),
            first.id if first else None,
            *self._detailed(first),
        ]

    def _of_gallery(self, entries: list[Entry], event: gr.SelectData) -> list[Any]:
        pictures = [entry for entry in entries if entry.text is None]
        entry = pictures[event.index] if event.index < len(pictures) else None
        return [entry and entry.id, *self._detailed(entry)]

    def _of_texts(self, entries: list[Entry], identifier: str) -> list[Any]:
        entry = find(entries, identifier)
        return [entry and entry.id, *self._detailed(entry)]

    def _detailed(self, entry: Entry | None) -> list[Any]:
        if entry is None:
            return [gr.Column(visible=False), *[gr.skip()] * (len(self._detail) - 1)]
        modality = "image" if entry.text is None else "text"
        return [
            gr.Column(visible=True),
            status.about(entry),
            gr.DownloadButton(value=str(entry.file)),
            gr.DownloadButton(value=str(entry.recipe)),
            *[gr.Button(visible=task.takes(modality) is not None) for task in TASKS if task.key in self.use],
        ]


def find(entries: Sequence[Entry], identifier: str | None) -> Entry | None:
    """The entry of that id, if it is among them."""
    return next((entry for entry in entries if entry.id == identifier), None)


def caption(entry: Entry) -> str:
    """A result in a line."""
    return f"Seed {entry.seed} · {entry.title}"
