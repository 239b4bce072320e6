"""Values to numbers from 0 on, in order of their first appearance, without Python's objects."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from contracts.feature_schema import ValueType
from dataflows.packed_columns import IntegerColumn, TextColumn
from dataflows.windows.compiled import prefetch

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

NO_NUMBER = -1
_FREE = -1
_ROOM_MIN = 64
# Rows whose places in memory are asked for before their turn.
_AHEAD = 8
# Of a row of a table the number has the lower half, and its value's hash lends the upper one.
_NUMBER_BITS = 32


class Found(NamedTuple):
    """What became of a column.

    Attributes:
        numbers: int64[n], ``NO_NUMBER`` for null.
        new: int64, the rows at which new values stand first, in the order of their numbers.
    """

    numbers: Ints
    new: Ints


class _Table:
    """Open addressing: at a value's hash, or at the first free row behind it, stands its number."""

    def __init__(self) -> None:
        self.count = 0
        # Nobody can choose values whose hashes are alike.
        self._secret = np.uint64(secrets.randbits(64) | 1)
        self._rows = np.full(_ROOM_MIN, _FREE, np.int64)
        self._hashes = np.empty(_ROOM_MIN, np.uint64)

    def make_room(self, more: int) -> None:
        """Room for so many new values; at most half of the rows are taken."""
        wanted = self.count + more
        if wanted > len(self._hashes):
            self._hashes = _grown(self._hashes, self.count, 2 * wanted)
        if 2 * wanted > len(self._rows):
            self._rows = np.full(1 << (2 * wanted).bit_length(), _FREE, np.int64)
            _fill(self._rows, self._hashes[: self.count])


class TextNumbers:
    """Numbers of texts. Not safe for threads."""

    def __init__(self) -> None:
        self._table = _Table()
        self._bytes = np.empty(_ROOM_MIN, np.uint8)
        self._ends = np.zeros(_ROOM_MIN, np.int64)

    def __len__(self) -> int:
        return self._table.count

    def of(self, values: Sequence[str | None]) -> Found:
        """The number of each text; new ones get one."""
        column, table = TextColumn.of(values), self._table
        held = int(self._ends[table.count])
        # Room is made for some at a time: as a rule nearly all are known.
        most = table.count + len(column.sizes)
        table.make_room(len(column.sizes))
        more = held + len(column.data)
        if more > len(self._bytes):
            self._bytes = _grown(self._bytes, held, 2 * more)
        if most >= len(self._ends):
            self._ends = _grown(self._ends, table.count + 1, 2 * (most + 1))
        numbers, new = _find_texts(
            np.frombuffer(column.data or b" ", np.uint8),
            column.begins,
            column.sizes,
            self._bytes,
            self._ends,
            table._rows,
            table._hashes,
            table._secret,
            table.count,
        )
        table.count += len(new)
        return Found(numbers, new)


class IntegerNumbers:
    """Numbers of integers. Not safe for threads."""

    def __init__(self) -> None:
        self._table = _Table()
        self._values = np.empty(_ROOM_MIN, np.int64)

    def __len__(self) -> int:
        return self._table.count

    def of(self, values: Sequence[int | None]) -> Found:
        """The number of each integer; new ones get one."""
        return self.find(IntegerColumn.of(values))

    def find(self, column: IntegerColumn) -> Found:
        """``of`` a column that is an array already."""
        table, more = self._table, len(column.integers)
        table.make_room(more)
        if table.count + more > len(self._values):
            self._values = _grown(self._values, table.count, 2 * (table.count + more))
        numbers, new = _find_integers(
            column.integers,
            column.is_there,
            self._values,
            table._rows,
            table._hashes,
            table._secret,
            table.count,
        )
        table.count += len(new)
        return Found(numbers, new)


class KeyNumbers:
    """Numbers of keys, which have one or several parts. Not safe for threads."""

    def __init__(self, types: Sequence[ValueType]) -> None:
        self._parts = [IntegerNumbers() if kind == "int64" else TextNumbers() for kind in types]
        # Numbers of what the parts up to one make together.
        self._pairs = [IntegerNumbers() for _ in types[1:]]

    def __len__(self) -> int:
        return max(map(len, (*self._parts, *self._pairs)))

    def of(self, columns: Sequence[Any]) -> Found:
        """The number of each key; one of which a part is null has none."""
        parts = [one.of(column) for one, column in zip(self._parts, columns, strict=True)]
        found = parts[0]
        for pairs, part in zip(self._pairs, parts[1:], strict=True):
            is_there = (found.numbers >= 0) & (part.numbers >= 0)
            both = (found.numbers << _NUMBER_BITS) | part.numbers
            found = pairs.find(IntegerColumn(both, is_there))
        return found


def _grown(array: Any, used: int, room: int) -> Any:
    grown = np.zeros(room, array.dtype)
    grown[:used] = array[:used]
    return grown


@numba.njit(cache=True, nogil=True, inline="always")
def _mixed(word: Any, secret: Any) -> Any:
    word *= secret
    word ^= word >> np.uint64(32)
    word *= np.uint64(0x9E3779B97F4A7C15)
    return word ^ (word >> np.uint64(29))


