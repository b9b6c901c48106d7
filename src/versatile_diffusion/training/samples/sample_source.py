"""A data set read again and again: its rows in shards whose order is drawn for each epoch, and where one is in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from itertools import islice

from pydantic import TypeAdapter

from versatile_diffusion.data.captioned_data import CaptionedData
from versatile_diffusion.data.sample import Row
from versatile_diffusion.data.streams import share_out
from versatile_diffusion.training.loop.batch_share import WHOLE, BatchShare


@dataclass(frozen=True)
class StreamPlace:
    """A place in a data set that is read again and again.

    Attributes:
        epoch: how often it was read to its end.
        state: what `datasets` goes on from; None at the beginning of an epoch.
    """

    epoch: int = 0
    state: dict[str, object] | None = None

    @classmethod
    def of(cls, values: object) -> StreamPlace:
        """Returns the place of which `as_dict` returned the values."""
        return TypeAdapter(cls).validate_python(values)

    def as_dict(self) -> dict[str, object]:
        """Returns it as JSON can hold it."""
        return asdict(self)


class RowSource:
    """The rows of a data set, in another order of its shards in each epoch.

    Args:
        data: the data set.
        seed: of the orders.
        share: of the rows that this process reads: every n-th shard, or every n-th row if there are few shards.
    """

    def __init__(self, data: CaptionedData, seed: int, share: BatchShare = WHOLE) -> None:
        self.data, self.seed = data, seed
        if share != WHOLE:
            data.table = share_out(data.table, share.rank, share.processes)
        self.place = StreamPlace()
        self._rows: Iterator[Row] | None = None

    def go_to(self, place: StreamPlace) -> None:
        """Goes on from a place."""
        self.place, self._rows = place, None

    def read(self, most: int) -> list[Row]:
        """Returns the next rows of this epoch; if there are no more, none, and the next epoch begins."""
        if self._rows is None:
            self.data.table.set_epoch(drawn_number(self.seed, "epoch", self.place.epoch))
            if self.place.state is not None:
                self.data.table.load_state_dict(self.place.state)
            self._rows = self.data.rows()
        rows = list(islice(self._rows, most))
        if rows:
            self.place = StreamPlace(self.place.epoch, self.data.table.state_dict())
        else:
            self.go_to(StreamPlace(self.place.epoch + 1))
        return rows


def drawn_number(*of: object) -> int:
    """Returns a number from 1 to 2^48, the same for the same words and numbers."""
    return int.from_bytes(sha256("/".join(map(str, of)).encode()).digest()[:6]) + 1
