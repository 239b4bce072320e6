"""Values to 53 well mixed bits, the same on every machine and in every process, for ever.

States keep these bits, so what is here must not change. A hash is a whole number of ``[0, 2**53)``
as a double, NaN for null.
"""

from __future__ import annotations

from collections.abc import Sequence

import numba
import numpy as np
import numpy.typing as npt

from dataflows.packed_columns import IntegerColumn, TextColumn

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Words = npt.NDArray[np.uint64]
Bytes = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]

# Of 64 mixed bits those that a double holds exactly.
_DROPPED_BITS = np.uint64(11)

# SplitMix64.
_STEP = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
# MurmurHash64A. Its seed is not 0, with which the empty string would have no bit set.
_SEED = np.uint64(0x9E3779B97F4A7C15)
_FACTOR = np.uint64(0xC6A4A7935BD1E995)
_SHIFT = np.uint64(47)


def hash_numbers(values: Floats) -> Floats:
    """Hashes of doubles, float64[n]; 0.0 and -0.0 are one value, NaN is null."""
    # Adding 0.0 turns -0.0 into it and leaves all else as it is.
    hashes = _mixed((values + 0.0).view(np.uint64))
    hashes[np.isnan(values)] = np.nan
    return hashes


def hash_integers(values: Sequence[int | None]) -> Floats:
    """Hashes of 64-bit integers, float64[n]; None is null."""
    column = IntegerColumn.of(values)
    return _with_nulls(_mixed(column.integers.view(np.uint64)), column.is_there)


def hash_texts(values: Sequence[str | None]) -> Floats:
    """Hashes of strings, float64[n], of their UTF-8 bytes; None is null."""
    column = TextColumn.of(values)
    held = np.frombuffer(column.data or b" ", np.uint8)
    return _with_nulls(_doubles(_murmur(held, column.begins, column.sizes)), column.is_there)


def _with_nulls(hashes: Floats, is_there: Bools) -> Floats:
    hashes[~is_there] = np.nan
    return hashes


def _doubles(words: Words) -> Floats:
    return (words >> _DROPPED_BITS).astype(np.float64)


def _mixed(words: Words) -> Floats:
    mixed = words + _STEP
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _FIRST
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _SECOND
    return _doubles(mixed ^ (mixed >> np.uint64(31)))


@numba.njit(cache=True, nogil=True)
def _murmur(data: Bytes, begins: Ints, sizes: Ints) -> Words:
    """MurmurHash64A of each of the pieces, of which one that is null has no bytes."""
    found = np.empty(len(begins), np.uint64)
    for row in range(len(found)):
        begin, end = begins[row], begins[row] + max(sizes[row], 0)
        mixed = _SEED ^ (np.uint64(end - begin) * _FACTOR)
        while begin + 8 <= end:
            word = np.uint64(0)
            for place in range(8):
                word |= np.uint64(data[begin + place]) << np.uint64(8 * place)
            word *= _FACTOR
            word ^= word >> _SHIFT
            mixed = (mixed ^ (word * _FACTOR)) * _FACTOR
            begin += 8
        if begin < end:
            for place in range(end - begin):
                mixed ^= np.uint64(data[begin + place]) << np.uint64(8 * place)
            mixed *= _FACTOR
        mixed ^= mixed >> _SHIFT
        mixed *= _FACTOR
        found[row] = mixed ^ (mixed >> _SHIFT)
    return found
