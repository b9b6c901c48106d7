"""The tab that shows what was made before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import gradio as gr

from versatile_diffusion.studio import status
from versatile_diffusion.studio.history import History
from versatile_diffusion.studio.results_panel import ResultsPanel
from versatile_diffusion.studio.tasks import StudioTask, shown_as

_ALL = "all"
_EMPTY = "Nothing was made yet. Results of all tasks are kept here, also when the studio is stopped."


class HistoryTab:
    """A tab that shows what was made before, made where it is to stand.

    Args:
        history: the results that it shows.
        tasks: all tasks of the studio.

    Attributes:
        panel: shows the results.
    """

    def __init__(self, history: History, tasks: Sequence[StudioTask]) -> None:
        self._history = history
        with gr.Tab("History", id="history") as self.tab:
            gr.Markdown("What was made before, the newest first.", elem_classes="vd-hint")
            self.about = gr.HTML(status.idle(_EMPTY), padding=False)
            choices = [("All tasks", _ALL), *((task.title, task.key) for task in tasks)]
            with gr.Row(visible=False, elem_classes="vd-bar") as self.bar:
                self.task = gr.Dropdown(choices, value=_ALL, label="Show", scale=2, min_width=160)
                self.delete_all = gr.Button("Delete all …", size="md", min_width=90)
            with gr.Row(visible=False, elem_classes="vd-bar") as self.sure:
                gr.Markdown("Delete all results for good?")
                self.really = gr.Button("Delete all", variant="stop", size="md", min_width=90)
                self.keep = gr.Button("Keep them", size="md", min_width=90)
            kinds = dict.fromkeys(shown_as(task.to) for task in tasks)
            self.panel = ResultsPanel(tasks, tuple(kinds), more=("Replay", "Delete"), beside=True)
        self._wire()

    def _wire(self) -> None:
        outputs = [self.about, self.bar, self.sure, *self.panel.outputs]
        shows = [self.tab.select, self.task.change]
        gr.on(shows, self._shown, self.task, outputs, show_progress="hidden", queue=False)  # pyright: ignore[reportUnknownMemberType] - gradio types it in part
        delete, chosen = self.panel.more["Delete"], self.panel.chosen
        delete.click(self._delete, [chosen, self.task], outputs, show_progress="hidden", queue=False)
        self.really.click(self._clear, self.task, outputs, show_progress="hidden", queue=False)
        for button, ask in (
            (self.delete_all, partial(gr.Row, visible=True)),
            (self.keep, partial(gr.Row, visible=False)),
        ):
            button.click(ask, None, self.sure, show_progress="hidden", queue=False)

    def _shown(self, task: str) -> list[object]:
        try:
            entries = self._history.entries()
            count = self._history.count
            words = f"{count} {'result' if count == 1 else 'results'}, {_size(self._history.size)}"
            words += f" of {_size(self._history.limit)}."
        except OSError as error:
            return [status.failed(str(error)), gr.Row(), gr.Row(visible=False), *self.panel.shown([])]
        about = status.said(words) if entries else status.idle(_EMPTY)
        chosen = [entry for entry in entries if task in (_ALL, entry.task)]
        return [about, gr.Row(visible=bool(entries)), gr.Row(visible=False), *self.panel.shown(chosen)]

    def _delete(self, chosen: str | None, task: str) -> list[object]:
        if chosen is not None:
            self._changed(lambda: self._history.delete(chosen))
        return self._shown(task)

    def _clear(self, task: str) -> list[object]:
        self._changed(self._history.clear)
        return self._shown(task)

    def _changed(self, change: Callable[[], None]) -> None:
        try:
            change()
        except OSError as error:
            raise gr.Error(f"{error} Make room, or start the studio with another --history.") from error


def _size(count: int) -> str:
    """Bytes, as people read them."""
    size, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.3g} {unit}"
