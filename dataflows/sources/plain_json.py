"""Plain JSON objects, read straight into columns by a loop that numba compiles.

Plain is what nearly all records are: flat objects whose fields are wanted stand there once, texts
without escapes, numbers of common size. At the first record that is not, good or bad, the loop
ends: the chunk is left to a decoder that knows all of JSON, and the reasons. What is taken here is
what that decoder would take, to the last bit.

Behind each record stands a newline, at which everything ends that is looked for here: no bytes can
make it read astray.
"""

from __future__ import annotations

import numba
import numpy as np

from dataflows.sources.plain_fields import Bools, Bytes, Cells, Fields, Floats, Ints, Words
from dataflows.words import byte_at, trailing_zeros, word_at

TEXT, INTEGER, DOUBLE, BOOLEAN, TIME = range(5)
# Of ``Cells.sizes``.
DONE, IS_NULL = 0, -1
# A bit for each tells which fields an object has.
FIELDS_MAX = 62

# Instead of a position behind something: it is not plain.
_NOT = -1
_INTEGER_DIGITS_MAX = 18
_LONG_DIGITS_MAX = 40
_LONG_EXPONENT_MAX = 200
_EXPONENT_DIGITS_MAX = 3
# Up to here a quotient or product of two doubles is the one that is nearest to what is written.
_EXACT_MAX = 2**53
_POWERS = np.array([float(10**i) for i in range(23)])
_SPACE, _QUOTE, _PLUS, _COMMA, _MINUS, _DOT, _ZERO, _NINE, _COLON = b' "+,-.09:'
_OPEN, _CLOSE, _E_SMALL, _E_LARGE, _T, _F, _T_LARGE, _Z_LARGE = b"{}eEtfTZ"
_NULL, _TRUE, _FALSE = (np.uint64(int.from_bytes(w, "little")) for w in (b"null", b"true", b"alse"))
_FOUR_BYTES = np.uint64(2**32 - 1)
# The same in each byte of a word.
_ONES = np.uint64(0x0101010101010101)
_HIGHS = np.uint64(0x8080808080808080)
_QUOTES = np.uint64(0x2222222222222222)
_ESCAPES = np.uint64(0x5C5C5C5C5C5C5C5C)
_SPACES = np.uint64(0x2020202020202020)
_FIRST_YEAR, _LAST_YEAR = 1970, 2099
_SECOND_US = 1_000_000
_END_US = 4_102_444_800 * _SECOND_US
_DAYS_OF_MONTHS = np.array([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
_DAYS_BEFORE_MONTHS = np.cumsum(_DAYS_OF_MONTHS) - _DAYS_OF_MONTHS


@numba.njit(cache=True, nogil=True, forceinline=True)
def _text_end(data: Bytes, at: int) -> int:
    """Where the text that goes on here has its closing quote."""
    found = np.uint64(0)
    while True:
        word = word_at(data, at)
        quotes, escapes = word ^ _QUOTES, word ^ _ESCAPES
        # The high bit of a byte is set where one is zero, or below a space; above the first such
        # byte it may be set elsewhere too.
        found = ((quotes - _ONES) & ~quotes) | ((escapes - _ONES) & ~escapes)
        found = (found | ((word - _SPACES) & ~word)) & _HIGHS
        if found:
            break
        at += 8
    at += trailing_zeros(found) >> 3
    return at if byte_at(data, at) == _QUOTE else _NOT


@numba.njit(cache=True, nogil=True, forceinline=True)
def _behind_digits(data: Bytes, at: int, value: int) -> tuple[int, int]:
    """(Position behind digits, ``value`` with them behind it); of too many it says nothing."""
    digit = byte_at(data, at) - _ZERO
    while 0 <= digit <= 9:
        value = value * 10 + digit
        at += 1
        digit = byte_at(data, at) - _ZERO
    return at, value


@numba.njit(cache=True, nogil=True)
def _behind_exponent(data: Bytes, at: int) -> tuple[int, int]:
    """(Position behind it, the exponent), from its letter on."""
    sign = byte_at(data, at + 1)
    begin = at + 2 if sign in (_PLUS, _MINUS) else at + 1
    at, exponent = _behind_digits(data, begin, 0)
    if at == begin or at > begin + _EXPONENT_DIGITS_MAX:
        return _NOT, 0
    return at, -exponent if sign == _MINUS else exponent


@numba.njit(cache=True, nogil=True, forceinline=True)
def _number(data: Bytes, at: int) -> tuple[int, int, int, int, bool]:
    """(Position behind it, its digits as an integer, how many, exponent, whether it is whole)."""
    begin = at
    at, mantissa = _behind_digits(data, at, 0)
    digits = at - begin
    if digits == 0 or (digits > 1 and byte_at(data, begin) == _ZERO):
        return _NOT, 0, 0, 0, False
    exponent, is_whole = 0, True
    if byte_at(data, at) == _DOT:
        is_whole = False
        first = at + 1
        at, mantissa = _behind_digits(data, first, mantissa)
        exponent = first - at
        digits -= exponent
        if exponent == 0:
            return _NOT, 0, 0, 0, False
    if byte_at(data, at) in (_E_SMALL, _E_LARGE):
        is_whole = False
        at, power = _behind_exponent(data, at)
        exponent += power
    return at, mantissa, digits, exponent, is_whole


@numba.njit(cache=True, nogil=True, forceinline=True)
def _double(data: Bytes, at: int) -> tuple[int, float, int]:
    """(Position behind it, the number, 0), or its size if others must find out what it is."""
    begin = at
    is_negative = byte_at(data, at) == _MINUS
    at, mantissa, digits, exponent, is_whole = _number(data, at + is_negative)
    is_exact = digits <= _INTEGER_DIGITS_MAX and mantissa <= _EXACT_MAX
    if at < 0 or (is_whole and (not is_exact or (is_negative and mantissa == 0))):
        return _NOT, 0.0, 0
    if is_exact and abs(exponent) < _POWERS.shape[0]:
        value = np.float64(mantissa)
        value = value / _POWERS[-exponent] if exponent < 0 else value * _POWERS[exponent]
        return at, -value if is_negative else value, 0
    if digits > _LONG_DIGITS_MAX or abs(exponent) > _LONG_EXPONENT_MAX:
        return _NOT, 0.0, 0
    return at, 0.0, at - begin


@numba.njit(cache=True, nogil=True, forceinline=True)
def _integer(data: Bytes, at: int) -> tuple[int, int]:
    """(Position behind it, the integer)."""
    is_negative = byte_at(data, at) == _MINUS
    at, value, digits, _, is_whole = _number(data, at + is_negative)
    if at < 0 or not is_whole or digits > _INTEGER_DIGITS_MAX:
        return _NOT, 0
    return at, -value if is_negative else value


@numba.njit(cache=True, nogil=True, forceinline=True)
def _two_digits(data: Bytes, at: int) -> int:
    tens, ones = byte_at(data, at) - _ZERO, byte_at(data, at + 1) - _ZERO
    return tens * 10 + ones if 0 <= tens <= 9 and 0 <= ones <= 9 else _NOT


@numba.njit(cache=True, nogil=True, forceinline=True)
def _days(data: Bytes, at: int) -> int:
    """Days from 1970-01-01 to the day that stands here; negative for what is not plain."""
    century, rest = _two_digits(data, at), _two_digits(data, at + 2)
    month, day = _two_digits(data, at + 5), _two_digits(data, at + 8)
    if byte_at(data, at + 4) != _MINUS or byte_at(data, at + 7) != _MINUS:
        return _NOT
    year = 100 * century + rest
    if century < 0 or rest < 0 or year < _FIRST_YEAR or year > _LAST_YEAR:
        return _NOT
    if month < 1 or month > 12 or day < 1:
        return _NOT
    # Of the years here, 2000 is a leap year.
    is_leap = year % 4 == 0
    if day > _DAYS_OF_MONTHS[month - 1] + (is_leap and month == 2):
        return _NOT
    days = 365 * (year - 1970) + (year - 1969) // 4 + _DAYS_BEFORE_MONTHS[month - 1] + day - 1
    return int(days + (is_leap and month > 2))


@numba.njit(cache=True, nogil=True)
def _zone_us(data: Bytes, at: int) -> tuple[int, int]:
    """(Position behind it, what is to be added to come to UTC) of a zone as hours and minutes."""
    sign = byte_at(data, at)
    hour, minute = _two_digits(data, at + 1), _two_digits(data, at + 4)
    if sign not in (_PLUS, _MINUS) or byte_at(data, at + 3) != _COLON:
        return _NOT, 0
    if not (0 <= hour <= 23 and 0 <= minute <= 59):
        return _NOT, 0
    shift = (hour * 60 + minute) * 60 * _SECOND_US
    return at + 6, -shift if sign == _PLUS else shift


@numba.njit(cache=True, nogil=True, forceinline=True)
def _time(data: Bytes, at: int) -> tuple[int, int]:
    """(Position behind it, microseconds since 1970 UTC) of a time, from its quote on.

    It is one of RFC 3339 with a zone and no more than microseconds.
    """
    days = _days(data, at + 1)
    hour, minute = _two_digits(data, at + 12), _two_digits(data, at + 15)
    second, between = _two_digits(data, at + 18), byte_at(data, at + 11)
    if byte_at(data, at) != _QUOTE or days < 0 or (between != _T_LARGE and between != _SPACE):
        return _NOT, 0
    if byte_at(data, at + 14) != _COLON or byte_at(data, at + 17) != _COLON:
        return _NOT, 0
    if not (0 <= hour <= 23 and 0 <= minute <= 59 and 0 <= second <= 59):
        return _NOT, 0
    micros = (((days * 24 + hour) * 60 + minute) * 60 + second) * _SECOND_US
    at += 20
    if byte_at(data, at) == _DOT:
        first = at + 1
        at, fraction = _behind_digits(data, first, 0)
        if at == first or at > first + 6:
            return _NOT, 0
        for _ in range(first + 6 - at):
            fraction *= 10
        micros += fraction
    if byte_at(data, at) == _Z_LARGE:
        at += 1
    else:
        at, shift = _zone_us(data, at)
        micros += shift
    if at < 0 or byte_at(data, at) != _QUOTE or micros < 0 or micros >= _END_US:
        return _NOT, 0
    return at + 1, micros


@numba.njit(cache=True, nogil=True, forceinline=True)
def _is_null(data: Bytes, at: int) -> bool:
    return bool(word_at(data, at) & _FOUR_BYTES == _NULL)


@numba.njit(cache=True, nogil=True)
def _behind_truth(data: Bytes, at: int) -> int:
    if word_at(data, at) & _FOUR_BYTES == _TRUE:
        return at + 4
    is_false = byte_at(data, at) == _F and word_at(data, at + 1) & _FOUR_BYTES == _FALSE
    return at + 5 if is_false else _NOT


@numba.njit(cache=True, nogil=True, forceinline=True)
def _put_null(kind: int, field: int, row: int, ints: Ints, doubles: Floats, sizes: Ints) -> None:
    sizes[field, row] = IS_NULL
    if kind <= INTEGER:
        ints[field, row] = 0
    else:
        doubles[field, row] = np.nan


@numba.njit(cache=True, nogil=True, forceinline=True)
def _value(
    data: Bytes, at: int, kind: int, field: int, row: int, ints: Ints, doubles: Floats, sizes: Ints
) -> int:
    """The position behind a value that is wanted and not null."""
    size = DONE
    if kind == TEXT:
        begin = at + 1
        close = _text_end(data, begin) if byte_at(data, at) == _QUOTE else _NOT
        ints[field, row], size = begin, close - begin
        at = close + 1 if close >= 0 else _NOT
    elif kind == TIME:
        at, micros = _time(data, at)
        doubles[field, row] = micros
    elif kind == DOUBLE:
        begin = at
        at, value, size = _double(data, begin)
        if size == DONE:
            doubles[field, row] = value
        else:
            ints[field, row] = begin
    elif kind == INTEGER:
        at, ints[field, row] = _integer(data, at)
    else:
        doubles[field, row] = byte_at(data, at) == _T
        at = _behind_truth(data, at)
    sizes[field, row] = size
    return at


@numba.njit(cache=True, nogil=True, forceinline=True)
def _behind_unwanted(data: Bytes, at: int) -> int:
    """The position behind a value that nobody wants and that has no others in it."""
    byte = byte_at(data, at)
    if byte == _QUOTE:
        close = _text_end(data, at + 1)
        return close + 1 if close >= 0 else _NOT
    if byte == _MINUS or _ZERO <= byte <= _NINE:
        behind, _, digits, exponent, _ = _number(data, at + (byte == _MINUS))
        is_common = digits <= _INTEGER_DIGITS_MAX and abs(exponent) <= _LONG_EXPONENT_MAX
        return behind if is_common else _NOT
    return at + 4 if _is_null(data, at) else _behind_truth(data, at)


@numba.njit(cache=True, nogil=True, forceinline=True)
def _field(data: Bytes, at: int, expected: int, names: Words, masks: Words) -> int:
    """The field of the name that stands here; -1 for one that nobody wants."""
    count, words = names.shape
    # Producers write the fields in one order.
    for place in range(count):
        field = expected + place if expected + place < count else expected + place - count
        is_same = True
        for word in range(words):
            if (word_at(data, at + 8 * word) ^ names[field, word]) & masks[field, word]:
                is_same = False
                break
        if is_same:
            return field
    return -1


@numba.njit(cache=True, nogil=True, forceinline=True)
def _behind_unwanted_member(data: Bytes, at: int) -> int:
    """From a name that nobody wants to the position behind its value."""
    if byte_at(data, at) != _QUOTE:
        return _NOT
    at = _text_end(data, at + 1)
    if at < 0 or byte_at(data, at + 1) != _COLON:
        return _NOT
    at += 2
    return _behind_unwanted(data, at + (byte_at(data, at) == _SPACE))


@numba.njit(cache=True, nogil=True, forceinline=True)
def _put_nulls(
    seen: int, row: int, kinds: Ints, is_nullable: Bools, ints: Ints, doubles: Floats, sizes: Ints
) -> bool:
    """Fields that an object does not have; whether they may be null."""
    for field in range(kinds.shape[0]):
        if (seen >> field) & 1:
            continue
        if not is_nullable[field]:
            return False
        _put_null(kinds[field], field, row, ints, doubles, sizes)
    return True


@numba.njit(cache=True, nogil=True)
def read_objects(data: Bytes, starts: Ints, end: int, fields: Fields, cells: Cells) -> bool:
    """Read records into cells; whether all of them are plain, else cells say nothing.

    Args:
        data: UTF-8 in which the records lie, each with a newline behind it, and behind these as
            many bytes as the longest name has and some more.
        starts: int64[n], where each begins.
        end: where the last one ends.
        fields: what is wanted.
        cells: with room for all of it.
    """
    # Taken out once: each time would cost a count of references.
    names, masks, lengths, kinds, is_nullable = fields
    ints, doubles, sizes = cells
    whole = (np.int64(1) << kinds.shape[0]) - 1
    for row in range(starts.shape[0]):
        at, expected, seen = starts[row], 0, np.int64(0)
        if byte_at(data, at) != _OPEN:
            return False
        while at == starts[row] or byte_at(data, at) == _COMMA:
            at += 1
            at += byte_at(data, at) == _SPACE
            field = _field(data, at, expected, names, masks)
            if field < 0:
                at = _behind_unwanted_member(data, at)
            elif (seen >> field) & 1:
                return False
            else:
                seen |= np.int64(1) << field
                expected, kind = field + 1, kinds[field]
                at += lengths[field]
                at += byte_at(data, at) == _SPACE
                if is_nullable[field] and _is_null(data, at):
                    _put_null(kind, field, row, ints, doubles, sizes)
                    at += 4
                else:
                    at = _value(data, at, kind, field, row, ints, doubles, sizes)
            if at < 0:
                return False
        behind = starts[row + 1] - 1 if row + 1 < starts.shape[0] else end
        if byte_at(data, at) != _CLOSE or at + 1 != behind:
            return False
        if seen != whole and not _put_nulls(
            int(seen), row, kinds, is_nullable, ints, doubles, sizes
        ):
            return False
    return True
