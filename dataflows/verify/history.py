"""The rows that entities had, as a replay of the log brings them, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from contracts.category import category_code
from contracts.plan import Plan, View
from dataflows.batches import ViewRows

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# Rows of an entity before those that are still needed: a value that was served is looked for in
# them. Most entities have fewer.
LOOK_BACK_ROWS = 4_096
_LOOK_BACK_ROWS_MIN = 16
# Some 50 bytes each; past it everybody's look back is halved.
_ROWS_MAX = 20_000_000
_PARTS_MAX = 32


class EntityRows:
    """Rows of one entity of one view, by their stamps.

    Attributes:
        first_us: stamp of the first row that it ever had; None before.
        count: how many are held.
    """

    __slots__ = ("_parts", "_stamps_us", "_values", "count", "first_us")

    def __init__(self, width: int) -> None:
        self._stamps_us: Ints = np.empty(0, np.int64)
        self._values: Floats = np.empty((0, width))
        self._parts: list[tuple[Ints, Floats]] = []
        self.first_us: int | None = None
        self.count = 0

    def add(self, stamps_us: Ints, values: Floats) -> None:
        """Rows that follow those that are there."""
        if self.first_us is None:
            self.first_us = int(stamps_us[0])
        self._parts.append((stamps_us, values))
        self.count += len(stamps_us)
        if len(self._parts) >= _PARTS_MAX:
            self.rows()

    def rows(self) -> tuple[Ints, Floats]:
        """int64[n] stamps, rising, and float64[n, F] values, NaN for null."""
        if self._parts:
            self._stamps_us = np.concatenate([self._stamps_us, *(s for s, _ in self._parts)])
            self._values = np.concatenate([self._values, *(v for _, v in self._parts)])
            self._parts.clear()
        return self._stamps_us, self._values

    def forget(self, needed_us: int, look_back: int) -> None:
        """Let go of what is neither current at ``needed_us`` or later nor shortly before."""
        stamps_us, values = self.rows()
        first = int(stamps_us.searchsorted(needed_us, "right")) - 1 - look_back
        if first > 0:
            # Slices would keep all of it.
            self._stamps_us, self._values = stamps_us[first:].copy(), values[first:].copy()
            self.count = len(self._stamps_us)


class History:
    """Rows of the entities that were asked for. Not safe for threads.

    Attributes:
        look_back: how many rows before those needed are kept of each entity.
    """

    def __init__(self, plan: Plan, asked: Mapping[str, Iterable[bytes]]) -> None:
        """``asked`` has the entity keys of each view."""
        self._views = {name: plan.view(name) for name in asked}
        self._entities = {
            name: {key: EntityRows(len(self._views[name].aggregates)) for key in keys}
            for name, keys in asked.items()
        }
        # Slot -> entity; the keys of a shard that never lets go of any only grow.
        self._by_slot: dict[str, list[EntityRows]] = {name: [] for name in asked}
        self.look_back = LOOK_BACK_ROWS
        self._count = 0

    def of(self, view: str, key: bytes) -> EntityRows:
        """One entity's rows (KeyError if it was not asked for)."""
        return self._entities[view][key]

    def add(self, rows: Mapping[str, ViewRows], needed_us: int) -> None:
        """Take new rows by view; nobody will ask for a moment before ``needed_us``."""
        for name, new in rows.items():
            by_slot, entities = self._by_slot[name], self._entities[name]
            by_slot.extend(entities[key] for key in new.keys[len(by_slot) :])
            values = _as_served(self._views[name], new)
            # Of one entity they stay in the order of their stamps.
            order = np.argsort(new.rows.slots, kind="stable")
            slots, stamps_us, values = (
                new.rows.slots[order],
                new.rows.stamps_us[order],
                values[order],
            )
            ends = [*(np.flatnonzero(np.diff(slots)) + 1).tolist(), len(slots)]
            begin = 0
            for end, slot in zip(ends, slots[[end - 1 for end in ends]].tolist(), strict=True):
                self._put(by_slot[slot], stamps_us[begin:end], values[begin:end], needed_us)
                begin = end
        while self._count > _ROWS_MAX and self.look_back > _LOOK_BACK_ROWS_MIN:
            self._halve(needed_us)

    def _put(self, entity: EntityRows, stamps_us: Ints, values: Floats, needed_us: int) -> None:
        before = entity.count
        entity.add(stamps_us.copy(), values.copy())
        if entity.count > 2 * self.look_back:
            entity.forget(needed_us, self.look_back)
        self._count += entity.count - before

    def _halve(self, needed_us: int) -> None:
        self.look_back //= 2
        for entities in self._entities.values():
            for entity in entities.values():
                self._count -= entity.count
                entity.forget(needed_us, self.look_back)
                self._count += entity.count


def _as_served(view: View, new: ViewRows) -> Floats:
    """Values as a vector gets them out of the online store; NaN is null."""
    values = new.rows.values.copy()
    for column, aggregate in enumerate(view.aggregates):
        if aggregate.dtype == "string":
            values[:, column] = _codes(values[:, column], new.texts)
        elif aggregate.dtype == "int64":
            values[:, column] += 0.0  # an integer has no negative zero
        elif aggregate.dtype == "bool":
            is_there = ~np.isnan(values[:, column])
            values[is_there, column] = values[is_there, column] != 0.0
    return values


def _codes(places: Floats, texts: list[str]) -> Floats:
    codes = np.full(len(places), np.nan)
    is_there = ~np.isnan(places)
    used, which = np.unique(places[is_there].astype(np.int64), return_inverse=True)
    if len(used):
        known = np.array([category_code(texts[place]) for place in used.tolist()])
        codes[is_there] = known[which]
    return codes