@numba.njit(cache=True, nogil=True, inline="always")
def _entry(hashed: Any, number: int) -> Any:
    """A table's row: never negative."""
    return np.int64((hashed >> np.uint64(33)) << np.uint64(32)) | number


@numba.njit(cache=True, nogil=True)
def _fill(rows: Ints, hashes: Words) -> None:
    """Put values with these hashes into an empty table."""
    last = np.uint64(rows.shape[0] - 1)
    for number in range(hashes.shape[0]):
        row = hashes[number] & last
        while rows[row] != _FREE:
            row = (row + np.uint64(1)) & last
        rows[row] = _entry(hashes[number], number)


@numba.njit(cache=True, nogil=True, inline="always")
def _hash_of(data: Bytes, begin: int, end: int, secret: Any) -> Any:
    hashed = secret ^ np.uint64(end - begin)
    while begin + 8 <= end:
        word = np.uint64(0)
        for place in range(8):
            word |= np.uint64(data[begin + place]) << np.uint64(8 * place)
        hashed = _mixed(hashed ^ word, secret)
        begin += 8
    word = np.uint64(0)
    for place in range(end - begin):
        word |= np.uint64(data[begin + place]) << np.uint64(8 * place)
    return _mixed(hashed ^ word, secret)


@numba.njit(cache=True, nogil=True, inline="always")
def _fetch_ahead(i: int, hashed_of: Words, rows: Ints, ends: Ints, count: int) -> None:
    """Memory that the texts after this one are going to need, see ``windows/ahead.py``."""
    last = np.uint64(rows.shape[0] - 1)
    if i + 2 * _AHEAD < hashed_of.shape[0]:
        prefetch(rows, int(hashed_of[i + 2 * _AHEAD] & last))
    if i + _AHEAD < hashed_of.shape[0]:
        likely = int(rows[hashed_of[i + _AHEAD] & last] & 0xFFFFFFFF)
        if likely < count:
            prefetch(ends, likely)


@numba.njit(cache=True, nogil=True)
def _find_texts(
    data: Bytes, begins: Ints, sizes: Ints, held: Bytes, ends: Ints, rows: Ints, hashes: Words,
    secret: Any, count: int,
) -> tuple[Ints, Ints]:  # fmt: skip
    """``Found`` of texts; the first ``count`` numbers are taken, and there is room for all."""
    numbers = np.empty(begins.shape[0], np.int64)
    new = np.empty(begins.shape[0], np.int64)
    first, last = count, np.uint64(rows.shape[0] - 1)
    hashed_of = np.empty(begins.shape[0], np.uint64)
    for i in range(begins.shape[0]):
        hashed_of[i] = _hash_of(data, begins[i], begins[i] + max(sizes[i], 0), secret)
    for i in range(begins.shape[0]):
        _fetch_ahead(i, hashed_of, rows, ends, count)
        size, begin = sizes[i], begins[i]
        if size < 0:
            numbers[i] = NO_NUMBER
            continue
        hashed = hashed_of[i]
        row = hashed & last
        wanted = _entry(hashed, 0) >> _NUMBER_BITS
        number = -1
        while rows[row] != _FREE:
            if rows[row] >> _NUMBER_BITS == wanted:
                candidate = rows[row] & 0xFFFFFFFF
                at = ends[candidate]
                is_same = ends[candidate + 1] - at == size
                for place in range(size if is_same else 0):
                    if held[at + place] != data[begin + place]:
                        is_same = False
                        break
                if is_same:
                    number = candidate
                    break
            row = (row + np.uint64(1)) & last
        if number < 0:
            number = count
            count += 1
            rows[row], hashes[number] = _entry(hashed, number), hashed
            for place in range(size):
                held[ends[number] + place] = data[begin + place]
            ends[number + 1] = ends[number] + size
            new[number - first] = i
        numbers[i] = number
    return numbers, new[: count - first].copy()


@numba.njit(cache=True, nogil=True)
def _find_integers(
    integers: Ints, is_there: Any, values: Ints, rows: Ints, hashes: Words, secret: Any, count: int
) -> tuple[Ints, Ints]:
    """``Found`` of integers, as ``_find_texts``."""
    numbers = np.empty(integers.shape[0], np.int64)
    new = np.empty(integers.shape[0], np.int64)
    first, last = count, np.uint64(rows.shape[0] - 1)
    for i in range(integers.shape[0]):
        if not is_there[i]:
            numbers[i] = NO_NUMBER
            continue
        hashed = _mixed(np.uint64(integers[i]) ^ (secret >> np.uint64(1)), secret)
        row = hashed & last
        number = -1
        while rows[row] != _FREE:
            candidate = rows[row] & 0xFFFFFFFF
            if values[candidate] == integers[i]:
                number = candidate
                break
            row = (row + np.uint64(1)) & last
        if number < 0:
            number = count
            count += 1
            rows[row], hashes[number], values[number] = _entry(hashed, number), hashed, integers[i]
            new[number - first] = i
        numbers[i] = number
    return numbers, new[: count - first].copy()
