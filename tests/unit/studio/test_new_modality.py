"""A modality that no file of the package knows has a tab of its own, a player, and its place in the history."""

import json
from collections.abc import Iterator, Sequence

import pytest

from tests.unit.modalities.tones import TONE, TONES, known
from tests.unit.studio.visiting import Guest, Noting, Studio, file, files_in, opened
from versatile_diffusion.engine.requests import JobRequest
from versatile_diffusion.engine.results import Failure, JobResult
from versatile_diffusion.engine.workers import ModelInfo, Watch
from versatile_diffusion.modalities.spec import ShownAs
from versatile_diffusion.provenance.record import CHUNK
from versatile_diffusion.studio.controls import AudioControl, MissingInput, TextControl
from versatile_diffusion.studio.other_tasks import tasks_for
from versatile_diffusion.studio.tasks import TASKS, shown_as

PLAYER = ModelInfo(("tone", "text"), ("tone", "text"), {"tone": 2.0}, {})


class Playing(Noting):
    """A worker that makes one tone, whatever it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.models = {"tiny": PLAYER}

    def run(self, requests: Sequence[JobRequest], watch: Watch) -> list[JobResult | Failure | None]:
        self.requests += requests
        return [JobResult([TONES[1]] * len(request.seeds), 2.0) for request in requests]


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    with known(), opened(tmp_path_factory.mktemp("studio"), Playing()) as studio:
        yield studio


def test_its_task_asks_for_what_the_model_takes(studio: Studio) -> None:
    *others, task, told = tasks_for([PLAYER])
    assert others == list(TASKS) and (task.key, task.to) == ("make-tone", "tone")
    assert (told.key, told.to, told.controls) == ("make-text", "text", task.controls), (
        "from tones, which no other takes"
    )
    assert [type(control) for control in task.controls] == [AudioControl, TextControl]
    assert isinstance(task.controls[0], AudioControl) and task.controls[0].suffixes == (".wav", ".wave")
    with pytest.raises(MissingInput, match="fill in one field at least"):
        task.ask({"context-tone": None, "context-text": " "})
    assert tasks_for([ModelInfo(("image",), ("text",), {}, {})]) == list(TASKS)


def test_a_tone_is_made_played_and_kept(studio: Studio) -> None:
    guest = Guest(studio)
    own = guest.upload(TONE.codec.encode(TONES[0]), "mine.wav")
    end = guest.run("make-tone", file(own), "a red tent")
    assert end["success"] and "Done in" in end["output"]["data"][0], end
    request = studio.worker.requests[-1].request
    assert [(context.modality, request.to) for context in request.contexts] == [("tone", "tone"), ("text", "tone")]
    [entry] = studio.history.entries()
    assert (entry.modality, entry.file.suffix, entry.text) == ("tone", ".wav", None)
    assert entry.file.read_bytes() == TONE.codec.encode(TONES[1])
    assert json.loads(entry.record.read_text())[CHUNK]["to"] == "tone"
    paths = files_in(end["output"]["data"])
    assert paths.count(str(entry.file)) == 2, "to play and to download"
    assert guest.fetch(str(entry.file)).content == entry.file.read_bytes()


def test_what_nobody_knows_any_more_is_a_file() -> None:
    assert shown_as("smell") is ShownAs.FILE and shown_as("image") is ShownAs.IMAGE
