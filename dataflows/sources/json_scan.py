"""Plain JSON objects, read straight into columns by a loop that numba compiles.

Plain is what nearly all records are: the fields that are wanted stand there once, with texts that
have no escapes and numbers of common size. Of any other record, good or bad, only that is said: it
is left to a decoder that knows all of JSON, and the reasons.
What is taken here is what that decoder would take, to the last bit.

Every read is checked against the record's end, and what nobody wants is walked through with a stack
of bits: no bytes can make it read astray or run on.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

TEXT, INTEGER, DOUBLE, BOOLEAN = range(4)
# Instead of a position behind something: it is not plain.
_NOT = -1
# Of ``Cells.sizes``.
DONE, IS_NULL = 0, -1
# Of texts, when all of a chunk is UTF-8 and when not.
ANY_BYTE, ASCII_BYTE = 0xFF, 0x7F

_DEPTH_MAX = 60
_INTEGER_DIGITS_MAX = 18
_LONG_DIGITS_MAX = 40
_LONG_EXPONENT_MAX = 200
_EXPONENT_DIGITS_MAX = 4
# Up to here a quotient or product of two doubles is the one that is nearest to what is written.
_EXACT_MAX = 2**53
_POWERS = np.array([float(10**i) for i in range(23)])
_TAB, _NEWLINE, _RETURN, _SPACE, _QUOTE, _PLUS, _COMMA, _MINUS, _DOT = b'\t\n\r "+,-.'
_ZERO, _NINE, _COLON, _ESCAPE, _N = b"09:\\n"
_OPEN, _CLOSE, _OPEN_LIST, _CLOSE_LIST = b"{}[]"
_ESCAPED = tuple(b'"\\/bfnrt')
_E = tuple(b"eE")
_NULL, _TRUE, _FALSE = (np.frombuffer(word, np.uint8) for word in (b"null", b"true", b"false"))


class Fields(NamedTuple):
    """What is wanted of each object.

    Attributes:
        names: uint8, the fields' names one behind the other.
        ends: int64[k + 1], where they begin and end.
        kinds: int64[k], ``TEXT`` to ``BOOLEAN``.
        is_nullable: bool[k].
    """

    names: Bytes
    ends: Ints
    kinds: Ints
    is_nullable: Bools


class Cells(NamedTuple):
    """What was read; ``ints`` and ``doubles`` are two views of one memory.

    Attributes:
        ints: int64[k, n]: where a text begins, or the integer.
        doubles: float64[k, n]: numbers and booleans, NaN for null.
        sizes: int64[k, n]: the size of a text, ``IS_NULL`` for null, else ``DONE``; of a number of
            many digits the size of what ``ints`` has the place of, which is still to be read.
    """

    ints: Ints
    doubles: Floats
    sizes: Ints


@numba.njit(cache=True, nogil=True, forceinline=True)
def _behind_space(data: Bytes, at: int, end: int) -> int:
    while at < end and data[at] <= _SPACE:
        byte = data[at]
        if byte not in (_SPACE, _TAB, _NEWLINE, _RETURN):
            break
        at += 1
    return at


@numba.njit(cache=True, nogil=True, forceinline=True)
def _plain_end(data: Bytes, at: int, end: int, highest: int) -> int:
    """Where the text that begins here ends: at its closing quote."""
    while at < end:
        byte = data[at]
        if byte == _QUOTE:
            return at
        if byte < _SPACE or byte == _ESCAPE or byte > highest:
            return _NOT
        at += 1
    return _NOT


@numba.njit(cache=True, nogil=True)
def _any_end(data: Bytes, at: int, end: int, highest: int) -> int:
    """As ``_plain_end`` of a text that nobody wants, which may have escapes of one character."""
    while at < end:
        byte = data[at]
        if byte == _QUOTE:
            return at
        if byte < _SPACE or byte > highest:
            return _NOT
        if byte == _ESCAPE:
            at += 1
            if at >= end or data[at] not in _ESCAPED:
                return _NOT
        at += 1
    return _NOT


@numba.njit(cache=True, nogil=True, forceinline=True)
def _behind_colon(data: Bytes, at: int, end: int) -> int:
    """From behind a key to its value."""
    at = _behind_space(data, at, end)
    if at >= end or data[at] != _COLON:
        return _NOT
    at = _behind_space(data, at + 1, end)
    return at if at < end else _NOT


@numba.njit(cache=True, nogil=True)
def _behind_key(data: Bytes, at: int, end: int, highest: int) -> int:
    """From a key that nobody wants to its value."""
    if at >= end or data[at] != _QUOTE:
        return _NOT
    close = _any_end(data, at + 1, end, highest)
    return _NOT if close < 0 else _behind_colon(data, close + 1, end)


@numba.njit(cache=True, nogil=True)
def _behind_word(data: Bytes, at: int, end: int) -> Any:
    for word in (_NULL, _TRUE, _FALSE):
        if end - at < word.shape[0] or data[at] != word[0]:
            continue
        for place in range(word.shape[0]):
            if data[at + place] != word[place]:
                return _NOT
        return at + word.shape[0]
    return _NOT


@numba.njit(cache=True, nogil=True, forceinline=True)
def _digits(data: Bytes, at: int, end: int, value: Any, count: int) -> tuple[int, Any, int]:
    """(Position behind digits, ``value`` with them behind it, ``count`` and how many they are).

    Of more digits than an integer can hold, the value says nothing.
    """
    while at < end and _ZERO <= data[at] <= _NINE:
        if count < _INTEGER_DIGITS_MAX:
            value = value * 10 + (np.int64(data[at]) - _ZERO)
        count += 1
        at += 1
    return at, value, count


@numba.njit(cache=True, nogil=True)
def _number(data: Bytes, at: int, end: int) -> tuple[int, Any, int, Any, bool]:
    """(Position behind it, its digits as an integer, how many, exponent, whether it is whole)."""
    nothing, exponent = np.int64(0), np.int64(0)
    begin = at + 1 if data[at] == _MINUS else at
    at, mantissa, count = _digits(data, begin, end, nothing, 0)
    if count == 0 or (count > 1 and data[begin] == _ZERO):
        return _NOT, nothing, 0, exponent, False
    is_whole = True
    if at < end and data[at] == _DOT:
        is_whole = False
        first = count
        at, mantissa, count = _digits(data, at + 1, end, mantissa, count)
        exponent = np.int64(first - count)
        if first == count:
            return _NOT, nothing, 0, exponent, False
    if at < end and data[at] in _E:
        is_whole = False
        is_down = at + 1 < end and data[at + 1] == _MINUS
        has_sign = is_down or (at + 1 < end and data[at + 1] == _PLUS)
        at, power, digits = _digits(data, at + (2 if has_sign else 1), end, nothing, 0)
        if digits == 0 or digits > _EXPONENT_DIGITS_MAX:
            return _NOT, nothing, 0, exponent, False
        exponent += -power if is_down else power
    return at, mantissa, count, exponent, is_whole


@numba.njit(cache=True, nogil=True)
def _behind_leaf(data: Bytes, at: int, end: int, highest: int) -> Any:
    """The position behind a value that has no others in it."""
    byte = data[at]
    if byte == _QUOTE:
        close = _any_end(data, at + 1, end, highest)
        return close + 1 if close >= 0 else _NOT
    if byte == _MINUS or _ZERO <= byte <= _NINE:
        return _number(data, at, end)[0]
    return _behind_word(data, at, end)


@numba.njit(cache=True, nogil=True)
def _next_value(data: Bytes, at: int, end: int, highest: int, levels: Any) -> int:
    """To the value that stands here, behind its key if the innermost level is an object."""
    at = _behind_space(data, at, end)
    if levels & np.uint64(1):
        at = _behind_key(data, at, end, highest)
    return at if 0 <= at < end else _NOT


@numba.njit(cache=True, nogil=True)
def _skip(data: Bytes, at: int, end: int, highest: int) -> int:
    """The position behind a value that nobody wants; there is a byte of it at least."""
    # Of each level a bit, the innermost lowest: 1 for an object.
    levels, depth = np.uint64(0), 0
    while True:
        byte = data[at]
        if byte in (_OPEN, _OPEN_LIST):
            levels, depth = levels << np.uint64(1) | np.uint64(byte == _OPEN), depth + 1
            at = _behind_space(data, at + 1, end)
            if at >= end or depth > _DEPTH_MAX:
                return _NOT
            if data[at] not in (_CLOSE, _CLOSE_LIST):
                at = _next_value(data, at, end, highest, levels)
                if at < 0:
                    return _NOT
                continue
        else:
            at = _behind_leaf(data, at, end, highest)
        at, levels, depth = _behind_ends(data, at, end, levels, depth)
        if at < 0 or depth == 0:
            return at
        at = _next_value(data, at + 1, end, highest, levels)
        if at < 0:
            return _NOT


@numba.njit(cache=True, nogil=True)
def _behind_ends(data: Bytes, at: int, end: int, levels: Any, depth: int) -> tuple[int, Any, int]:
    """Leave the levels that end here: (position of a comma or behind the last, levels, depth)."""
    while at >= 0 and depth > 0:
        at = _behind_space(data, at, end)
        if at >= end:
            return _NOT, levels, depth
        if data[at] == _COMMA:
            return at, levels, depth
        if data[at] != (_CLOSE if levels & np.uint64(1) else _CLOSE_LIST):
            return _NOT, levels, depth
        levels, depth, at = levels >> np.uint64(1), depth - 1, at + 1
    return at, levels, depth


@numba.njit(cache=True, nogil=True, forceinline=True)
def _double(data: Bytes, at: int, end: int, field: int, row: int, cells: Cells) -> int:
    begin = at
    at, mantissa, digits, exponent, is_whole = _number(data, at, end)
    if at < 0:
        return _NOT
    is_negative = data[begin] == _MINUS
    is_exact = digits <= _INTEGER_DIGITS_MAX and mantissa <= _EXACT_MAX
    if is_whole and (not is_exact or (is_negative and mantissa == 0)):
        return _NOT
    if is_exact and abs(exponent) < _POWERS.shape[0]:
        value = np.float64(mantissa)
        value = value / _POWERS[-exponent] if exponent < 0 else value * _POWERS[exponent]
        cells.doubles[field, row] = -value if is_negative else value
        cells.sizes[field, row] = DONE
        return at
    if digits > _LONG_DIGITS_MAX or abs(exponent) > _LONG_EXPONENT_MAX:
        return _NOT
    cells.ints[field, row] = begin
    cells.sizes[field, row] = at - begin
    return at


@numba.njit(cache=True, nogil=True, forceinline=True)
def _value(
    data: Bytes, at: int, end: int, highest: int, field: int, row: int, fields: Fields, cells: Cells
) -> Any:  # fmt: skip
    """The position behind a value that is wanted; there is a byte of it at least."""
    kind, byte = fields.kinds[field], data[at]
    if byte == _N:
        return _behind_word(data, at, end) if _put_null(field, row, fields, cells) else _NOT
    if kind == TEXT:
        close = _plain_end(data, at + 1, end, highest) if byte == _QUOTE else _NOT
        cells.ints[field, row], cells.sizes[field, row] = at + 1, close - at - 1
        return close + 1 if close >= 0 else _NOT
    if kind == BOOLEAN:
        behind = _behind_word(data, at, end)
        cells.doubles[field, row], cells.sizes[field, row] = np.float64(behind == at + 4), DONE
        return behind
    if byte != _MINUS and not _ZERO <= byte <= _NINE:
        return _NOT
    if kind == DOUBLE:
        return _double(data, at, end, field, row, cells)
    behind, integer, digits, _, is_whole = _number(data, at, end)
    if behind < 0 or not is_whole or digits > _INTEGER_DIGITS_MAX:
        return _NOT
    cells.ints[field, row] = -integer if byte == _MINUS else integer
    cells.sizes[field, row] = DONE
    return behind


@numba.njit(cache=True, nogil=True, forceinline=True)
def _put_null(field: int, row: int, fields: Fields, cells: Cells) -> bool:
    """Whether it may be."""
    cells.sizes[field, row] = IS_NULL
    if fields.kinds[field] in (TEXT, INTEGER):
        cells.ints[field, row] = 0
    else:
        cells.doubles[field, row] = np.nan
    return bool(fields.is_nullable[field])


@numba.njit(cache=True, nogil=True, forceinline=True)
def _field(data: Bytes, begin: int, close: int, expected: int, fields: Fields) -> int:
    """The field of the name that stands here; -1 for one that nobody wants."""
    count = fields.kinds.shape[0]
    # Producers write the fields in one order.
    for place in range(count):
        field = expected + place if expected + place < count else expected + place - count
        first = fields.ends[field]
        size = fields.ends[field + 1] - first
        if close - begin != size:
            continue
        same = 0
        while same < size and data[begin + same] == fields.names[first + same]:
            same += 1
        if same == size:
            return field
    return -1


@numba.njit(cache=True, nogil=True, forceinline=True)
def _members(
    data: Bytes, at: int, end: int, highest: int, row: int, fields: Fields, seen: Ints, cells: Cells
) -> int:  # fmt: skip
    """From an object's bracket to that which closes it."""
    expected = 0
    while True:
        begin = _behind_space(data, at + 1, end) + 1
        if begin > end or data[begin - 1] != _QUOTE:
            return _NOT
        close = _plain_end(data, begin, end, highest)
        at = _behind_colon(data, close + 1, end) if close >= 0 else _NOT
        if at < 0:
            return _NOT
        field = _field(data, begin, close, expected, fields)
        if field < 0:
            at = _skip(data, at, end, highest)
        elif seen[field] == row:
            return _NOT
        else:
            seen[field], expected = row, field + 1
            at = _value(data, at, end, highest, field, row, fields, cells)
        if at < 0:
            return _NOT
        at = _behind_space(data, at, end)
        if at >= end or data[at] != _COMMA:
            return at if at < end and data[at] == _CLOSE else _NOT


