"""Plain times of RFC 3339 in memory, read by a loop that numba compiles.

Plain are those from 1970 to 2099 with a zone and no more than microseconds. Others may be times
too: that is for those to say who know all of them.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]

NOT_PLAIN = -1
_FIRST_YEAR, _LAST_YEAR = 1970, 2099
_SECOND_US = 1_000_000
_END_US = 4_102_444_800 * _SECOND_US
_CHARACTERS_MIN = len("1970-01-01T00:00:00Z")
_SPACE, _PLUS, _MINUS, _DOT, _ZERO, _NINE, _COLON, _T, _Z = b" +-.09:TZ"
_DAYS_OF_MONTHS = np.array([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
_DAYS_BEFORE_MONTHS = np.cumsum(_DAYS_OF_MONTHS) - _DAYS_OF_MONTHS


@numba.njit(cache=True, nogil=True)
def times_us(data: Bytes, begins: Ints, sizes: Ints) -> Ints:
    """int64[n]: microseconds since 1970 UTC of texts in ``data``; ``NOT_PLAIN`` for all else."""
    found = np.empty(begins.shape[0], np.int64)
    for row in range(begins.shape[0]):
        found[row] = _time(data, begins[row], begins[row] + sizes[row])
    return found


@numba.njit(cache=True, nogil=True, inline="always")
def _two_digits(data: Bytes, at: int) -> Any:
    tens, ones = np.int64(data[at]) - _ZERO, np.int64(data[at + 1]) - _ZERO
    return tens * 10 + ones if 0 <= tens <= 9 and 0 <= ones <= 9 else NOT_PLAIN


@numba.njit(cache=True, nogil=True)
def _date(data: Bytes, at: int) -> Any:
    """Days from 1970-01-01 to the day that stands here; negative for what is not plain."""
    century, rest = _two_digits(data, at), _two_digits(data, at + 2)
    month, day = _two_digits(data, at + 5), _two_digits(data, at + 8)
    if century < 0 or rest < 0 or data[at + 4] != _MINUS or data[at + 7] != _MINUS:
        return NOT_PLAIN
    year = 100 * century + rest
    if year < _FIRST_YEAR or year > _LAST_YEAR or month < 1 or month > 12 or day < 1:
        return NOT_PLAIN
    # Of the years here, 2000 is a leap year.
    is_leap = year % 4 == 0
    if day > _DAYS_OF_MONTHS[month - 1] + (is_leap and month == 2):
        return NOT_PLAIN
    days = 365 * (year - 1970) + (year - 1969) // 4 + _DAYS_BEFORE_MONTHS[month - 1] + day - 1
    return days + (is_leap and month > 2)


@numba.njit(cache=True, nogil=True)
def _time(data: Bytes, at: int, close: int) -> Any:
    """The time that ends before ``close``."""
    if close - at < _CHARACTERS_MIN:
        return NOT_PLAIN
    days = _date(data, at)
    hour, minute = _two_digits(data, at + 11), _two_digits(data, at + 14)
    second = _two_digits(data, at + 17)
    if days < 0 or data[at + 10] not in (_T, _SPACE):
        return NOT_PLAIN
    if data[at + 13] != _COLON or data[at + 16] != _COLON:
        return NOT_PLAIN
    if not (0 <= hour <= 23 and 0 <= minute <= 59 and 0 <= second <= 59):
        return NOT_PLAIN
    micros = (((days * 24 + hour) * 60 + minute) * 60 + second) * _SECOND_US
    at += 19
    if data[at] == _DOT:
        at += 1
        first, unit = at, _SECOND_US
        while at < close and _ZERO <= data[at] <= _NINE:
            unit //= 10
            micros += (np.int64(data[at]) - _ZERO) * unit
            at += 1
        if at == first or at > first + 6:
            return NOT_PLAIN
    if close - at == 1 and data[at] == _Z:
        return micros
    if close - at != 6 or data[at] not in (_PLUS, _MINUS) or data[at + 3] != _COLON:
        return NOT_PLAIN
    hour, minute = _two_digits(data, at + 1), _two_digits(data, at + 4)
    if not (0 <= hour <= 23 and 0 <= minute <= 59):
        return NOT_PLAIN
    shift = (hour * 60 + minute) * 60 * _SECOND_US
    micros += -shift if data[at] == _PLUS else shift
    return micros if 0 <= micros < _END_US else NOT_PLAIN
