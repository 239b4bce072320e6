"""The groups of a board: one row of cells for each value of each segment in each slice."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dataflows.evaluation.exact_sums import Ints
from dataflows.evaluation.judged import Judged
from dataflows.evaluation.task_metrics import TaskMetrics

SliceKey = tuple[str, str]
_ROWS_MIN = 16


@dataclass(frozen=True)
class Sparse:
    """Some groups without their zeros: plain arrays.

    Attributes:
        codes: int32 ``[m]``: which group of the slice.
        lengths: int32 ``[m]``: of each group how many cells are not zero.
        cells: uint16: their places.
        values: int64: what they hold.
    """

    codes: Any
    lengths: Any
    cells: Any
    values: Any


class Groups:
    """Cells of groups; a group takes room once it has an outcome.

    A *slice* is a part of the outcomes, such as those of one version; a *code* is a value of a
    segment, or all of the slice.
    """

    def __init__(self, metrics: TaskMetrics, codes: int) -> None:
        self._metrics = metrics
        self._codes = codes
        self._table: Ints = np.zeros((0, metrics.width), dtype=np.int64)
        self._free: list[int] = []
        self._places: dict[SliceKey, Ints] = {}  # code -> row of the table, -1 for none
        self._touched: dict[SliceKey, npt.NDArray[np.bool_]] = {}

    def __contains__(self, key: SliceKey) -> bool:
        return key in self._places

    def __len__(self) -> int:
        """Number of groups."""
        return len(self._table) - len(self._free)

    @property
    def keys(self) -> list[SliceKey]:
        """All slices, in order of first use."""
        return list(self._places)

    def codes(self, key: SliceKey) -> list[int]:
        """Those of a slice that have outcomes, ascending; none if there is no such slice."""
        if key not in self._places:
            return []
        return np.flatnonzero(self._places[key] >= 0).tolist()

    def rows(self, keys: list[SliceKey], slices: Ints, codes: Ints) -> Ints:
        """Rows of the table for outcomes, made where there are none yet.

        Args:
            keys: the slices that occur.
            slices: ``[k]``: place in ``keys`` of the slice of each outcome.
            codes: ``[k, c]``: the codes of each.

        Returns:
            ``[k, c]``.
        """
        places = np.stack([self._slice(key) for key in keys])
        found = places[slices[:, None], codes]
        if (found < 0).any():
            at, columns = np.nonzero(found < 0)
            pairs = np.unique(slices[at] * self._codes + codes[at, columns])
            for pair in pairs.tolist():
                number, code = divmod(pair, self._codes)
                places[number, code] = self._places[keys[number]][code] = self._new_row()
            found = places[slices[:, None], codes]
        for number, key in enumerate(keys):
            if key not in self._touched:
                self._touched[key] = np.zeros(self._codes, dtype=np.bool_)
            self._touched[key][codes if len(keys) == 1 else codes[slices == number]] = True
        return found

    def add(self, rows: Ints, judged: Judged) -> None:
        """Add each outcome to its rows ``[k, j]``, which ``rows`` gave."""
        self._metrics.add(self._table, rows, judged)

    def total(self, keys: Iterable[SliceKey], code: int) -> Ints:
        """The cells of one code over some slices, put together; for reading only."""
        found = [int(self._places[key][code]) for key in keys if key in self._places]
        rows = [row for row in found if row >= 0]
        total: Ints = self._table[rows[0]] if len(rows) == 1 else self._table[rows].sum(axis=0)
        return total

    def fold(self, key: SliceKey, into: SliceKey) -> None:
        """Add a slice to another one and forget it."""
        codes = np.array(self.codes(key), dtype=np.int64)
        if len(codes):
            zeros = np.zeros(len(codes), dtype=np.int64)
            rows = self.rows([into], zeros, codes[:, None])[:, 0]
            self._table[rows] += self._table[self._places[key][codes]]
            self._metrics.settle(self._table, rows)
        self.drop(key)

    def drop(self, key: SliceKey) -> None:
        """Forget a slice."""
        places = self._places.pop(key, None)
        self._touched.pop(key, None)
        if places is not None:
            rows = places[places >= 0]
            self._table[rows] = 0
            self._free.extend(rows.tolist())

    def touched(self) -> dict[SliceKey, Sparse]:
        """What was added to since this was asked last."""
        changed = {
            key: self._sparse(key, np.flatnonzero(codes).tolist())
            for key, codes in self._touched.items()
        }
        self._touched = {}
        return changed

    def dump(self) -> dict[SliceKey, Sparse]:
        """All groups; the next ``touched`` begins here."""
        self._touched = {}
        return {key: self._sparse(key, self.codes(key)) for key in self._places}

    def put(self, key: SliceKey, groups: Sparse) -> None:
        """Set groups to what ``dump`` or ``touched`` said."""
        ends = np.cumsum(groups.lengths).tolist()
        for code, length, end in zip(
            groups.codes.tolist(), groups.lengths.tolist(), ends, strict=True
        ):
            places = self._slice(key)
            if places[code] < 0:
                places[code] = self._new_row()
            row = self._table[places[code]]
            row[:] = 0
            row[groups.cells[end - length : end]] = groups.values[end - length : end]

    def _slice(self, key: SliceKey) -> Ints:
        if key not in self._places:
            self._places[key] = np.full(self._codes, -1, dtype=np.int64)
        return self._places[key]

    def _new_row(self) -> int:
        if not self._free:
            size = len(self._table)
            more = np.zeros((max(_ROWS_MIN, size), self._metrics.width), dtype=np.int64)
            self._table = np.concatenate([self._table, more])
            self._free = list(range(size + len(more) - 1, size - 1, -1))
        return self._free.pop()

    def _sparse(self, key: SliceKey, codes: list[int]) -> Sparse:
        rows = self._table[self._places[key][codes]]
        at, cells = np.nonzero(rows)
        return Sparse(
            codes=np.array(codes, dtype=np.int32),
            lengths=np.bincount(at, minlength=len(codes)).astype(np.int32),
            cells=cells.astype(np.uint16),
            values=rows[at, cells],
        )
