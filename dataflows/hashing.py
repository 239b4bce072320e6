"""Values to 53 well mixed bits, the same on every machine and in every process, for ever.

States keep these bits, so what is here must not change. A hash is a whole number of ``[0, 2**53)``
as a double, NaN for null.
"""

from __future__ import annotations

from collections.abc import Sequence

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Words = npt.NDArray[np.uint64]
Bytes = npt.NDArray[np.uint8]

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
    array = pa.array(values, pa.int64())
    filled = array.fill_null(0) if array.null_count else array
    integers = np.asarray(filled, dtype=np.int64)
    return _with_nulls(_mixed(integers.view(np.uint64)), array)


def hash_texts(values: Sequence[str | None]) -> Floats:
    """Hashes of strings, float64[n], of their UTF-8 bytes; None is null."""
    array = pa.array(values, pa.large_string())
    if not len(array):
        return np.empty(0)
    _, offsets, data = array.buffers()
    held = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)
    ends = np.frombuffer(offsets, np.int64, len(values) + 1)
    return _with_nulls(_doubles(_murmur(held, ends)), array)


def _with_nulls(hashes: Floats, array: pa.Array) -> Floats:
    if array.null_count:
        hashes[np.asarray(array.is_null())] = np.nan
    return hashes


def _doubles(words: Words) -> Floats:
    return (words >> _DROPPED_BITS).astype(np.float64)


def _mixed(words: Words) -> Floats:
    mixed = words + _STEP
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _FIRST
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _SECOND
    return _doubles(mixed ^ (mixed >> np.uint64(31)))


@numba.njit(cache=True, nogil=True)
def _murmur(data: Bytes, ends: Ints) -> Words:
    """MurmurHash64A of each of the pieces that lie one behind another; ``ends[0]`` is 0."""
    found = np.empty(len(ends) - 1, np.uint64)
    for row in range(len(found)):
        begin, end = ends[row], ends[row + 1]
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
