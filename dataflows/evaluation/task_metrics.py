"""What the metrics of one task are: cells that are added to, and figures read from them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from dataflows.evaluation.exact_sums import Floats, Ints, Range, carry, pieces, scatter
from dataflows.evaluation.judged import Judged

Figures = dict[str, Any]
"""Name -> number, or None where one is not defined."""

COUNT, UNUSABLE = 0, 1


@dataclass(frozen=True)
class TaskMetrics:
    """The metrics of one task; a group of outcomes is one row of ``width`` int64 cells.

    Adding rows cell by cell puts groups together.

    Attributes:
        width: cells of a group; the first two count usable and unusable outcomes.
        sums: (first cell, range) of each exact sum.
        additions: for rows that are usable all: cells and what to add there, ``[k, p]`` both.
        usable: which rows count, bool ``[k]``.
        figures: reads numbers out of a row.
        details: reads what is more than a number, given the names of classes.
    """

    width: int
    sums: tuple[tuple[int, Range], ...]
    additions: Callable[[Judged], tuple[Ints, Ints]]
    usable: Callable[[Judged], Any]
    figures: Callable[[Ints], Figures]
    details: Callable[[Ints, tuple[str, ...]], Figures]

    @cached_property
    def _sums(self) -> Ints:
        places = [(first, kind.limbs) for first, kind in self.sums]
        return np.array(places, dtype=np.int64).reshape(-1, 2)

    def add(self, table: Ints, groups: Ints, rows: Judged) -> None:
        """Add rows to groups.

        Args:
            table: ``[g, width]``, changed.
            groups: ``[k, j]``: the groups (rows of the table) that each of the rows belongs to.
            rows: k of them.
        """
        usable = self.usable(rows)
        if not usable.all():
            lost = groups[~usable]
            ones = np.ones((len(lost), 1), dtype=np.int64)
            scatter(table, lost, ones * UNUSABLE, ones)
            rows, groups = rows.take(usable), groups[usable]
        if len(rows):
            scatter(table, groups, *self.additions(rows))
            # Much faster than to sort out the distinct ones of many thousands.
            changed = np.zeros(len(table), dtype=np.bool_)
            changed[groups] = True
            self.settle(table, np.flatnonzero(changed))

    def settle(self, table: Ints, rows: Ints) -> None:
        """Have equal groups have equal cells; after rows were added to each other."""
        carry(table, rows, self._sums)


def in_one(
    columns: list[tuple[Any, Any]], sums: list[tuple[Any, Floats, Range]]
) -> tuple[Ints, Ints]:
    """Cells and additions ``[k, p]`` of counts and of exact sums.

    Args:
        columns: (cell or cells, number or numbers to add).
        sums: (first cell or cells, numbers to add, range).
    """
    rows = len(sums[0][1]) if sums else len(np.atleast_1d(columns[-1][0]))
    cells = [np.broadcast_to(cell, rows)[:, None] for cell, _ in columns]
    parts = [np.broadcast_to(part, rows)[:, None].astype(np.int64) for _, part in columns]
    for first, numbers, kind in sums:
        limbs, adds = pieces(numbers, kind.low)
        cells.append(limbs + np.broadcast_to(first, rows)[:, None])
        parts.append(adds)
    return np.concatenate(cells, axis=1, dtype=np.int64), np.concatenate(parts, axis=1)


@numba.njit(cache=True)
def log_losses(probabilities: Floats) -> Floats:
    """Minus the logarithm of what was given to the truth; nothing may be 0."""
    # One by one: how a vector is cut must not decide which routine takes the logarithm.
    losses = np.empty(len(probabilities), dtype=np.float64)
    for row, probability in enumerate(probabilities):
        losses[row] = -math.log(probability)
    return losses


def share(part: int, whole: int) -> float | None:
    """``part / whole``; None of nothing."""
    return part / whole if whole else None


def mean_of(row: Sequence[int], first: int, kind: Range, count: int) -> float | None:
    """The mean of an exact sum; None of nothing."""
    return kind.mean(row[first : first + kind.limbs], count) if count else None


def without_details(_row: Ints, _classes: tuple[str, ...]) -> Figures:
    """For tasks whose figures are numbers all."""
    return {}


def are_judged(rows: Judged) -> npt.NDArray[np.bool_]:
    """Which rows have a score and a label that are numbers."""
    return np.isfinite(rows.scores) & np.isfinite(rows.labels)
