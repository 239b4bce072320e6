"""What a reader finds, as numbers that a test can be written in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from scorer.online_store import OnlineReader, Wanted
from scorer.stored_number import StoredNumbers


class Found(NamedTuple):
    """Event time (microseconds) of an entity's row, None if there is none, and its values."""

    event_time_us: int | None
    values: list[float | None]


async def read_found(reader: OnlineReader, wanted: Sequence[Wanted]) -> list[Found]:
    """One ``Found`` for each ``Wanted``, in that order; nulls and NaN are None."""
    numbers = StoredNumbers()
    found = []
    for one, cells in zip(wanted, await reader.read_cells(wanted), strict=True):
        (row,) = numbers.read(one.view, one.features, [cells.values]).tolist()
        found.append(Found(cells.event_time_us, [None if v != v else v for v in row]))
    return found
