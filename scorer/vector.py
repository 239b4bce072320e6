"""From rows of inputs to the model's vectors. Pure: no gRPC, no store, no clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scorer.online_store import Cells, Wanted
from scorer.stored_number import StoredNumbers, doubles_of
from scorer.vector_plan import VectorPlan, ViewRead

Floats = NDArray[np.float64]


class MissingReason(IntEnum):
    """Why a value was not there; numbers as in the proto."""

    NULL_INPUT = 1
    NO_ROW = 2
    EXPIRED = 3
    NULL_VALUE = 4


class Missing(NamedTuple):
    """A place of the vector where the model's default stands in, and why."""

    position: int
    reason: MissingReason


# Not frozen, as is nothing that each request makes several of: that takes thrice as long to make.
@dataclass(slots=True)
class Vectors:
    """Rows as they are scored; not to be changed.

    Attributes:
        values: float64[N, W], one column for each field of the schema, in order.
        missing: of each row the places at which the default stands in, ascending.
        oldest_us: of each row the event time of the oldest stored row used, microseconds since 1970
            UTC; None if none was.
        newest_us: of the newest.
        refused: the rows that have no vector as an on-demand view failed at them, and why; defaults
            stand in what it should have made.
    """

    values: Floats
    missing: list[tuple[Missing, ...]]
    oldest_us: list[int | None]
    newest_us: list[int | None]
    refused: Mapping[int, str] = field(default_factory=dict)

    def part(self, start: int, end: int) -> Vectors:
        """Some of the rows."""
        return Vectors(
            self.values[start:end],
            self.missing[start:end],
            self.oldest_us[start:end],
            self.newest_us[start:end],
            {row - start: why for row, why in self.refused.items() if start <= row < end}
            if self.refused
            else self.refused,
        )

    @classmethod
    def joined(cls, parts: Sequence[Vectors]) -> Vectors:
        """All rows of one or more parts, none of which is refused."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            np.concatenate([part.values for part in parts]),
            [one for part in parts for one in part.missing],
            [one for part in parts for one in part.oldest_us],
            [one for part in parts for one in part.newest_us],
        )


class VectorFiller:
    """Puts what was read into vectors."""

    def __init__(self) -> None:
        """Serves all models."""
        self._numbers = StoredNumbers()

    def fill(
        self,
        plan: VectorPlan,
        given: Sequence[Sequence[float]],
        wanted: Sequence[Sequence[Wanted | None]],
        found: Mapping[Wanted, Cells],
        at_us: Sequence[int],
        texts: Sequence[Sequence[str | None]] = (),
    ) -> Vectors:
        """The vectors of N rows.

        Args:
            plan: of the schema.
            given: of each row its request values, as ``CheckedRows`` has them.
            wanted: for each of the plan's reads, of each row what it wants; None for nothing.
            found: what the store had of all that is wanted.
            at_us: of each row the moment of prediction, microseconds since 1970 UTC; stored rows
                older than their ttl by then are missing.
            texts: of each row its strings for on-demand views, as ``CheckedRows`` has them.

        Raises:
            StoreUnavailableError: a stored value is broken or is no number.
        """
        count = len(given)
        values = np.empty((count, plan.places))
        if plan.requests:
            values[:, plan.request_columns] = given
        oldest: list[int | None] = [None] * count
        newest: list[int | None] = [None] * count
        gaps: dict[tuple[int, int], MissingReason] = {}
        present: list[tuple[list[int], list[Sequence[bytes | None]]]] = []
        for number, (read, asked) in enumerate(zip(plan.reads, wanted, strict=True)):
            rows: list[int] = []
            cells: list[Sequence[bytes | None]] = []
            for row, one in enumerate(asked):
                time_us, stored = found[one] if one is not None else (None, ())
                if time_us is None or 0 < read.ttl_us < at_us[row] - time_us:
                    gaps[row, number] = _reason(one, time_us)
                    continue
                rows.append(row)
                if read.texts:
                    view, features = read.source.view, read.source.features
                    stored = self._numbers.coded(view, features, read.texts, stored)
                cells.append(stored)
                before, after = oldest[row], newest[row]
                oldest[row] = time_us if before is None or time_us < before else before
                newest[row] = time_us if after is None or time_us > after else after
            present.append((rows, cells))
        if gaps or not _put_doubles(plan, values, [cells for _, cells in present]):
            for read, (rows, cells) in zip(plan.reads, present, strict=True):
                self._put(values, read, rows, cells)
        refused: Mapping[int, str] = {}
        if plan.derived is not None:
            values, refused = plan.derived.fill(values, texts)
        return Vectors(values, _fill_gaps(plan, values, gaps), oldest, newest, refused)

    def _put(
        self,
        values: Floats,
        read: ViewRead,
        rows: list[int],
        cells: list[Sequence[bytes | None]],
    ) -> None:
        """Write the stored values of some rows; NaN into the others."""
        if len(rows) < len(values):
            values[:, read.columns] = np.nan
            if not rows:
                return
        numbers = self._numbers.read(read.source.view, read.source.features, cells)
        if len(rows) == len(values):
            values[:, read.columns] = numbers
        else:
            values[np.ix_(rows, read.positions)] = numbers


def _put_doubles(
    plan: VectorPlan, values: Floats, stored: Sequence[Sequence[Sequence[bytes | None]]]
) -> bool:
    """Write all that was stored at once, and say so, if each row has all of it, in doubles."""
    if not stored:
        return True
    cells = chain.from_iterable(zip(*stored, strict=True))
    numbers = doubles_of(cells, len(values) * plan.stored_width)
    if numbers is None:
        return False
    values[:, plan.stored_columns] = numbers.reshape(len(values), plan.stored_width)
    return True


def _reason(wanted: Wanted | None, time_us: int | None) -> MissingReason:
    if wanted is None:
        return MissingReason.NULL_INPUT
    return MissingReason.NO_ROW if time_us is None else MissingReason.EXPIRED


def _fill_gaps(
    plan: VectorPlan, values: Floats, gaps: Mapping[tuple[int, int], MissingReason]
) -> list[tuple[Missing, ...]]:
    """Put defaults in the place of NaN; where, and why."""
    nothing: tuple[Missing, ...] = ()
    missing = [nothing] * len(values)
    is_missing = np.isnan(values)
    # Twice as fast as to ask numpy.
    if b"\x01" not in is_missing.tobytes():
        return missing
    found: dict[int, list[Missing]] = {}
    for row, position in zip(*(places.tolist() for places in is_missing.nonzero()), strict=True):
        number = plan.read_of[position]
        reason = (
            MissingReason.NULL_INPUT
            if number is None
            else gaps.get((row, number), MissingReason.NULL_VALUE)
        )
        found.setdefault(row, []).append(Missing(position, reason))
    for row, places in found.items():
        missing[row] = tuple(places)
    np.copyto(values, plan.defaults, where=is_missing)
    return missing
