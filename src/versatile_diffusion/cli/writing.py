"""Writing what was made: as much of it as can be written, and telling what cannot."""
# pyright: strict

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from versatile_diffusion.cli.console import note

if TYPE_CHECKING:
    from versatile_diffusion.provenance.stored_record import StoredRecord


@dataclass(frozen=True)
class UnwrittenOutput:
    """An output that was made, and is to be written.

    Attributes:
        file: where it goes.
        item: what was made.
        words: how it was made, for people.
        record: how it was made, to make it again; None if that cannot be kept.
    """

    file: Path
    item: object
    words: Mapping[str, object]
    record: StoredRecord | None


def write_outputs(
    modality: str, outputs: Sequence[UnwrittenOutput], on_written: Callable[[Path], None] | None = None
) -> None:
    """Writes outputs; one that cannot be written keeps none of the others from it.

    Args:
        modality: of the outputs.
        outputs: to write.
        on_written: called with each file that was written.

    Raises:
        OSError: after all of them, if some could not be written.
    """
    from versatile_diffusion.provenance.output_files import RecordNotKept, write_output

    failures: list[OSError] = []
    for output in outputs:
        try:
            write_output(output.file, modality, output.item, output.words, output.record)
        except RecordNotKept as error:
            note(str(error))
        except OSError as error:
            failures.append(error)
            continue
        if on_written is not None:
            on_written(output.file)
    if failures:
        raise OSError(f"{len(failures)} of {len(outputs)} outputs could not be written: {failures[0]}.")
