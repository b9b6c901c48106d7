"""The tab that shows what was made before."""

from __future__ import annotations

from typing import Any

import gradio as gr

from versatile_diffusion.studio import status
from versatile_diffusion.studio.history import History
from versatile_diffusion.studio.results_panel import Shelf
from versatile_diffusion.studio.tasks import TASKS

_ALL = "all"
_EMPTY = "Nothing was made yet. Results of all tasks are kept here, also when the studio is stopped."


class HistoryTab:
    """A tab, made where it is to stand.

    Args:
        history: what it shows.

    Attributes:
        shelf: of results.
    """

    def __init__(self, history: History) -> None:
        self._history = history
        with gr.Tab("History", id="history") as self.tab:
            gr.Markdown("What was made before, the newest first.", elem_classes="vd-hint")
            self.about = gr.HTML(status.idle(_EMPTY), padding=False)
            choices = [("All tasks", _ALL), *((task.title, task.key) for task in TASKS)]
            with gr.Row(visible=False, elem_classes="vd-bar") as self.bar:
                self.task = gr.Dropdown(choices, value=_ALL, label="Show", scale=2, min_width=160)
                self.delete_all = gr.Button("Delete all …", size="md", min_width=90)
            with gr.Row(visible=False, elem_classes="vd-bar") as self.sure:
                gr.Markdown("Delete all results for good?")
                self.really = gr.Button("Delete all", variant="stop", size="md", min_width=90)
                self.keep = gr.Button("Keep them", size="md", min_width=90)
            self.shelf = Shelf("image", "text", more=("Replay", "Delete"), beside=True)
        self._wire()

    def _wire(self) -> None:
        quiet: dict[str, Any] = {"show_progress": "hidden", "queue": False}
        outputs = [self.about, self.bar, self.sure, *self.shelf.outputs]
        gr.on([self.tab.select, self.task.change], self._shown, self.task, outputs, **quiet)
        self.shelf.more["Delete"].click(self._delete, [self.shelf.chosen, self.task], outputs, **quiet)
        self.really.click(self._clear, self.task, outputs, **quiet)
        for button, visible in ((self.delete_all, True), (self.keep, False)):
            button.click(lambda visible=visible: gr.Row(visible=visible), None, self.sure, **quiet)

    def _shown(self, task: str) -> list[Any]:
        try:
            entries = self._history.entries()
            count = self._history.count
            words = f"{count} {'result' if count == 1 else 'results'}, {_size(self._history.size)}"
            words += f" of {_size(self._history.limit)}."
        except OSError as error:
            return [status.failed(str(error)), gr.Row(), gr.Row(visible=False), *self.shelf.shown([])]
        about = status.said(words) if entries else status.idle(_EMPTY)
        chosen = [entry for entry in entries if task in (_ALL, entry.task)]
        return [about, gr.Row(visible=bool(entries)), gr.Row(visible=False), *self.shelf.shown(chosen)]

    def _delete(self, chosen: str | None, task: str) -> list[Any]:
        if chosen is not None:
            self._changed(lambda: self._history.delete(chosen))
        return self._shown(task)

    def _clear(self, task: str) -> list[Any]:
        self._changed(self._history.clear)
        return self._shown(task)

    def _changed(self, change: Any) -> None:
        try:
            change()
        except OSError as error:
            raise gr.Error(f"{error} Make room, or start the studio with another --history.") from error


def _size(count: int) -> str:
    """Bytes, for people."""
    size, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.3g} {unit}"
