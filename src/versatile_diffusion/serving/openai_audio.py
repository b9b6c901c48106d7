"""OpenAI's route for speech, so that its clients work as they are: the answer is the file of a sound."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import ConfigDict, Field

from versatile_diffusion.context import Context
from versatile_diffusion.engine.jobs import Job
from versatile_diffusion.engine.requests import JobRequest
from versatile_diffusion.engine.results import JobResult
from versatile_diffusion.engine.workers import ModelInfo, find_model
from versatile_diffusion.modalities.sound_spec import SOUND, SoundDecoding
from versatile_diffusion.modalities.text_spec import TEXT
from versatile_diffusion.pipeline.request import Request as PipelineRequest
from versatile_diffusion.sampling.options import Sampling
from versatile_diffusion.serving.bodies import body_of
from versatile_diffusion.serving.jobs_api import Jobs, Owner
from versatile_diffusion.serving.openai_schemas import Steps
from versatile_diffusion.serving.problems import MADE_RESPONSES
from versatile_diffusion.serving.schemas import GuidanceScale, Seed, consecutive, outputs
from versatile_diffusion.serving.uploads import Uploads
from versatile_diffusion.validation import Number

router = APIRouter(prefix="/v1/audio", tags=["OpenAI"])


class SoundFormat(StrEnum):
    """Files that a sound comes in; pcm is what a WAV of 24 kHz holds, mono and without its header."""

    MP3 = "mp3"
    OPUS = "opus"
    FLAC = "flac"
    WAV = "wav"
    PCM = "pcm"


_PCM_RATE = 24000
_MEDIA_TYPES = {
    SoundFormat.MP3: "audio/mpeg",
    SoundFormat.OPUS: "audio/ogg",
    SoundFormat.FLAC: "audio/flac",
    SoundFormat.WAV: "audio/wav",
    SoundFormat.PCM: "audio/pcm",
}


class SpeechIn(Sampling):
    """A sound of a text. What OpenAI's interface has besides this, such as a voice, is ignored: say it in the text."""

    model_config = ConfigDict(extra="ignore")

    model: Annotated[str | None, Field(description="One of /v1/models; the first if left out.")] = None
    input: Annotated[str, Field(min_length=1, max_length=4096, description="What is to be heard, in words.")]
    response_format: Annotated[SoundFormat, Field(description="The file of the sound.")] = SoundFormat.MP3
    speed: Annotated[Number, Field(ge=1, le=1, description="Only 1: say in the text how quick it is.")] = 1
    seed: Annotated[Seed | None, Field(description="Ours: of the sound; random if left out.")] = None
    seconds: Annotated[Number | None, SoundDecoding.model_fields["seconds"]] = None
    num_inference_steps: Steps = None
    guidance_scale: GuidanceScale = None


BODIES = (SpeechIn,)
"""What the route reads by itself, for the OpenAPI document."""

_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{SpeechIn.__name__}"}}},
    }
}
_FILE: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {"description": "The file of the sound", "content": dict.fromkeys(_MEDIA_TYPES.values(), _FILE)},
    **MADE_RESPONSES,
}


@router.post("/speech", responses=_ANSWER, openapi_extra=_BODY, response_class=Response)
async def speech(request: Request, jobs: Jobs, owner: Owner) -> Response:
    """Makes a sound of a text, and answers with its file."""
    body = await body_of(request, jobs.limits.body)
    asked = body.read_as(SpeechIn)

    def read(uploads: Uploads, models: Mapping[str, ModelInfo]) -> JobRequest:
        name, info = find_model(models, asked.model)
        info.require(name, SOUND.name, (TEXT.name,))
        seconds = {} if asked.seconds is None else {"seconds": asked.seconds}
        sampling = {**dict(asked.sampling), "seeds": consecutive(asked.seed, 1), **seconds}
        return JobRequest(name, PipelineRequest.of(SOUND.name, [Context(TEXT.name, asked.input)], **sampling))

    job = await jobs.submit(read, body.files, owner)
    result = await jobs.finished(job, request)
    content = await jobs.resampled(lambda: _file(job, result, asked.response_format))
    return Response(content, media_type=_MEDIA_TYPES[asked.response_format])


def _file(job: Job, result: JobResult, kind: SoundFormat) -> bytes:
    """The file of a sound, with the record of how it was made where it can hold one."""
    from versatile_diffusion.modalities.sound_files import encode_sound
    from versatile_diffusion.modalities.sounds import LEVELS, read_sounds

    (made,) = outputs(job.request.to, job.summary, job.record, job.request.seeds, result)
    content = base64.b64decode(made.data or "")
    (sound,) = read_sounds(list(result.items))
    match kind:
        case SoundFormat.WAV:
            return content
        case SoundFormat.PCM:
            samples = sound.resampled(_PCM_RATE).with_channels(1).at_full_scale().samples
            return (samples * LEVELS).astype("<i2").tobytes()
        case _:
            return encode_sound(sound, f".{kind}", SOUND.codec.read_record(content))
