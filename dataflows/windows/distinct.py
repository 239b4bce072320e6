"""How many distinct values there are, compiled: the values while they are few, then a HyperLogLog.

A *set* of ``2 ** bits`` registers takes ``1 + 2 ** bits / 8`` doubles. The first says how many
values stand in the others; -1 says that the others are registers: eight of six bits in each, as a
whole number, which is exact in a double. A value is 53 well mixed bits, as a whole number too.

The registers are those of Flajolet et al. (2007); they are read by the estimator of Ertl, "New
cardinality estimation algorithms for HyperLogLog sketches" (2017), which needs no table of
corrections. The standard error is ``1.04 / sqrt(2 ** bits)``.
"""

from __future__ import annotations

import math

import numpy as np

from dataflows.windows.compiled import compiled
from dataflows.windows.kernel_types import Floats, Ints, Union

HASH_BITS = 53
_ALPHA = 0.5 / math.log(2.0)


def set_width(bits: int) -> int:
    """Doubles that a set of ``2 ** bits`` registers takes."""
    return 1 + (1 << bits - 3)


@compiled
def set_size(cells: Floats, at: int, bits: int) -> int:
    """Doubles that the set at ``cells[at]`` uses."""
    count = cells[at]
    return 1 + (np.int64(count) if count >= 0.0 else np.int64(1) << (bits - 3))


@compiled
def _rank(value: int, bits: int) -> int:
    """One more than the number of zeros at the end of the bits that do not name the register."""
    rest = value >> bits
    rank = 1
    while rank <= HASH_BITS - bits and rest & 1 == 0:
        rest >>= 1
        rank += 1
    return rank


@compiled
def _put(cells: Floats, at: int, number: int, rank: int) -> None:
    """Raise a register of the set at ``cells[at]`` to ``rank``."""
    place, shift = at + 1 + (number >> 3), (number & 7) * 6
    packed = np.int64(cells[place])
    old = (packed >> shift) & 63
    if rank > old:
        cells[place] = np.float64(packed + ((rank - old) << shift))


@compiled
def set_add(cells: Floats, at: int, value: float, bits: int) -> None:
    """Add a value to the set at ``cells[at]``."""
    last = (1 << bits) - 1
    if cells[at] >= 0.0:
        count = np.int64(cells[at])
        for place in range(at + 1, at + 1 + count):
            if cells[place] == value:
                return
        room = 1 << (bits - 3)
        if count < room:
            cells[at + 1 + count] = value
            cells[at] = count + 1.0
            return
        values = cells[at + 1 : at + 1 + room].copy()
        cells[at] = -1.0
        cells[at + 1 : at + 1 + room] = 0.0
        for known in values:
            whole = np.int64(known)
            _put(cells, at, whole & last, _rank(whole, bits))
    whole = np.int64(value)
    _put(cells, at, whole & last, _rank(whole, bits))


@compiled
def set_merge(cells: Floats, into: int, at: int, bits: int) -> None:
    """Add all that is in the set at ``cells[at]`` to the one at ``cells[into]``."""
    if cells[at] >= 0.0:
        for place in range(at + 1, at + 1 + np.int64(cells[at])):
            set_add(cells, into, cells[place], bits)
        return
    if cells[into] >= 0.0:
        values = cells[into + 1 : into + 1 + np.int64(cells[into])].copy()
        width = 1 + (1 << (bits - 3))
        cells[into : into + width] = cells[at : at + width]
        for value in values:
            set_add(cells, into, value, bits)
        return
    for number in range(1 << bits):
        packed = np.int64(cells[at + 1 + (number >> 3)])
        _put(cells, into, number, (packed >> (number & 7) * 6) & 63)


@compiled
def _unique(values: Floats, count: int) -> int:
    """Sort the first values and put the distinct ones first; how many those are."""
    if count < 2:
        return count
    part = values[:count]
    part.sort()
    used = 1
    for i in range(1, count):
        if part[i] != part[used - 1]:
            part[used] = part[i]
            used += 1
    return used


@compiled
def count_union(
    cells: Floats, places: Ints, places_used: int, offset: int, bits: int, union: Union
) -> float:
    """How many distinct values the sets at the first of ``cells[places + offset]`` have together.

    Exact if all of them hold values and there are no more than ``2 ** bits``.
    """
    hashes, registers = union.hashes, union.registers
    used, size = 0, 1 << bits
    is_exact = True
    for i in range(places_used):
        at = places[i] + offset
        count = np.int64(cells[at])
        if count < 0:
            is_exact = False
            break
        if used + count > 2 * size:
            used = _unique(hashes, used)
            if used > size:
                is_exact = False
                break
        hashes[used : used + count] = cells[at + 1 : at + 1 + count]
        used += count
    if is_exact:
        used = _unique(hashes, used)
        if used <= size:
            return np.float64(used)
    registers[:] = 0
    for i in range(places_used):
        _raise(cells, places[i] + offset, bits, registers)
    return np.rint(_estimate(registers, bits))


@compiled
def _raise(cells: Floats, at: int, bits: int, registers: Ints) -> None:
    """Raise the registers to those of the set at ``cells[at]``."""
    if cells[at] >= 0.0:
        for place in range(at + 1, at + 1 + np.int64(cells[at])):
            whole = np.int64(cells[place])
            number = whole & (registers.shape[0] - 1)
            registers[number] = max(registers[number], _rank(whole, bits))
        return
    for number in range(registers.shape[0]):
        packed = np.int64(cells[at + 1 + (number >> 3)])
        registers[number] = max(registers[number], (packed >> (number & 7) * 6) & 63)


@compiled
def _estimate(registers: Ints, bits: int) -> float:
    """Ertl's improved estimate of the number of distinct values."""
    size, deepest = registers.shape[0], HASH_BITS - bits
    counts = np.zeros(deepest + 2)
    for rank in registers:
        counts[rank] += 1.0
    total = size * _tau(1.0 - counts[deepest + 1] / size)
    for rank in range(deepest, 0, -1):
        total = 0.5 * (total + counts[rank])
    total += size * _sigma(counts[0] / size)
    return _ALPHA * size * size / total


@compiled
def _sigma(x: float) -> float:
    if x == 1.0:
        return np.inf
    power, total = 1.0, x
    while True:
        x *= x
        before = total
        total += x * power
        power += power
        if total == before:
            return total


@compiled
def _tau(x: float) -> float:
    if x in (0.0, 1.0):
        return 0.0
    power, total = 1.0, 1.0 - x
    while True:
        x = math.sqrt(x)
        before = total
        power *= 0.5
        total -= (1.0 - x) ** 2 * power
        if total == before:
            return total / 3.0
