"""A shelf: results to look at, to download and to go on with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from versatile_diffusion.app.history import Entry
from versatile_diffusion.app.tasks import TASKS


class Shelf:
    """Components that show results, made where they are to stand.

    Args:
        modalities: that results may have.

    Attributes:
        entries: a state that holds them.
        chosen: a state that holds the id of one of them.
        use: buttons that use the chosen one as input, by keys of tasks.
        compare: a button that puts it beside others.
    """

    def __init__(self, *modalities: str) -> None:
        self.modalities = modalities
        self.entries = gr.State([])
        self.chosen = gr.State(None)
        self.gallery = gr.Gallery(
            label="Pictures", visible=False, columns=3, height="auto", object_fit="contain", format="png",
            buttons=["fullscreen"], interactive=False, elem_classes="vd-gallery",
        )  # fmt: skip
        self.texts = gr.Radio(label="Texts", visible=False, elem_classes="vd-texts")
        with gr.Group(visible=False, elem_classes="vd-actions") as self.actions:
            self.about = gr.Markdown(elem_classes="vd-about")
            with gr.Row(elem_classes="vd-buttons"):
                self.picture = gr.DownloadButton("Download", size="sm")
                self.recipe = gr.DownloadButton("Recipe", size="sm")
                self.compare = gr.Button("Compare", size="sm")
            gr.HTML('<p class="vd-label">Use as input</p>', padding=False)
            self.use: dict[str, gr.Button] = {}
            with gr.Row(elem_classes="vd-buttons"):
                for task in TASKS:
                    if any(task.takes(modality) for modality in modalities):
                        self.use[task.key] = gr.Button(task.title, size="sm")
        self.gallery.select(self._of_gallery, self.entries, [self.chosen, *self._detail], show_progress="hidden")
        self.texts.select(
            self._of_texts, [self.entries, self.texts], [self.chosen, *self._detail], show_progress="hidden"
        )

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
            gr.Gallery(
                value=pictures, visible=bool(pictures), columns=min(3, max(2, len(pictures))), selected_index=None
            ),
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
            return [gr.Group(visible=False), *[gr.skip()] * (len(self._detail) - 1)]
        modality = "image" if entry.text is None else "text"
        return [
            gr.Group(visible=True),
            f"**{caption(entry)}**",
            gr.DownloadButton(value=str(entry.file)),
            gr.DownloadButton(value=str(entry.recipe)),
            *[gr.Button(visible=task.takes(modality) is not None) for task in TASKS if task.key in self.use],
        ]


def find(entries: Sequence[Entry], identifier: str | None) -> Entry | None:
    """The entry of that id, if it is among them."""
    return next((entry for entry in entries if entry.id == identifier), None)


def caption(entry: Entry) -> str:
    """A result in a line."""
    return f"{entry.title} · seed {entry.form['seed']}"
