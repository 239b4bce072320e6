"""Columns of texts and of integers as arrays; Python's objects are made only for who asks."""

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
# With more bytes than that to a text, most of them are not asked for.
_BYTES_OF_A_TEXT_MAX = 1_024


class _Packed:
    """What both have in common: a column is a sequence of values, None for null.

    A row gives its value, a slice a list of values, an array of rows a column of them.
    """

    @cached_property
    def _values(self) -> list[Any]:
        raise NotImplementedError

    def _taken(self, rows: Any) -> Any:
        raise NotImplementedError

    def tolist(self) -> list[Any]:
        """All values, in a new list."""
        return self._values.copy()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)

    def __getitem__(self, rows: Any) -> Any:
        return self._taken(rows) if isinstance(rows, np.ndarray) else self._values[rows]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, _Packed | list):
            return self._values == list(other)
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, eq=False)
class TextColumn(_Packed):
    """Texts that lie somewhere in one piece of memory.

    Attributes:
        data: holds UTF-8 wherever a text is.
        begins: int64[n], where in ``data`` each begins.
        sizes: int64[n], its bytes; ``NULL`` for null.
    """

    data: bytes
    begins: Ints
    sizes: Ints

    @staticmethod
    def of(values: Sequence[str | None] | TextColumn) -> TextColumn:
        """A column of these texts."""
        if isinstance(values, TextColumn):
            return values
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

    @staticmethod
    def join(parts: Sequence[TextColumn]) -> TextColumn:
        """All texts of all parts, in that order."""
        firsts = np.cumsum([0] + [len(part.data) for part in parts[:-1]])
        return TextColumn(
            b"".join(part.data for part in parts),
            np.concatenate([p.begins + first for p, first in zip(parts, firsts, strict=True)]),
            np.concatenate([part.sizes for part in parts]),
        )

    @property
    def is_there(self) -> Bools:
        """bool[n]: which are not null."""
        there: Bools = self.sizes != NULL
        return there

    def __len__(self) -> int:
        return len(self.sizes)

    def _taken(self, rows: Any) -> TextColumn:
        return TextColumn(self.data, self.begins[rows], self.sizes[rows])

    @cached_property
    def _values(self) -> list[Any]:
        ends = self.begins + np.maximum(self.sizes, 0)
        places = zip(self.begins.tolist(), ends.tolist(), strict=True)
        data = self.data
        if len(data) <= _BYTES_OF_A_TEXT_MAX * len(self) and data.isascii():
            text = data.decode("ascii")
            values: list[Any] = [text[begin:end] for begin, end in places]
        else:
            values = [data[begin:end].decode() for begin, end in places]
        for row in np.flatnonzero(self.sizes == NULL).tolist():
            values[row] = None
        return values


@dataclass(frozen=True, eq=False)
class IntegerColumn(_Packed):
    """Integers of 64 bits.

    Attributes:
        integers: int64[n]; 0 where there is none.
        is_there: bool[n]: which are not null.
    """

    integers: Ints
    is_there: Bools

    @staticmethod
    def of(values: Sequence[int | None] | IntegerColumn) -> IntegerColumn:
        """A column of these integers."""
        if isinstance(values, IntegerColumn):
            return values
        array = pa.array(values, pa.int64())
        filled = array.fill_null(0) if array.null_count else array
        return IntegerColumn(np.array(filled, dtype=np.int64), np.array(array.is_valid()))

    @staticmethod
    def join(parts: Sequence[IntegerColumn]) -> IntegerColumn:
        """All integers of all parts, in that order."""
        return IntegerColumn(
            np.concatenate([part.integers for part in parts]),
            np.concatenate([part.is_there for part in parts]),
        )

    def doubles(self) -> npt.NDArray[np.float64]:
        """float64[n]: the nearest doubles, NaN for null."""
        return np.where(self.is_there, self.integers.astype(np.float64), np.nan)

    def __len__(self) -> int:
        return len(self.integers)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:  # noqa: FBT001
        return self.doubles().astype(dtype or np.float64)

    def _taken(self, rows: Any) -> IntegerColumn:
        return IntegerColumn(self.integers[rows], self.is_there[rows])

    @cached_property
    def _values(self) -> list[Any]:
        values: list[Any] = self.integers.tolist()
        for row in np.flatnonzero(~self.is_there).tolist():
            values[row] = None
        return values


def is_there(column: Any) -> Bools:
    """bool[n]: which values of a column of any kind are not null."""
    if isinstance(column, TextColumn | IntegerColumn):
        return column.is_there
    if isinstance(column, np.ndarray):
        return ~np.isnan(column)
    return np.fromiter((value is not None for value in column), np.bool_, len(column))


def values_at(column: Any, rows: Ints) -> list[Any]:
    """The values of a column at these rows."""
    if isinstance(column, list):
        return [column[row] for row in rows.tolist()]
    values: list[Any] = column[rows].tolist()
    return values
