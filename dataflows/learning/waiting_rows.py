"""What is kept of each prediction that waits, in columns whose rows are used again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Slots = NDArray[np.int64]

# What travels with a prediction beside its vector; columns of doubles or integers.
_COLUMNS: dict[str, Any] = {
    "scores": np.float64,
    "rates": np.float64,
    "lasts": np.float64,
    "versions": np.int64,
}


class WaitingRows:
    """Rows in slots. Grows, and never shrinks; what was never used takes no memory.

    Attributes:
        rows: float64 ``[slots, d]``, the vectors.
        scores: float64 ``[slots]``.
        rates: float64 ``[slots]``, the first baseline at the prediction.
        lasts: float64 ``[slots]``, the second.
        versions: int64 ``[slots]``, the newest version at the prediction.
        probabilities: float64 ``[slots, classes]``; no column but for models of many classes.
        keys: str ``[slots]``.
        segments: one column of str or None for each segment.
        highs: int64 ``[slots]``, hashes of the keys in this process.
    """

    scores: NDArray[np.float64]
    rates: NDArray[np.float64]
    lasts: NDArray[np.float64]
    versions: NDArray[np.int64]

    def __init__(self, width: int, segments: int = 0) -> None:
        self.rows = np.empty((0, width), np.float64)
        self.probabilities = np.empty((0, 0), np.float64)
        self.keys = np.empty(0, object)
        self.highs = np.empty(0, np.int64)
        self.segments: list[NDArray[Any]] = [np.empty(0, object) for _ in range(segments)]
        for name, kind in _COLUMNS.items():
            setattr(self, name, np.empty(0, kind))
        # A stack of those that are free; slots from ``_fresh`` on were never used.
        self._free = np.empty(0, np.int32)
        self._freed = self._fresh = 0

    @property
    def used(self) -> int:
        """Slots that hold something."""
        return self._fresh - self._freed

    def put(
        self,
        rows: NDArray[np.float64],
        keys: Sequence[str],
        segments: Sequence[Sequence[str | None]] = (),
    ) -> Slots:
        """Copy rows ``[n, d]`` into free slots; gives the slots, int64 ``[n]``."""
        count = len(rows)
        again = min(count, self._freed)
        fresh = count - again
        if self._fresh + fresh > len(self.keys):
            self._grow(self._fresh + fresh)
        slots = np.empty(count, np.int64)
        slots[:again] = self._free[self._freed - again : self._freed]
        slots[again:] = np.arange(self._fresh, self._fresh + fresh)
        self._freed -= again
        self._fresh += fresh
        self.rows[slots] = rows
        self.keys[slots] = keys
        for column, values in zip(self.segments, segments, strict=True):
            column[slots] = values
        return slots

    def release(self, slots: Sequence[int] | Slots) -> None:
        """Give slots back; what is in them is lost with the next ``put``."""
        places = np.asarray(slots, np.int64)
        self._free[self._freed : self._freed + len(places)] = places
        self._freed += len(places)
        self.keys[places] = None
        for column in self.segments:
            column[places] = None

    def widen(self, classes: int) -> None:
        """Have room for the probabilities of so many classes; those of new ones are 0."""
        slots, known = self.probabilities.shape
        if classes > known:
            # Some to spare, since classes come one by one.
            more = np.zeros((slots, max(classes, 2 * known) - known), np.float64)
            self.probabilities = np.hstack([self.probabilities, more])

    def take(self, slots: Slots) -> dict[str, Any]:
        """What is in these slots, by column, for ``put_back``."""
        texts = "".join(keys := self.keys[slots].tolist())
        found: dict[str, Any] = {name: getattr(self, name)[slots] for name in _COLUMNS}
        found["rows"] = self.rows[slots]
        found["probabilities"] = self.probabilities[slots]
        found["keys"] = texts
        found["key_ends"] = np.cumsum(np.fromiter(map(len, keys), np.int64, len(keys)))
        found["segments"] = [column[slots].tolist() for column in self.segments]
        return found

    def put_back(self, taken: dict[str, Any], wanted: Slots) -> Slots:
        """Some of the rows (their places) that were taken; gives their slots."""
        texts, ends = taken["keys"], taken["key_ends"].tolist()
        begins = [0, *ends]
        places = wanted.tolist()
        keys = [texts[begins[place] : ends[place]] for place in places]
        segments = [[column[place] for place in places] for column in taken["segments"]]
        self.widen(taken["probabilities"].shape[1])
        slots = self.put(taken["rows"][wanted], keys, segments)
        for name in _COLUMNS:
            getattr(self, name)[slots] = taken[name][wanted]
        self.probabilities[slots] = 0.0
        self.probabilities[slots, : taken["probabilities"].shape[1]] = taken["probabilities"][
            wanted
        ]
        self.highs[slots] = np.fromiter(map(hash, keys), np.int64, len(keys))
        return slots

    def _grow(self, needed: int) -> None:
        size, grown = len(self.keys), needed + needed // 4
        for name in (*_COLUMNS, "rows", "probabilities", "keys", "highs", "_free"):
            old = getattr(self, name)
            # Memory that was never written to is not there yet: none of it is set beforehand.
            new = np.empty((grown, *old.shape[1:]), old.dtype)
            new[:size] = old
            if name == "probabilities":
                new[size:] = 0.0
            setattr(self, name, new)
        for place, column in enumerate(self.segments):
            self.segments[place] = np.empty(grown, object)
            self.segments[place][:size] = column
