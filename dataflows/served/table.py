"""Many small rows under keys, several of which may have the same; in arrays, not in objects.

A row takes what its columns take, 20 bytes for its place, and some 110 for its key's entry in the
dictionary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

_NONE = -1
_ROOM_MIN = 256
# How much room there is after growing, of what there was; and the share that goes when it is full.
_GROWTH = 1.25
_GIVEN_UP = 1 / 64


class KeyedTable:
    """Rows of named columns, found by an int64 key. Holds ``rows_max`` at the most."""

    def __init__(self, columns: Sequence[tuple[Any, ...]], rows_max: int) -> None:
        """``columns`` are fields of a NumPy record: name, type and perhaps shape."""
        own = [("key", np.int64), ("number", np.int64), ("next", np.int32)]
        self._type = np.dtype([*own, *columns])
        self._rows_max = rows_max
        self._data: NDArray[Any] = np.empty(0, self._type)
        self._data["key"] = 0
        self._live: Mask = np.zeros(0, np.bool_)
        self._free: list[int] = []
        self._heads: dict[int, int] = {}
        self._next_number = 0

    def __len__(self) -> int:
        return len(self._data) - len(self._free)

    def add(self, keys: Ints, columns: dict[str, Any]) -> tuple[Ints, int]:
        """Put rows in; their places, and how many of the oldest rows had to go for them."""
        dropped = self._make_room(len(keys))
        slots = np.array([self._free.pop() for _ in range(len(keys))], np.int64)
        for name, values in columns.items():
            self._data[name][slots] = values
        self._data["key"][slots] = keys
        self._data["number"][slots] = self._next_number + np.arange(len(keys))
        self._next_number += len(keys)
        self._live[slots] = True
        following, heads = self._data["next"], self._heads
        for slot, key in zip(slots.tolist(), keys.tolist(), strict=True):
            following[slot] = heads.get(key, _NONE)
            heads[key] = slot
        return slots, dropped

    def find(self, key: int) -> list[int]:
        """Places of all rows under a key, in the order in which they came."""
        found = []
        slot, following = self._heads.get(key, _NONE), self._data["next"]
        while slot != _NONE:
            found.append(slot)
            slot = int(following[slot])
        return found[::-1]

    def column(self, name: str) -> NDArray[Any]:
        """A column by place; only places that were given out mean anything."""
        return np.asarray(self._data[name])

    def where(self, mask: Mask) -> Ints:
        """Places, in the order in which they came, of the rows for which ``mask`` (by place) is."""
        found = np.flatnonzero(mask & self._live)
        return found[np.argsort(self._data["number"][found], kind="stable")]

    def remove(self, slots: Sequence[int]) -> None:
        """Take rows out."""
        gone = set(slots)
        for key in dict.fromkeys(self._data["key"][list(slots)].tolist()):
            left = [slot for slot in self.find(key) if slot not in gone]
            before = _NONE
            for slot in left:
                self._data["next"][slot] = before
                before = slot
            if before == _NONE:
                del self._heads[key]
            else:
                self._heads[key] = before
        self._live[list(slots)] = False
        self._free.extend(slots)

    def dump(self) -> NDArray[Any]:
        """All rows in the order in which they came; ``load`` is its inverse."""
        return self._data[self.where(np.ones(len(self._data), np.bool_))].copy()

    def load(self, rows: NDArray[Any]) -> int:
        """Put what ``dump`` gave into an empty table; how many of the oldest had no room in it."""
        dropped = max(len(rows) - self._rows_max, 0)
        rows = rows[dropped:]
        names = [name for name in self._type.names or () if name not in ("key", "number", "next")]
        self.add(rows["key"], {name: rows[name] for name in names})
        return dropped

    def _make_room(self, count: int) -> int:
        if count > self._rows_max:
            raise ValueError(f"{count} rows at once, at most {self._rows_max} fit")
        dropped = 0
        over = len(self) + count - self._rows_max
        if over > 0:
            oldest = self.where(np.ones(len(self._data), np.bool_))
            dropped = max(over, min(len(oldest), int(self._rows_max * _GIVEN_UP)))
            self.remove(oldest[:dropped].tolist())
        if count > len(self._free):
            size = len(self._data)
            new_size = max(_ROOM_MIN, int(size * _GROWTH), size + count - len(self._free))
            grown = np.zeros(new_size, self._type)
            grown[:size] = self._data
            self._data = grown
            self._live = np.concatenate([self._live, np.zeros(new_size - size, np.bool_)])
            self._free = list(range(new_size - 1, size - 1, -1)) + self._free
        return dropped
