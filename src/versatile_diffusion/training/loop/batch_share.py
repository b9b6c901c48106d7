"""What of a batch, or of a data set, is one process's."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from versatile_diffusion.processes import processes


@dataclass(frozen=True)
class BatchShare:
    """One process's part of what several share out.

    Attributes:
        rank: of the process, from 0.
        processes: how many there are.
    """

    rank: int = 0
    processes: int = 1

    def of(self, rows: Tensor) -> Tensor:
        """Returns the rows of this process, of as many as a multiple of the number of processes."""
        return rows.chunk(self.processes)[self.rank]


WHOLE = BatchShare()
"""All of it."""


def own_share() -> BatchShare:
    """Returns the part of this process among those that train together."""
    state = processes()
    return BatchShare(int(state.process_index), int(state.num_processes))  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType] - accelerate has no types
