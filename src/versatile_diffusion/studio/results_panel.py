"""Results to look at, to download and to go on with."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import gradio as gr
from gradio.components import Component

from versatile_diffusion._moved import former_names
from versatile_diffusion.modalities.spec import ShownAs
from versatile_diffusion.studio import status
from versatile_diffusion.studio.history import HistoryEntry
from versatile_diffusion.studio.tasks import StudioTask, shown_as

__getattr__ = former_names(__name__, {"Shelf": f"{__name__}:ResultsPanel"})

IN_GALLERY, IN_LIST, AS_PLAYER = (ShownAs.IMAGE,), (ShownAs.TEXT, ShownAs.AUDIO, ShownAs.FILE), (ShownAs.AUDIO,)
"""Ways to be shown: in the gallery, in the list below it, and by a player of the one that is chosen in the list."""


class ResultsPanel:
    """Components that show results, made where they are to stand.

    Images stand in a gallery; texts, sounds and other files in a list, and the sound that is chosen in a player.

    Args:
        tasks: all tasks of the studio, which may take a result as input.
        kinds: how the results may be shown.
        more: titles of buttons for the chosen result besides the usual ones.
        beside: whether the buttons stand beside the results, not below.

    Attributes:
        entries: a state that holds the results that are shown.
        chosen: a state that holds the id of one of them.
        use: buttons that use the chosen one as input, by keys of tasks.
        compare: a button that puts it beside others.
        more: the other buttons, by title.
    """

    def __init__(
        self, tasks: Sequence[StudioTask], kinds: Sequence[ShownAs], more: Sequence[str] = (), beside: bool = False
    ) -> None:
        self._tasks = tasks
        self._kinds = kinds
        self.entries = gr.State([])
        self.chosen = gr.State(None)
        with gr.Row(elem_classes="vd-columns") if beside else nullcontext():
            with gr.Column(scale=7, min_width=300) if beside else nullcontext():
                self._build_results()
            with gr.Column(scale=4, min_width=300, visible=False, elem_classes="vd-actions") as self.actions:
                self._build_actions(more)
        outputs = [self.chosen, *self._detail]
        self.gallery.select(self._of_gallery, self.entries, outputs, show_progress="hidden")
        self.listed.select(self._of_list, [self.entries, self.listed], outputs, show_progress="hidden")

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
        words = all(kind not in self._kinds for kind in (ShownAs.AUDIO, ShownAs.FILE))
        self.listed = gr.Radio(label="Texts" if words else "Results", visible=False, elem_classes="vd-texts")
        self.player = None
        if ShownAs.AUDIO in self._kinds:
            self.player = gr.Audio(label="Sound", visible=False, interactive=False, buttons=[])

    def _build_actions(self, more: Sequence[str]) -> None:
        self.about = gr.HTML(padding=False)
        self.more: dict[str, gr.Button] = {}
        with gr.Row(elem_classes="vd-buttons"):
            for title in more:
                self.more[title] = gr.Button(title, size="sm")
            self.download = gr.DownloadButton("Download", size="sm")
            self.record = gr.DownloadButton("Recipe", size="sm")
            self.compare = gr.Button("Compare", size="sm")
        gr.HTML('<p class="vd-label">Use as input of</p>', padding=False)
        self.use: dict[str, gr.Button] = {}
        with gr.Row(elem_classes="vd-buttons"):
            for task in self._tasks:
                if any(task.takes_shown(kind) for kind in self._kinds):
                    self.use[task.key] = gr.Button(task.title, size="sm")

    @property
    def kinds(self) -> Sequence[ShownAs]:
        """How the results may be shown."""
        return self._kinds

    @property
    def _detail(self) -> list[gr.Column | Component]:
        player = [] if self.player is None else [self.player]
        return [self.actions, self.about, self.download, self.record, *player, *self.use.values()]

    @property
    def outputs(self) -> list[gr.Column | Component]:
        """The components that `shown` gives values to."""
        return [self.entries, self.gallery, self.listed, self.chosen, *self._detail]

    def shown(self, entries: Sequence[HistoryEntry]) -> list[object]:
        """Returns values of the outputs that show these results, the first of them chosen."""
        images = [(str(entry.file), caption(entry)) for entry in entries if _kind(entry) in IN_GALLERY]
        listed = [(entry.text or caption(entry), entry.id) for entry in entries if _kind(entry) in IN_LIST]
        first = entries[0] if entries else None
        in_list = first.id if first is not None and _kind(first) in IN_LIST else None
        return [
            list(entries),
            gr.Gallery(value=images, visible=bool(images), selected_index=None),
            gr.Radio(choices=listed, visible=bool(listed), value=in_list),
            first.id if first else None,
            *self._detailed(first),
        ]

    def _of_gallery(self, entries: list[HistoryEntry], event: gr.SelectData) -> list[object]:
        images = [entry for entry in entries if _kind(entry) in IN_GALLERY]
        index = event.index
        entry = images[index] if isinstance(index, int) and 0 <= index < len(images) else None
        return [entry and entry.id, *self._detailed(entry)]

    def _of_list(self, entries: list[HistoryEntry], identifier: str | None) -> list[object]:
        entry = find(entries, identifier)
        return [entry and entry.id, *self._detailed(entry)]

    def _detailed(self, entry: HistoryEntry | None) -> list[object]:
        if entry is None:
            return [gr.Column(visible=False), *[_as_it_is()] * (len(self._detail) - 1)]
        sound = str(entry.file) if _kind(entry) in AS_PLAYER else None
        player = [] if self.player is None else [gr.Audio(value=sound, visible=sound is not None)]
        return [
            gr.Column(visible=True),
            status.details(entry),
            gr.DownloadButton(value=str(entry.file)),
            gr.DownloadButton(value=str(entry.record)),
            *player,
            *[
                gr.Button(visible=task.takes(entry.modality) is not None)
                for task in self._tasks
                if task.key in self.use
            ],
        ]


def find(entries: Sequence[HistoryEntry], identifier: str | None) -> HistoryEntry | None:
    """Returns the entry of that id, if it is among them."""
    return next((entry for entry in entries if entry.id == identifier), None)


def caption(entry: HistoryEntry) -> str:
    """Returns what a result is, in a line."""
    return f"Seed {entry.seed} · {entry.title}"


def _kind(entry: HistoryEntry) -> ShownAs:
    return shown_as(entry.modality)


def _as_it_is() -> object:
    """Leaves a component as it is."""
    return gr.skip()  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] - gradio types it in part
