"""Sums of doubles without rounding, as integers: the order of adding changes nothing.

A sum is a row of *limbs* of 32 bits each, in int64 cells so that carries may wait: limb i counts
multiples of ``2 ** (low + 32 * i)``. Adding two sums is adding their cells.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

PIECES = 3  # a double of 53 bits that is moved by up to 31 spreads over so many limbs
_MASK = 0xFFFF_FFFF
# Each addition makes a cell grow by less than 2 ** 33.
ADDITIONS_MAX = 2**29


@dataclass(frozen=True)
class Range:
    """Which doubles a sum can take.

    Attributes:
        low: exponent of the first limb's unit; what is below it is cut off each number.
        limbs: cells of one sum.
    """

    low: int
    limbs: int

    def value(self, cells: Sequence[int]) -> int:
        """A sum's cells as one whole number, in units of ``2 ** low``."""
        total = 0
        for cell in reversed(cells):
            total = (total << 32) + cell
        return total

    def mean(self, cells: Sequence[int], count: int) -> float:
        """The sum divided by ``count``, rounded once; OverflowError if no double is so large."""
        return self.value(cells) / (count << -self.low)


SMALL = Range(low=-64, limbs=4)
"""Probabilities and losses: up to ``2 ** 53``, each cut off below 5e-20."""
ANY = Range(low=-1088, limbs=68)
"""Every finite double, exactly."""


@numba.njit(cache=True)
def pieces(numbers: Floats, low: int) -> tuple[Ints, Ints]:
    """Doubles as additions to the limbs of a sum.

    Args:
        numbers: ``[k]``, finite and within the range of the sum.
        low: of that range.

    Returns:
        Limbs and what is to be added to them, both ``[k, PIECES]``.
    """
    limbs = np.empty((len(numbers), PIECES), dtype=np.int64)
    parts = np.empty((len(numbers), PIECES), dtype=np.int64)
    for row, number in enumerate(numbers):
        fraction, exponent = math.frexp(abs(number))
        size = np.int64(fraction * 2.0**53)
        moved = np.int64(exponent) - 53 - low
        if moved < 0:
            size >>= 63 if moved < -63 else -moved
            moved = np.int64(0)
        lower = (size & _MASK) << (moved & 31)
        upper = (size >> 32) << (moved & 31)
        sign = -1 if number < 0 else 1
        parts[row, 0] = sign * (lower & _MASK)
        parts[row, 1] = sign * ((lower >> 32) + (upper & _MASK))
        parts[row, 2] = sign * (upper >> 32)
        for place in range(PIECES):
            limbs[row, place] = (moved >> 5) + place
    return limbs, parts


@numba.njit(cache=True)
def carry(table: Ints, rows: Ints, sums: Ints) -> None:
    """Bring limbs back to 32 bits, so that equal sums have equal cells.

    Args:
        table: shape ``[g, w]``.
        rows: which rows of it.
        sums: ``[s, 2]``: first cell and number of limbs of each sum.
    """
    for row in rows:
        for place in range(len(sums)):
            first, limbs = sums[place]
            for cell in range(first, first + limbs - 1):
                over = table[row, cell] >> 32
                table[row, cell] -= over << 32
                table[row, cell + 1] += over


@numba.njit(cache=True)
def scatter(table: Ints, groups: Ints, cells: Ints, additions: Ints) -> None:
    """Add what each row adds to each of its groups.

    Args:
        table: ``[g, w]``, changed.
        groups: ``[k, j]`` rows of the table.
        cells: ``[k, p]``.
        additions: ``[k, p]``, what to add to each.
    """
    for row in range(len(groups)):
        for group in groups[row]:
            for place in range(cells.shape[1]):
                table[group, cells[row, place]] += additions[row, place]
