"""Records of what jobs make, and jobs that make what a record says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from versatile_diffusion.engine.requests import Edit, JobRequest
from versatile_diffusion.engine.results import JobResult
from versatile_diffusion.modalities.text_spec import TEXT
from versatile_diffusion.pipeline.outputs import Origin
from versatile_diffusion.provenance.record import Computed, ContextRecord, Record

if TYPE_CHECKING:
    from versatile_diffusion.provenance.stored_record import StoredRecord


def record_of(job: JobRequest, row: int = 0) -> StoredRecord:
    """The record of an output as far as it is known before it is made, with its inputs.

    Args:
        job: what is asked for.
        row: the number of the output.
    """
    from versatile_diffusion.provenance import recording  # PyTorch, which takes seconds

    return recording.record_of(Origin(job.request, 1, row), Computed(model=job.model))


def job_of(stored: StoredRecord, model: str | None = None) -> JobRequest:
    """What makes the output of a record again, alone, and so the same but for rounding.

    Args:
        stored: the record and its inputs.
        model: the name of an opened model; the one of the record if left out.

    Raises:
        ValueError: if an input is missing.
    """
    from versatile_diffusion.provenance.replay import request_of

    return JobRequest(model or stored.record.computed.model, request_of(stored))


@dataclass(frozen=True)
class JobRecord:
    """How all outputs of a job are made, such that they can be made again.

    Attributes:
        records: one for all outputs, or one for each if they start from noise of their own.
        inputs: in base64 by their checksums, as far as they are small.
        edit: what becomes of the image that is the only context.
    """

    records: Sequence[Record]
    inputs: Mapping[str, str]
    edit: Edit | None = None

    @classmethod
    def of(cls, job: JobRequest) -> JobRecord:
        """The record of a job that still holds its data."""
        differ = job.request.latents is not None
        found = [record_of(job, row) for row in range(job.request.num_outputs if differ else 1)]
        inputs = {name: content for one in found for name, content in one.embedded.items()}
        return cls([one.record for one in found], inputs, job.edit)

    def outputs(self, seeds: Sequence[int], made: JobResult) -> list[StoredRecord]:
        """The record of each output, without inputs."""
        from versatile_diffusion.provenance.stored_record import StoredRecord

        first = self.records[0]
        records = list(self.records) if len(self.records) > 1 else [first] * len(seeds)
        same: dict[str, object] = {"guidance_scale": made.guidance_scale, "computed": made.computed or first.computed}
        if self.edit is not None and made.written is not None:
            share, (seen,) = self.edit.text_share, first.contexts
            text = ContextRecord(modality=TEXT.name, data=made.written, weight=share)
            same["contexts"] = (text, seen.model_copy(update={"weight": 1 - share}))
        batches = [made.batch.model_copy(update={"row": made.batch.row + i}) for i in range(len(seeds))]
        return [
            StoredRecord(record.model_copy(update=same | {"seed": seed, "batch": batch}))
            for record, seed, batch in zip(records, seeds, batches, strict=True)
        ]
