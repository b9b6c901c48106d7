"""OpenAI's own client asks a real server for sounds, which come as files that it can save as they are."""

import base64
from collections.abc import Iterator
from typing import Any

import numpy as np
import openai
import pytest

from tests.unit.modalities.small_sound import sine
from tests.unit.serving.running import listening
from tests.unit.test_sound import nine  # noqa: F401
from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.engine.engine import Engine
from versatile_diffusion.engine.workers import LocalWorker
from versatile_diffusion.modalities.sound_files import encode_sound, open_sound, read_record
from versatile_diffusion.modalities.sounds import Sound
from versatile_diffusion.provenance.record import CHUNK
from versatile_diffusion.provenance.replay import replayed
from versatile_diffusion.provenance.stored_record import parse_record
from versatile_diffusion.serving.app import build_app

OURS = {"seed": 3, "steps": 2, "seconds": 0.4}


@pytest.fixture(scope="module")
def client(nine: VersatileDiffusionPipeline) -> Iterator[openai.OpenAI]:  # noqa: F811
    with listening(build_app(Engine(LocalWorker({"nine": nine})))) as address:
        yield openai.OpenAI(base_url=f"{address}/v1", api_key="any", max_retries=0)


def spoken(client: openai.OpenAI, kind: Any) -> bytes:
    answer = client.audio.speech.create(
        model="nine", input="a red tent", voice="alloy", response_format=kind, extra_body=OURS
    )
    return answer.content


@pytest.mark.parametrize("kind", ["mp3", "opus", "flac", "wav"])
def test_a_text_becomes_a_file_of_a_sound(client: openai.OpenAI, nine: Any, kind: str) -> None:  # noqa: F811
    content = spoken(client, kind)
    (expected,) = nine.text_to_sound("a red tent", num_inference_steps=2, seeds=(3,), seconds=0.4).sounds
    sound = open_sound(content)
    if kind in ("wav", "flac"):
        assert np.abs(sound.samples - expected.samples).max() < 1e-3
    assert abs(sound.seconds - 0.4) < 0.2
    again = replayed(nine, parse_record(read_record(content)[CHUNK]))
    assert isinstance(again, Sound) and np.array_equal(again.samples, expected.samples)


def test_pcm_is_without_a_header(client: openai.OpenAI) -> None:
    assert len(spoken(client, "pcm")) == 2 * round(0.4 * 24000)


def test_what_cannot_be_had_is_told(client: openai.OpenAI) -> None:
    with pytest.raises(openai.UnprocessableEntityError, match="response_format"):
        spoken(client, "aac")
    with pytest.raises(openai.UnprocessableEntityError, match="speed"):
        client.audio.speech.create(model="nine", input="a", voice="alloy", speed=2)
    with pytest.raises(openai.APIStatusError, match="too long for this model"):
        client.audio.speech.create(model="nine", input="a", voice="alloy", extra_body={"seconds": 60})


def test_a_sound_goes_in_and_out_of_the_interface_of_jobs(client: openai.OpenAI) -> None:
    sent = base64.b64encode(encode_sound(sine(channels=2), ".flac")).decode()
    asked = {"to": "sound", "contexts": [{"modality": "sound", "data": sent}], "num_inference_steps": 2, "wait": True}
    job: Any = client.post("/generate", body=asked | {"seconds": 0.2}, cast_to=object)
    (output,) = job["outputs"]
    assert output["media_type"] == "audio/wav" and open_sound(base64.b64decode(output["data"])).seconds == 0.2
