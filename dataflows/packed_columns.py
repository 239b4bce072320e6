"""Columns of texts and of integers as arrays, for compiled loops."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
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
        if isinstance(values, Texts):
            return values.packed
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
        if isinstance(values, Integers):
            return values.packed
        array = pa.array(values, pa.int64())
        filled = array.fill_null(0) if array.null_count else array
        return IntegerColumn(np.array(filled, dtype=np.int64), np.array(array.is_valid()))


class _Unpacked:
    """A column as a sequence of Python's values, which are made once somebody asks for them."""

    @cached_property
    def _values(self) -> list[Any]:
        raise NotImplementedError

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)

    def __getitem__(self, rows: Any) -> Any:
        """A value, or a new list of those of a slice."""
        return self._values[rows]

    def __eq__(self, other: object) -> bool:
        return self._values == (other._values if isinstance(other, _Unpacked) else other)

    __hash__ = None  # type: ignore[assignment]


class Texts(_Unpacked):
    """Texts that lie in one piece of memory, None for null; ``packed`` is them as arrays."""

    def __init__(self, packed: TextColumn) -> None:
        self.packed = packed

    def __len__(self) -> int:
        return len(self.packed.sizes)

    def at(self, rows: Ints) -> list[str | None]:
        """The texts of these rows."""
        data, ends = self.packed.data, self.packed.begins + self.packed.sizes
        places = zip(self.packed.begins[rows].tolist(), ends[rows].tolist(), strict=True)
        return [data[begin:end].decode() if begin <= end else None for begin, end in places]

    @cached_property
    def _values(self) -> list[Any]:
        return self.at(np.arange(len(self)))


class Integers(_Unpacked):
    """Integers, None for null; ``packed`` is them as arrays."""

    def __init__(self, packed: IntegerColumn) -> None:
        self.packed = packed

    def __len__(self) -> int:
        return len(self.packed.integers)

    def at(self, rows: Ints) -> list[int | None]:
        """The integers of these rows."""
        found: list[int | None] = self.packed.integers[rows].tolist()
        for place in np.flatnonzero(~self.packed.is_there[rows]).tolist():
            found[place] = None
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:  # noqa: FBT001
        """The nearest doubles, NaN for null."""
        doubles = self.packed.integers.astype(np.float64)
        doubles[~self.packed.is_there] = np.nan
        return doubles.astype(dtype or np.float64, copy=False)

    @cached_property
    def _values(self) -> list[Any]:
        return self.at(np.arange(len(self)))


def is_there(column: Any) -> Bools:
    """bool[n]: which values of a column of ``Decoded.columns`` are not null."""
    if isinstance(column, Texts | Integers):
        return column.packed.is_there
    if isinstance(column, np.ndarray):
        return ~np.isnan(column)
    return np.fromiter((value is not None for value in column), np.bool_, len(column))


def values_at(column: Sequence[Any], rows: Ints) -> list[Any]:
    """The values of a column at these rows."""
    if isinstance(column, Texts | Integers):
        return column.at(rows)
    return [column[row] for row in rows.tolist()]
