"""Rows of a view that wait for the watermark, in order of the time at which they take effect."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

# Parts that are looked at one by one; of more the newest, small ones are put together.
_PARTS_MAX = 16
FAR_FUTURE_US = 2**62


@dataclass(frozen=True)
class Pending:
    """Updates and reads of one view that wait for the watermark; one row each.

    Attributes:
        slots: int64[n], the entity's place in the state.
        effective_us: int64[n], when the row takes effect (see docs/decisions/0001).
        ranks: int64[n], (partition << 48) | offset; reads find their results by it.
        is_update: bool[n].
        event_us: int64[n], event time.
        values: float64[n, C], one column per input of the view; NaN is null. Unused for reads.
    """

    slots: Ints
    effective_us: Ints
    ranks: Ints
    is_update: Bools
    event_us: Ints
    values: Floats

    def take(self, index: Any) -> Pending:
        """The rows that ``index`` (mask, slice or positions) chooses."""
        return Pending(
            self.slots[index],
            self.effective_us[index],
            self.ranks[index],
            self.is_update[index],
            self.event_us[index],
            self.values[index],
        )

    def copy(self) -> Pending:
        """The same rows in memory of their own."""
        return self.take(np.arange(len(self.slots)))

    def in_order(self) -> Pending:
        """The rows by effective time, reads before updates, then by rank."""
        times = self.effective_us
        if len(times) < 2 or (times[1:] > times[:-1]).all():
            return self
        order = np.argsort(times, kind="stable")
        times = times[order]
        if (times[1:] == times[:-1]).any():
            order = np.lexsort((self.ranks, self.is_update, self.effective_us))
        return self.take(order)

    @staticmethod
    def join(parts: Sequence[Pending]) -> Pending:
        """All rows of all parts, in that order. ``parts`` has at least one member."""
        if len(parts) == 1:
            return parts[0]
        return Pending(
            np.concatenate([p.slots for p in parts]),
            np.concatenate([p.effective_us for p in parts]),
            np.concatenate([p.ranks for p in parts]),
            np.concatenate([p.is_update for p in parts]),
            np.concatenate([p.event_us for p in parts]),
            np.concatenate([p.values for p in parts]),
        )


class Holding:
    """Parts, each in order. Not safe for threads.

    What was taken from a part is cut off it, not copied: looking for what is due costs as much as
    there are parts, and not as much as there are rows.

    Attributes:
        first_us: nothing that is held takes effect before.
    """

    def __init__(self) -> None:
        self.first_us = FAR_FUTURE_US
        self._parts: list[Pending] = []
        self._firsts: list[int] = []

    def __len__(self) -> int:
        return sum(len(part.slots) for part in self._parts)

    @property
    def parts(self) -> list[Pending]:
        """All that is held."""
        return self._parts

    def add(self, pending: Pending) -> None:
        """Hold these rows too."""
        if not len(pending.slots):
            return
        together, rows = [pending], len(pending.slots)
        if len(self._parts) >= _PARTS_MAX:
            # Not the large ones: each row is copied as often as its part can double, no more.
            while self._parts and len(self._parts[-1].slots) <= 2 * rows:
                rows += len(self._parts[-1].slots)
                together.append(self._parts.pop())
                self._firsts.pop()
        pending = Pending.join(together).in_order()
        self._parts.append(pending)
        first_us = int(pending.effective_us[0])
        self._firsts.append(first_us)
        self.first_us = min(self.first_us, first_us)

    def change(self, change: Callable[[Pending], Pending]) -> None:
        """Put in the place of each part what ``change`` makes of it, with the same times."""
        self._parts = [change(part) for part in self._parts]

    def take(self, watermark_us: int, updates_before_us: int) -> Pending | None:
        """Take out updates before ``updates_before_us`` and reads up to the watermark, in order.

        ``updates_before_us`` is the watermark, or one more than it when all is silent.
        """
        if self.first_us > watermark_us:
            return None
        due: list[Pending] = []
        left: list[Pending] = []
        firsts: list[int] = []
        for part, first_us in zip(self._parts, self._firsts, strict=True):
            if first_us > watermark_us:
                left.append(part)
                firsts.append(first_us)
                continue
            if part.effective_us[-1] < watermark_us:
                due.append(part)
                continue
            cut = _cut(part, watermark_us, updates_before_us)
            if cut:
                due.append(part.take(slice(0, cut)))
            if cut < len(part.slots):
                left.append(part.take(slice(cut, None)))
                firsts.append(int(part.effective_us[cut]))
        self._parts, self._firsts = left, firsts
        self.first_us = min(firsts, default=FAR_FUTURE_US)
        return Pending.join(due).in_order() if due else None


def _cut(part: Pending, watermark_us: int, updates_before_us: int) -> int:
    """How many of the rows are due; they are the first ones, as reads come before updates."""
    times = part.effective_us
    end = int(times.searchsorted(watermark_us, "right"))
    if updates_before_us <= watermark_us:
        begin = int(times.searchsorted(watermark_us, "left"))
        end = begin + int((~part.is_update[begin:end]).sum())
    return end
