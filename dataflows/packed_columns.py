"""Columns of texts and of integers as arrays, for compiled loops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

NULL = -1


@dataclass(frozen=True, eq=False)
class TextColumn:
    """Texts that lie behind one another in one piece of memory.

    Attributes:
        data: their UTF-8.
        begins: int64[n], where in ``data`` each begins.
        sizes: int64[n], its bytes; ``NULL`` for null.
    """

    data: bytes
    begins: Ints
    sizes: Ints

    @staticmethod
    def of(values: Sequence[str | None]) -> TextColumn:
        """A column of these texts."""
        array = pa.array(values, pa.large_string())
        if not len(array):
            nothing = np.empty(0, np.int64)
            return TextColumn(b"", nothing, nothing)
        _, offsets, data = array.buffers()
        ends = np.frombuffer(offsets, np.int64, len(array) + 1)
        sizes = np.diff(ends)
        if array.null_count:
            sizes[np.asarray(array.is_null())] = NULL
        # A loop is compiled for arrays that can be written to, and once more for all others.
        begins = ends[:-1].copy()
        return TextColumn(b"" if data is None else data.to_pybytes(), begins, sizes)

    @property
    def is_there(self) -> Bools:
        """bool[n]: which are not null."""
        there: Bools = self.sizes != NULL
        return there


@dataclass(frozen=True, eq=False)
class IntegerColumn:
    """Integers of 64 bits.

    Attributes:
        integers: int64[n]; 0 where there is none.
        is_there: bool[n]: which are not null.
    """

    integers: Ints
    is_there: Bools

    @staticmethod
    def of(values: Sequence[int | None]) -> IntegerColumn:
        """A column of these integers."""
        array = pa.array(values, pa.int64())
        filled = array.fill_null(0) if array.null_count else array
        return IntegerColumn(np.array(filled, dtype=np.int64), np.array(array.is_valid()))


def is_there(column: Any) -> Bools:
    """bool[n]: which values of a column of ``Decoded.columns`` are not null."""
    if isinstance(column, np.ndarray):
        return ~np.isnan(column)
    return np.fromiter((value is not None for value in column), np.bool_, len(column))


def values_at(column: Sequence[Any], rows: Ints) -> list[Any]:
    """The values of a column at these rows."""
    return [column[row] for row in rows.tolist()]
