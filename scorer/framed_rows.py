"""Replies of Redis taken apart without an object for each value: rows of doubles, or no rows.

A value of Feast's that is a double is nine bytes, so that with RESP's frame around it a row of them
is as long as many others: it is cut out as one piece, and its frames are compared with what they
have to be for many rows at one time. What is anything else is not for here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final, overload

import numpy as np
from numpy.typing import NDArray

from contracts.feast_bytes import TAG_FLOAT64

_CELL = np.dtype([("length", "<u4"), ("tag", "u1"), ("value", "<f8"), ("end", "<u2")])
CELL_BYTES: Final = _CELL.itemsize
_LENGTH = int.from_bytes(b"$9\r\n", "little")
_VALUE_FROM, _VALUE_TO = 4, 13
_NULL = b"$-1\r\n"
_END = b"\r\n"
_BEGIN = b"$9\r\n" + bytes([TAG_FLOAT64])


class FramedDoubles(Sequence[bytes | None]):
    """The cells of a row, each a double, still in the frames in which they came.

    Attributes:
        framed: ``CELL_BYTES`` for each cell.
    """

    __slots__ = ("framed",)

    def __init__(self, framed: bytes) -> None:
        """``framed`` is checked already."""
        self.framed = framed

    def __len__(self) -> int:
        """Number of cells."""
        return len(self.framed) // CELL_BYTES

    @overload
    def __getitem__(self, place: int) -> bytes: ...

    @overload
    def __getitem__(self, place: slice) -> list[bytes | None]: ...

    def __getitem__(self, place: int | slice) -> bytes | list[bytes | None]:
        """Cells as they are stored."""
        if isinstance(place, slice):
            return list(self)[place]
        start = range(0, len(self.framed), CELL_BYTES)[place]
        return self.framed[start + _VALUE_FROM : start + _VALUE_TO]

    def __iter__(self) -> Iterator[bytes]:
        """The cells in order."""
        framed = self.framed
        for start in range(0, len(framed), CELL_BYTES):
            yield framed[start + _VALUE_FROM : start + _VALUE_TO]


# Event time as it is stored, and the cells behind it; None and None where there is no row.
FramedRow = tuple[bytes, FramedDoubles] | tuple[None, None]


class FramedReply:
    """What Redis answers to a read of many rows, taken as it comes.

    Attributes:
        rows: those that have come, in order.
        is_done: whether all of the reply has come.
        is_odd: whether there was something else: the reply has to be read in another way then.
    """

    def __init__(self, before: bytes, counts: Sequence[int], after: bytes) -> None:
        """Nothing has come yet.

        Args:
            before: what comes before the first row.
            counts: number of values of each row, its event time among them.
            after: what comes after the last row.
        """
        self.rows: list[FramedRow] = []
        self.is_done = self.is_odd = False
        self._before = before
        self._counts = counts
        self._after = after
        self._came: list[bytes] = []
        self._rest = b""

    @property
    def came(self) -> bytes:
        """All that was fed so far."""
        return b"".join(self._came)

    def feed(self, data: bytes) -> bytes:
        """Take what has come, and give back what follows the reply; nothing before it is done."""
        self._came.append(data)
        data = self._rest + data if self._rest else data
        place = 0
        if self._before:
            place = self._matched(data, 0, self._before)
            if not place:
                self._rest = data
                return b""
            self._before = b""
        place = self._take(data, place)
        if len(self.rows) == len(self._counts) and not self.is_odd:
            end = self._matched(data, place, self._after)
            if end:
                self.is_done = True
                return data[end:]
        self._rest = data[place:]
        return b""

    def _matched(self, data: bytes, place: int, expected: bytes) -> int:
        """Where the data goes on behind what is expected; 0 if it is not all there."""
        if data.startswith(expected, place):
            return place + len(expected)
        if not expected.startswith(data[place : place + len(expected)]):
            self.is_odd = True
        return 0

    def _take(self, data: bytes, place: int) -> int:
        """Cut out the rows that are all there; where the next one begins."""
        size = len(data)
        pieces: list[bytes] = []
        for count in self._counts[len(self.rows) :]:
            head, cells_bytes, nothing = _frame(count)
            length_from = place + len(head)
            length_to = data.find(_END, length_from, length_from + 4)
            if length_to < 0 or not data.startswith(head, place):
                if length_from + 4 <= size or not head.startswith(data[place:length_from]):
                    self.is_odd = True
                break
            length = data[length_from:length_to]
            if not length.isdigit():
                place = self._matched(data, place, nothing) or place
                if place <= length_to:
                    break
                self.rows.append((None, None))
                continue
            cells_from = length_to + 4 + int(length)
            cells_to = cells_from + cells_bytes
            piece = data[cells_from:cells_to]
            if cells_to > size:
                # A shorter reply would be waited for in vain.
                self.is_odd = self.is_odd or not _begin_doubles(piece)
                break
            pieces.append(piece)
            self.rows.append((data[length_to + 2 : cells_from - 2], FramedDoubles(piece)))
            place = cells_to
        if not _are_doubles(pieces):
            self.is_odd = True
        return place


@lru_cache(maxsize=256)
def _frame(count: int) -> tuple[bytes, int, bytes]:
    """Of a row of so many values: how it begins, bytes of its cells, and all of it if it is not."""
    head = b"*%d\r\n$" % count
    return head, (count - 1) * CELL_BYTES, head[:-1] + count * _NULL


def _begin_doubles(part: bytes) -> bool:
    """Whether cells of which the last ones have not come yet are doubles as far as they have."""
    return all(
        _BEGIN.startswith(part[start : start + len(_BEGIN)])
        for start in range(0, len(part), CELL_BYTES)
    )


def _are_doubles(pieces: Sequence[bytes]) -> bool:
    if not pieces:
        return True
    cells = np.frombuffer(b"".join(pieces), _CELL)
    return bool((cells["length"] == _LENGTH).all() and (cells["tag"] == TAG_FLOAT64).all())


def doubles_in(rows: Sequence[FramedDoubles]) -> NDArray[np.float64]:
    """The values of all cells of these rows, float64, one row after the other."""
    found: NDArray[np.float64] = np.frombuffer(b"".join([row.framed for row in rows]), _CELL)[
        "value"
    ]
    return found
