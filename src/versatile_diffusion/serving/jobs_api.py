"""Routes of `generate` and of jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Depends, HTTPException, Path, Request, Response
from pydantic import ValidationError
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.datastructures import UploadFile

from versatile_diffusion.serving.bodies import MOST_FILES, media_type
from versatile_diffusion.serving.job_service import JobService
from versatile_diffusion.serving.problems import MADE_RESPONSES, RESPONSES
from versatile_diffusion.serving.schemas import GenerateIn, JobOut, generate_model
from versatile_diffusion.serving.words import in_words

_GRACE = 3  # seconds in which streams end by themselves when the server is stopped, since their jobs have failed
JOB_RESPONSES = RESPONSES | {404: MADE_RESPONSES[404] | {"description": "No such job"}}
router = APIRouter(prefix="/v1")


def jobs_of(request: Request) -> JobService:
    """What makes jobs of requests."""
    return request.app.state.jobs


def owner_of(request: Request) -> str:
    """Who asks."""
    return request.state.owner


Jobs = Annotated[JobService, Depends(jobs_of)]
Owner = Annotated[str, Depends(owner_of)]
Identifier = Annotated[str, Path(max_length=64)]

_REFERENCE: dict[str, Any] = {"$ref": "#/components/schemas/GenerateIn"}
_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {"schema": _REFERENCE},
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["request"],
                "properties": {"request": _REFERENCE},
                "additionalProperties": {"type": "string", "format": "binary"},
            },
            "encoding": {"request": {"contentType": "application/json"}},
        },
    },
}
_LINKS = {
    name: {"operationId": name, "parameters": {"identifier": "$response.body#/id"}}
    for name in ("job", "events", "cancel")
}


async def sent(request: Request) -> tuple[GenerateIn, dict[str, bytes]]:
    """The request, as JSON or as the field `request` of a form, and the files that came with it.

    Raises:
        HTTPException: if it is neither, or not as expected.
    """
    kind = media_type(request)
    if kind == "application/json":
        return await to_thread.run_sync(_parsed, await request.body()), {}
    if kind != "multipart/form-data":
        raise HTTPException(415, "Send application/json or multipart/form-data.")
    async with request.form(max_files=MOST_FILES, max_fields=1, max_part_size=2**22) as form:
        files = {name: await part.read() for name, part in form.items() if isinstance(part, UploadFile)}
        field = form.get("request")
    if field is None:
        raise HTTPException(422, "The form has no part 'request', which holds the JSON.")
    content = files.pop("request") if isinstance(field, UploadFile) else field
    return await to_thread.run_sync(_parsed, content), files


def _parsed(body: bytes | str) -> GenerateIn:
    model = generate_model()
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise HTTPException(422, in_words(error, model)) from error


@router.post(
    "/generate",
    tags=["generate"],
    status_code=202,
    responses=MADE_RESPONSES
    | {
        200: {"model": JobOut, "description": "The result, where `wait` is true"},
        202: {"description": "The job", "links": _LINKS},
    },
    openapi_extra={"requestBody": _BODY},
)
async def generate(request: Request, response: Response, jobs: Jobs, owner: Owner) -> JobOut:
    """Makes outputs from any number of contexts. Answers with a job, or with its result if `wait` is true.

    Binary data is sent as base64, or as files of a multipart request, named in its field `request`.
    """
    asked, files = await sent(request)
    job = await jobs.submit(asked.read, files, owner)
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    if not asked.wait:
        return jobs.shown(job)
    response.status_code = 200
    return await jobs.result(job, request)


@router.get("/jobs/{identifier}", tags=["jobs"], operation_id="job", responses=JOB_RESPONSES)
def job(identifier: Identifier, jobs: Jobs, owner: Owner) -> JobOut:
    """A job, with its outputs when it has succeeded."""
    return jobs.shown(jobs.find(identifier, owner))


@router.get(
    "/jobs/{identifier}/events",
    tags=["jobs"],
    operation_id="events",
    responses=JOB_RESPONSES,
    response_class=EventSourceResponse,
)
async def events(identifier: Identifier, jobs: Jobs, owner: Owner) -> EventSourceResponse:
    """A job whenever it changes, as server-sent events named by its status, until it is final."""
    found = jobs.find(identifier, owner)

    async def stream() -> AsyncIterator[ServerSentEvent]:
        async for shown in jobs.changes(found):
            yield ServerSentEvent(shown.model_dump_json(), event=shown.status)

    return EventSourceResponse(stream(), shutdown_grace_period=_GRACE)


@router.post("/jobs/{identifier}/cancel", tags=["jobs"], operation_id="cancel", responses=JOB_RESPONSES)
@router.delete("/jobs/{identifier}", tags=["jobs"], operation_id="delete", responses=JOB_RESPONSES)
def cancel(identifier: Identifier, jobs: Jobs, owner: Owner) -> JobOut:
    """Stops a job at its next step. One that is final stays as it is."""
    found = jobs.find(identifier, owner)
    jobs.engine.cancel(found)
    return jobs.shown(found)
