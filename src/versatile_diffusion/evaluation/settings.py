"""All that an evaluation on a data set can be told, declared once: the command line derives from it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from versatile_diffusion.fields import Flag
from versatile_diffusion.validation import Strict


class EvaluationPart(StrEnum):
    """Parts of an evaluation, which may be done apart."""

    LIST = "list"
    MAKE = "make"
    MEASURE = "measure"


class EvaluationOptions(Strict):
    """What a system is measured on, and with what."""

    data: Annotated[
        str,
        Field(min_length=1, description="A folder, a file, a pattern of files, or hub:owner/name, as for vd train."),
    ]
    num: Annotated[
        int | None, Field(ge=2, strict=True, description="Samples that are measured; all, 30,000 at most, if left out.")
    ] = None
    seed: Annotated[
        int, Field(ge=0, lt=2**32, strict=True, description="Of the samples, of their captions and of the noise.")
    ] = 0
    batch_size: Annotated[int, Field(ge=1, le=4096, strict=True, description="Outputs made at once.")] = 8
    size: Annotated[
        int, Field(ge=16, le=4096, strict=True, description="Pixels of the centre squares that the FID compares.")
    ] = 256
    bootstrap: Annotated[
        int, Field(ge=0, le=100_000, strict=True, description="Draws of the samples that tell how sure figures are.")
    ] = 100
    made: Annotated[
        str | None,
        Field(description="Measure what others made: a folder of files, named by number or key, or a .jsonl of texts."),
        Flag(metavar="PATH"),
    ] = None
    only: Annotated[
        EvaluationPart | None,
        Field(description="list: choose the samples. make: and make outputs. measure: what was made."),
    ] = None
    clip: Annotated[
        str | None,
        Field(description="A CLIP to measure with, a folder or a hub id; the model's own if left out."),
        Flag(metavar="CLIP"),
    ] = None
    inception: Annotated[
        str | None,
        Field(description="The weights of the FID's Inception, or download; without, CLIP-FID takes its place."),
        Flag(metavar="FILE"),
    ] = None
