"""Vectors that are still needed, in one array."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class Vectors:
    """Rows and their scores in slots that are used again. Grows, and never shrinks.

    Attributes:
        rows: float64 ``[slots, d]``.
        scores: float64 ``[slots]``.
        probabilities: float64 ``[slots, classes]``; no column but for models of many classes.
    """

    def __init__(self, width: int) -> None:
        self.rows = np.empty((0, width), dtype=np.float64)
        self.scores = np.empty(0, dtype=np.float64)
        self.probabilities = np.empty((0, 0), dtype=np.float64)
        self._free: list[int] = []

    def put(self, rows: NDArray[np.float64]) -> NDArray[np.int64]:
        """Copy rows ``[n, d]`` into free slots; gives the slots, int64 ``[n]``."""
        if len(rows) > len(self._free):
            self._grow(len(rows))
        first = len(self._free) - len(rows)
        slots = np.array(self._free[first:], dtype=np.int64)
        del self._free[first:]
        self.rows[slots] = rows
        return slots

    def release(self, slots: Sequence[int]) -> None:
        """Give slots back; what is in them is lost with the next ``put``."""
        self._free.extend(slots)

    def widen(self, classes: int) -> None:
        """Have room for the probabilities of so many classes; those of new ones are 0."""
        slots, known = self.probabilities.shape
        if classes > known:
            # Some to spare, since classes come one by one.
            more = np.zeros((slots, max(classes, 2 * known) - known), dtype=np.float64)
            self.probabilities = np.hstack([self.probabilities, more])

    def _grow(self, by: int) -> None:
        size = len(self.scores)
        grown = 2 * size + by
        rows = np.empty((grown, self.rows.shape[1]), dtype=np.float64)
        scores = np.empty(grown, dtype=np.float64)
        probabilities = np.zeros((grown, self.probabilities.shape[1]), dtype=np.float64)
        rows[:size], scores[:size] = self.rows, self.scores
        probabilities[:size] = self.probabilities
        self.rows, self.scores, self.probabilities = rows, scores, probabilities
        self._free.extend(range(size, grown))
