"""Compiled code that puts rows down in Redis' protocol."""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

_Bytes = npt.NDArray[np.uint8]
_Ints = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]

FLOAT64, INT64, BOOL, STRING = range(4)


class Parts(NamedTuple):
    """The constant bytes, for compiled code; ``fields`` is uint8[F, 10], ``kinds`` int64[F]."""

    project: _Bytes
    head: _Bytes
    stamp_field: _Bytes
    expire: _Bytes
    seconds: _Bytes
    fields: _Bytes
    kinds: _Ints


class Strings(NamedTuple):
    """k strings as Feast's values: the i-th is ``data[starts[i] : starts[i + 1]]``."""

    data: _Bytes
    starts: _Ints


@numba.njit(cache=True)
def _put(out: _Bytes, at: int, text: _Bytes) -> int:
    for i in range(len(text)):
        out[at + i] = text[i]
    return at + len(text)


@numba.njit(cache=True)
def _put_length(out: _Bytes, at: int, number: int) -> int:
    """``$number`` and the end of the line; returns the place behind it, as all of these do."""
    out[at] = 36
    at += 1
    digits = 1
    rest = number // 10
    while rest > 0:
        digits += 1
        rest //= 10
    for i in range(digits - 1, -1, -1):
        out[at + i] = 48 + number % 10
        number //= 10
    out[at + digits] = 13
    out[at + digits + 1] = 10
    return at + digits + 2


@numba.njit(cache=True)
def _put_varint(out: _Bytes, at: int, number: np.uint64) -> int:
    while number > np.uint64(0x7F):
        out[at] = np.uint8(number & np.uint64(0x7F)) | np.uint8(0x80)
        number = number >> np.uint64(7)
        at += 1
    out[at] = np.uint8(number)
    return at + 1


@numba.njit(cache=True)
def _varint_length(number: np.uint64) -> int:
    length = 1
    while number > np.uint64(0x7F):
        number = number >> np.uint64(7)
        length += 1
    return length


@numba.njit(cache=True)
def _end(out: _Bytes, at: int) -> int:
    out[at] = 13
    out[at + 1] = 10
    return at + 2


@numba.njit(cache=True)
def _put_key(out: _Bytes, at: int, key: _Bytes, project: _Bytes) -> int:
    at = _put_length(out, at, len(key) + len(project))
    at = _put(out, at, key)
    at = _put(out, at, project)
    return _end(out, at)


@numba.njit(cache=True)
def _put_stamp(out: _Bytes, at: int, stamp_us: int) -> int:
    """``google.protobuf.Timestamp``: seconds and nanoseconds, a zero left out."""
    seconds = np.uint64(stamp_us // 1_000_000)
    nanos = np.uint64(stamp_us % 1_000_000 * 1000)
    length = 0
    if seconds:
        length += 1 + _varint_length(seconds)
    if nanos:
        length += 1 + _varint_length(nanos)
    at = _put_length(out, at, length)
    if seconds:
        out[at] = 0x08
        at = _put_varint(out, at + 1, seconds)
    if nanos:
        out[at] = 0x10
        at = _put_varint(out, at + 1, nanos)
    return _end(out, at)


@numba.njit(cache=True)
def _put_value(out: _Bytes, at: int, kind: int, value: float, raw: _Bytes) -> int:
    """``feast.types.Value`` of a number; ``raw`` is the eight bytes of the double ``value``."""
    if np.isnan(value):
        at = _put_length(out, at, 0)
    elif kind == FLOAT64:
        at = _put_length(out, at, 9)
        out[at] = 0x29
        at = _put(out, at + 1, raw)
    elif kind == INT64:
        number = np.uint64(np.int64(value))
        at = _put_length(out, at, 1 + _varint_length(number))
        out[at] = 0x20
        at = _put_varint(out, at + 1, number)
    else:
        at = _put_length(out, at, 2)
        out[at] = 0x38
        out[at + 1] = 1 if value != 0 else 0
        at += 2
    return _end(out, at)


@numba.njit(cache=True)
def _put_text(out: _Bytes, at: int, data: _Bytes, starts: _Ints, place: int) -> int:
    """The ``place``-th of some strings, as ``Strings`` has them."""
    at = _put_length(out, at, starts[place + 1] - starts[place])
    at = _put(out, at, data[starts[place] : starts[place + 1]])
    return _end(out, at)


@numba.njit(cache=True)
def put_rows(
    out: _Bytes,
    key_bytes: _Bytes,
    key_lengths: _Ints,
    stamps_us: _Ints,
    values: _Floats,
    raw: _Bytes,
    strings: Strings,
    parts: Parts,
) -> int:
    """Fill ``out`` with the commands of some rows and return how much of it is used.

    Args:
        out: long enough for all of it.
        key_bytes: all entity keys in a row.
        key_lengths: int64[n], how long each is.
        stamps_us: int64[n], microseconds since 1970 UTC.
        values: float64[n, F]; NaN is null.
        raw: uint8[n, 8 F], the bytes of ``values``.
        strings: what the values of text features are places in.
        parts: what all rows share.
    """
    project, head, stamp_field, expire, seconds, fields, kinds = parts
    data, starts = strings
    at = 0
    start = 0
    for row in range(len(key_lengths)):
        key = key_bytes[start : start + key_lengths[row]]
        start += key_lengths[row]
        at = _put(out, at, head)
        at = _put_key(out, at, key, project)
        at = _put(out, at, stamp_field)
        at = _put_stamp(out, at, stamps_us[row])
        for place in range(len(kinds)):
            at = _put(out, at, fields[place])
            cell = raw[row, 8 * place : 8 * place + 8]
            if kinds[place] == STRING and not np.isnan(values[row, place]):
                at = _put_text(out, at, data, starts, int(values[row, place]))
            else:
                at = _put_value(out, at, kinds[place], values[row, place], cell)
        if len(expire) > 0:
            at = _put(out, at, expire)
            at = _put_key(out, at, key, project)
            at = _put(out, at, seconds)
    return at