@numba.njit(cache=True, nogil=True, forceinline=True)
def _object(
    data: Bytes, at: int, end: int, highest: int, row: int, fields: Fields, seen: Ints, cells: Cells
) -> bool:  # fmt: skip
    """Read a record into its row; whether it is plain."""
    at = _behind_space(data, at, end)
    if at >= end or data[at] != _OPEN:
        return False
    at = _members(data, at, end, highest, row, fields, seen, cells)
    if at < 0 or _behind_space(data, at + 1, end) != end:
        return False
    for field in range(fields.kinds.shape[0]):
        if seen[field] != row and not _put_null(field, row, fields, cells):
            return False
    return True


@numba.njit(cache=True, nogil=True)
def read_objects(
    data: Bytes, starts: Ints, ends: Ints, highest: int, fields: Fields, cells: Cells
) -> Bools:
    """Read records into cells; bool[n] which of them are plain, of others cells say nothing.

    Args:
        data: memory in which all records lie.
        starts: int64[n], where each begins.
        ends: int64[n], where each ends.
        highest: ``ANY_BYTE`` if all of it is UTF-8, else ``ASCII_BYTE``.
        fields: what is wanted.
        cells: with room for all of it.
    """
    is_plain = np.empty(starts.shape[0], np.bool_)
    seen = np.full(fields.kinds.shape[0], -1)
    for row in range(starts.shape[0]):
        is_plain[row] = _object(data, starts[row], ends[row], highest, row, fields, seen, cells)
    return is_plain
