"""The state of one view in one shard, and how it moves on as the watermark does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from contracts.plan import Aggregate, View
from dataflows.windows import kernel
from dataflows.windows.layout import Layout, make_layout

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Pending:
    """Updates and reads of one view that wait for the watermark; one row each.

    Attributes:
        slots: int64[n], the entity's place in the state.
        effective_us: int64[n], when the row takes effect (see docs/decisions/0001).
        ranks: int64[n], (partition << 48) | offset; reads find their results by it.
        is_update: bool[n].
        event_us: int64[n], event time.
        values: float64[n, C], one column per ``Layout.columns``; NaN is null. Unused for reads.
    """

    slots: Ints
    effective_us: Ints
    ranks: Ints
    is_update: Bools
    event_us: Ints
    values: Floats

    def take(self, index: Any) -> Pending:
        """The rows that ``index`` (mask or positions) chooses."""
        return Pending(
            self.slots[index],
            self.effective_us[index],
            self.ranks[index],
            self.is_update[index],
            self.event_us[index],
            self.values[index],
        )

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


@dataclass(frozen=True)
class Rows:
    """Rows of a view in the order (stamp, entity): ``slots`` index the list of entity keys."""

    slots: Ints
    stamps_us: Ints
    values: Floats


@dataclass(frozen=True)
class Reads:
    """What reads saw: ``values[i]`` (NaN is null) is for the read with ``ranks[i]``."""

    ranks: Ints
    values: Floats


class ViewState:
    """All entities of a view that belong to one shard. Not safe for threads."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.layout: Layout = make_layout(view)
        self.keys: list[bytes] = []
        self._slot_of: dict[bytes, int] = {}
        self._parts: list[Pending] = []
        self._allocate(0)

    def slots(self, keys: Sequence[bytes]) -> Ints:
        """The places of these entities; new ones get a place, which reads as null until updated."""
        slot_of = self._slot_of
        slots = np.empty(len(keys), np.int64)
        for i, key in enumerate(keys):
            slot = slot_of.get(key)
            if slot is None:
                slot = slot_of[key] = len(self.keys)
                self.keys.append(key)
            slots[i] = slot
        if len(self.keys) > self._cells.shape[0]:
            self._grow(max(64, 2 * len(self.keys)))
        return slots

    def hold(self, pending: Pending) -> None:
        """Take rows that wait for the watermark."""
        self._parts.append(pending)

    @property
    def held(self) -> int:
        """Number of rows that wait for the watermark."""
        return sum(len(part.slots) for part in self._parts)

    def advance(self, watermark_us: int, updates_before_us: int) -> tuple[Rows, Reads]:
        """Run updates before ``updates_before_us``, and reads and decay up to the watermark.

        ``updates_before_us`` is the watermark, or one more than it when all is silent.
        """
        due = self._due(watermark_us, updates_before_us)
        order = np.lexsort((due.ranks, due.is_update, due.effective_us))
        due = due.take(order)
        layout = self.layout
        out, read_values = kernel.advance(
            kernel.State(
                self._cells,
                self._heads,
                self._decay_at[: len(self.keys)],
                self._stamped_at,
                self._row_of,
            ),
            kernel.Shape(layout.windows, layout.groups, layout.features),
            self.view.ttl_us,
            kernel.Batch(due.slots, due.is_update, due.effective_us, due.event_us, due.values),
            watermark_us,
        )
        order = np.lexsort((out.slots, out.stamps_us))
        rows = Rows(out.slots[order], out.stamps_us[order], self._bounded(out.values[order]))
        return rows, Reads(due.ranks[~due.is_update], self._bounded(read_values))

    def dump(self) -> dict[str, Any]:
        """Everything, as plain arrays and lists; ``load`` is its inverse."""
        count = len(self.keys)
        return {
            "keys": self.keys,
            "cells": self._cells[:count],
            "heads": self._heads[:count],
            "decay_at": self._decay_at[:count],
            "stamped_at": self._stamped_at[:count],
            "pending": self._parts,
        }

    @classmethod
    def load(cls, view: View, data: dict[str, Any]) -> ViewState:
        """A state as it was when ``dump`` was called."""
        state = cls(view)
        state.keys = list(data["keys"])
        state._slot_of = {key: slot for slot, key in enumerate(state.keys)}
        count = len(state.keys)
        state._allocate(count)
        state._cells[:count] = data["cells"]
        state._heads[:count] = data["heads"]
        state._decay_at[:count] = data["decay_at"]
        state._stamped_at[:count] = data["stamped_at"]
        state._parts = list(data["pending"])
        return state

    def _bounded(self, values: Floats) -> Floats:
        """Null where an integer feature has outgrown 64 bits: no store could hold it."""
        whole = [i for i, a in enumerate(self.view.aggregates) if a.dtype == "int64"]
        if whole:
            too_large = np.abs(values[:, whole]) >= 2.0**63
            if too_large.any():
                values[:, whole] = np.where(too_large, np.nan, values[:, whole])
        return values

    def _due(self, watermark_us: int, updates_before_us: int) -> Pending:
        if not self._parts:
            none = np.empty(0, np.int64)
            values = np.empty((0, len(self.layout.columns)))
            return Pending(none, none, none, np.empty(0, np.bool_), none, values)
        pending = Pending.join(self._parts)
        is_due = np.where(
            pending.is_update,
            pending.effective_us < updates_before_us,
            pending.effective_us <= watermark_us,
        )
        if is_due.all():
            self._parts = []
            return pending
        self._parts = [pending.take(~is_due)]
        return pending.take(is_due)

    def _allocate(self, size: int) -> None:
        self._cells = np.zeros((size, self.layout.width))
        kernel.clear_rows(self._cells, 0, size, self.layout.windows, self.layout.groups)
        self._heads = np.zeros((size, len(self.layout.windows)), np.int64)
        self._decay_at = np.full(size, kernel.NEVER, np.int64)
        self._stamped_at = np.full(size, -1, np.int64)
        self._row_of = np.full(size, -1, np.int64)

    def _grow(self, size: int) -> None:
        old = (self._cells, self._heads, self._decay_at, self._stamped_at)
        self._allocate(size)
        for new, held in zip(
            (self._cells, self._heads, self._decay_at, self._stamped_at), old, strict=True
        ):
            new[: len(held)] = held


def warm_up() -> None:
    """Compile the kernel (seconds, once on a machine), so that no record has to wait for it."""
    aggregate = Aggregate("n", "int64", "x", "count", window_us=2, hop_us=1)
    state = ViewState(View("warm_up", "", ("k",), ("string",), (aggregate,), 0, ""))
    one = np.zeros(1, np.int64)
    slots = state.slots([b"k"])
    state.hold(Pending(slots, one, one, np.ones(1, np.bool_), one, np.ones((1, 1))))
    state.advance(1, 1)
