"""What tools answer: outputs as content that agents see, and what there is to know of them."""

from __future__ import annotations

import base64
from typing import Annotated

from mcp_types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    ContentBlock,
    EmbeddedResource,
    ImageContent,
    ReadResourceResult,
    TextContent,
    TextResourceContents,
)
from pydantic import BaseModel, Field

from versatile_diffusion.engine.jobs import Job
from versatile_diffusion.engine.results import JobResult, shortened
from versatile_diffusion.mcp.addresses import Addressed, address
from versatile_diffusion.modalities.registry import modality_spec
from versatile_diffusion.modalities.spec import ShownAs
from versatile_diffusion.serving.schemas import OutputOut, outputs


class ToolOutput(BaseModel):
    """One output, which the content of the answer holds at the same place."""

    address: Annotated[str, Field(description="What other tools take in its place, as long as it is kept.")]
    seed: int
    media_type: str
    text: Annotated[str | None, Field(description="The output itself, where it is words.")] = None


class ToolAnswer(BaseModel):
    """What a tool made."""

    model: str
    outputs: list[ToolOutput]
    notes: Annotated[list[str], Field(description="What the user should know.")] = []


def answer_of(job: Job, result: JobResult) -> CallToolResult:
    """The answer to a call: each output, then a text that says of each how it is made again and named."""
    to = job.request.to
    made = outputs(to, job.summary, job.record, job.request.seeds, result)
    places = [address(job, number) for number in range(len(made))]
    shown_as = modality_spec(to).codec.shown_as
    content = [_block(place, output, shown_as) for place, output in zip(places, made, strict=True)]
    told = ToolAnswer(
        model=job.request.model,
        outputs=[
            ToolOutput(address=place, seed=output.seed, media_type=output.media_type or "", text=output.text)
            for place, output in zip(places, made, strict=True)
        ],
        notes=list(result.notes),
    )
    remarks = TextContent(text=_in_words(told))
    return CallToolResult(content=[*content, remarks], structured_content=told.model_dump(exclude_none=True))


def refusal(message: str) -> CallToolResult:
    """The answer to a call of which nothing comes, in words for the agent."""
    return CallToolResult(content=[TextContent(text=shortened(message))], is_error=True)


def resource_of(place: str, found: Addressed) -> ReadResourceResult:
    """What is at an address, as a resource."""
    content, kind = found.content, found.media_type
    if isinstance(content, str):
        return ReadResourceResult(contents=[TextResourceContents(uri=place, text=content, mime_type=kind)])
    blob = base64.b64encode(content).decode()
    return ReadResourceResult(contents=[BlobResourceContents(uri=place, blob=blob, mime_type=kind)])


def _block(place: str, output: OutputOut, shown_as: ShownAs) -> ContentBlock:
    kind, data = output.media_type or "", output.image or output.data or ""
    match shown_as:
        case ShownAs.TEXT:
            return TextContent(text=output.text or "")
        case ShownAs.IMAGE:
            return ImageContent(data=data, mime_type=kind)
        case ShownAs.AUDIO:
            return AudioContent(data=data, mime_type=kind)
        case ShownAs.FILE:
            return EmbeddedResource(resource=BlobResourceContents(uri=place, blob=data, mime_type=kind))


def _in_words(told: ToolAnswer) -> str:
    lines = [f"Output {n}: seed {one.seed}, {one.address}" for n, one in enumerate(told.outputs, 1)]
    return "\n".join([*lines, *told.notes])
