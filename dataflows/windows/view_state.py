"""The state of one view in one shard, and how it moves on as the watermark does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from contracts.plan import Aggregate, View
from dataflows.windows import kernel, kernel_types
from dataflows.windows.holding import Holding
from dataflows.windows.holding import Pending as Pending
from dataflows.windows.inputs import KeyList
from dataflows.windows.layout import Layout, make_layout

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


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
    """All entities of a view that belong to one shard. Not safe for threads.

    Attributes:
        keys: the entities' keys; a slot is a place in it. It only ever grows, at its end.
    """

    def __init__(self, view: View) -> None:
        self.view = view
        self.layout: Layout = make_layout(view)
        self.keys: list[bytes] = []
        self._slot_of: dict[bytes, int] = {}
        # Code -> slot (or -1) for the lists of keys that rows came with.
        self._slots_of_code: WeakKeyDictionary[KeyList, Ints] = WeakKeyDictionary()
        self._held = Holding()
        self._next_decay_us = kernel.NEVER
        self._whole = [i for i, a in enumerate(view.aggregates) if a.dtype == "int64"]
        self._shape = kernel_types.Shape(
            self.layout.windows,
            self.layout.groups,
            self.layout.features,
            view.ttl_us,
            bool(view.offline_path),
        )
        self._allocate(0)
        self._none = self._no_rows()

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
        if len(self.keys) > len(self._state.decay_at):
            self._grow(max(64, 2 * len(self.keys)))
        return slots

    def slots_of_codes(self, keys: KeyList, codes: Ints) -> Ints:
        """``slots`` of the keys that ``codes`` index; each key is looked up once only."""
        known = self._slots_of_code.get(keys)
        if known is None or len(known) < len(keys.keys):
            grown = np.full(max(64, 2 * len(keys.keys)), -1, np.int64)
            if known is not None:
                grown[: len(known)] = known
            known = self._slots_of_code[keys] = grown
        slots = known[codes]
        if len(slots) and slots.min() < 0:
            new = np.unique(codes[slots < 0])
            known[new] = self.slots([keys.keys[code] for code in new.tolist()])
            slots = known[codes]
        return slots

    def hold(self, pending: Pending) -> None:
        """Take rows that wait for the watermark."""
        self._held.add(pending)

    @property
    def held(self) -> int:
        """Number of rows that wait for the watermark."""
        return len(self._held)

    def advance(self, watermark_us: int, updates_before_us: int) -> tuple[Rows, Reads]:
        """Run updates before ``updates_before_us``, and reads and decay up to the watermark.

        ``updates_before_us`` is the watermark, or one more than it when all is silent. Of a view
        without an offline table, which keeps no history, each entity's last row is given only.
        """
        due = self._held.take(watermark_us, updates_before_us)
        if due is None:
            if watermark_us < self._next_decay_us:
                return self._none
            due = self._nothing
        out, read_values, self._next_decay_us = kernel.advance(
            self._state,
            self._shape,
            kernel_types.Batch(
                due.slots, due.is_update, due.effective_us, due.event_us, due.values
            ),
            watermark_us,
        )
        rows = self._in_order(out)
        if not len(read_values):
            return rows, self._none[1]
        return rows, Reads(due.ranks[~due.is_update], self._bounded(read_values))

    def dump(self) -> dict[str, Any]:
        """Everything, as plain arrays and lists; ``load`` is its inverse."""
        count = len(self.keys)
        return {
            "keys": self.keys,
            "cells": self._state.cells[:count],
            "marks": self._state.marks[:count],
            "decay_at": self._state.decay_at[:count],
            "stamped_at": self._state.stamped_at[:count],
            "pending": self._held.parts,
        }

    @classmethod
    def load(cls, view: View, data: dict[str, Any]) -> ViewState:
        """A state as it was when ``dump`` was called."""
        state = cls(view)
        state.keys = list(data["keys"])
        state._slot_of = {key: slot for slot, key in enumerate(state.keys)}
        arrays = (data["cells"], data["marks"], data["decay_at"], data["stamped_at"])
        state._allocate(len(state.keys), arrays)
        state._next_decay_us = int(data["decay_at"].min(initial=kernel.NEVER))
        for part in data["pending"]:
            state._held.add(part)
        return state

    def _no_rows(self) -> tuple[Rows, Reads]:
        ints, values = np.empty(0, np.int64), np.empty((0, len(self.view.aggregates)))
        self._nothing = Pending(
            ints, ints, ints, np.empty(0, np.bool_), ints, np.empty((0, len(self.layout.columns)))
        )
        return Rows(ints, ints, values), Reads(ints, values)

    def _in_order(self, out: kernel_types.Output) -> Rows:
        """The rows by (stamp, slot), of which no two have both in common."""
        slots, stamps_us, values = out
        if len(slots) > 1:
            first_us, slots_end = int(stamps_us.min()), len(self.keys)
            if (int(stamps_us.max()) - first_us + 1) * slots_end < 2**63:
                order = np.argsort((stamps_us - first_us) * slots_end + slots)
            else:
                order = np.lexsort((slots, stamps_us))
            slots, stamps_us, values = slots[order], stamps_us[order], values[order]
        return Rows(slots, stamps_us, self._bounded(values))

    def _bounded(self, values: Floats) -> Floats:
        """Null where an integer feature has outgrown 64 bits: no store could hold it."""
        if self._whole:
            too_large = np.abs(values[:, self._whole]) >= 2.0**63
            if too_large.any():
                values[:, self._whole] = np.where(too_large, np.nan, values[:, self._whole])
        return values

    def _allocate(self, size: int, held: Sequence[Any] = ()) -> None:
        """Make arrays for ``size`` entities that begin with those of ``held``."""
        layout = self.layout
        arrays = (
            np.zeros((size, layout.width)),
            np.zeros((size, layout.marks), np.int64),
            np.full(size, kernel.NEVER, np.int64),
            np.full(size, -1, np.int64),
        )
        for new, old in zip(arrays, held, strict=False):
            new[: len(old)] = old
        cells, marks, decay_at, stamped_at = arrays
        blocks, last_row = kernel.block_decays(decay_at), np.full(size, -1, np.int64)
        self._state = kernel_types.State(cells, marks, decay_at, stamped_at, blocks, last_row)

    def _grow(self, size: int) -> None:
        state = self._state
        self._allocate(size, (state.cells, state.marks, state.decay_at, state.stamped_at))


def warm_up() -> None:
    """Compile the kernel (seconds, once on a machine), so that no record has to wait for it."""
    aggregate = Aggregate("n", "int64", "x", "count", window_us=2, hop_us=1)
    state = ViewState(View("warm_up", "", ("k",), ("string",), (aggregate,), 0, ""))
    one = np.zeros(1, np.int64)
    slots = state.slots([b"k"])
    state.hold(Pending(slots, one, one, np.ones(1, np.bool_), one, np.ones((1, 1))))
    state.advance(1, 1)
