"""Sounds in the studio: what is filled in, a player, and a spectrogram beside it."""

import base64
import io
import re
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from PIL import Image

from tests.unit.modalities.small_sound import sine
from tests.unit.studio.visiting import Guest, Noting, Studio, file, files_in, opened
from versatile_diffusion.engine.requests import JobRequest
from versatile_diffusion.engine.results import Failure, JobResult
from versatile_diffusion.engine.workers import ModelInfo, Watch
from versatile_diffusion.modalities.sound_files import encode_sound, read_record
from versatile_diffusion.modalities.sounds import Sound
from versatile_diffusion.modalities.spectrograms import HEIGHT, spectrogram_png
from versatile_diffusion.provenance.record import CHUNK
from versatile_diffusion.studio.other_tasks import tasks_for

HEARER = ModelInfo(("sound", "image", "text"), ("sound", "image", "text"), {}, {})


class Singing(Noting):
    """A worker that makes one sound, whatever it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.models = {"tiny": HEARER}

    def run(self, requests: Sequence[JobRequest], watch: Watch) -> list[JobResult | Failure | None]:
        self.requests += requests
        return [JobResult([sine()] * len(request.seeds), 2.0) for request in requests]


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    with opened(tmp_path_factory.mktemp("studio"), Singing()) as studio:
        yield studio


def test_a_sound_is_made_heard_and_seen(studio: Studio) -> None:
    assert [task.key for task in tasks_for([HEARER])[-3:]] == ["make-sound", "make-image", "make-text"]
    guest = Guest(studio)
    own = guest.upload(encode_sound(sine(channels=2), ".flac"), "mine.flac")
    end = guest.run("make-sound", file(own), None, "a red tent")
    assert end["success"] and "Done in" in end["output"]["data"][0], end
    request = studio.worker.requests[-1].request
    assert [context.modality for context in request.contexts] == ["sound", "text"]
    heard = request.contexts[0].data
    assert isinstance(heard, Sound) and heard.channels == 2
    [entry] = studio.history.entries()
    assert files_in(end["output"]["data"]).count(str(entry.file)) == 2, "to play and to download"
    assert CHUNK in read_record(entry.file.read_bytes())
    found = re.search(r"data:image/png;base64,([\w+/=]+)", str(end["output"]["data"]))
    assert found and Image.open(io.BytesIO(base64.b64decode(found[1]))).height == HEIGHT


def test_a_spectrogram_shows_pitch_and_time() -> None:
    low, high = (np.asarray(Image.open(io.BytesIO(spectrogram_png(sine(f, rate=16000))))).sum(-1) for f in (100, 4000))
    rows = [int(picture.sum(axis=1).argmax()) for picture in (low, high)]
    assert rows[0] > 100 and rows[1] < 50, "low below, high above"
    half = Image.open(io.BytesIO(spectrogram_png(sine(500, 0.5).in_length(8000))))
    columns = np.asarray(half).sum(axis=(0, 2))
    assert columns[: len(columns) // 3].mean() > 2 * columns[-len(columns) // 3 :].mean()
    for odd in (Sound([0.5], 48000), Sound(np.zeros(100), 1000), sine(100, 30, 48000)):
        assert Image.open(io.BytesIO(spectrogram_png(odd))).height == HEIGHT
