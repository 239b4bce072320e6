"""The arrays of a view's state: how they grow, and how rows leave and come back."""

from __future__ import annotations

import mmap
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from contracts.plan import View
from dataflows.windows import kernel, lists, packing
from dataflows.windows.kernel_types import (
    EVER,
    Advanced,
    Batch,
    Bools,
    Floats,
    Ints,
    Lists,
    Packed,
    Shape,
    Sizes,
    State,
)
from dataflows.windows.layout import Layout, make_layout
from dataflows.windows.turns import NEVER, block_decays

_ENTITIES_MIN = 64
# Smaller arrays are not worth a mapping of their own.
_MAPPED_BYTES_MIN = 1024 * 1024
_OF_THREAD = threading.local()


class StateRows:
    """One row per slot. Not safe for threads.

    Attributes:
        layout: where what stands.
        size: how many slots there is room for.
    """

    def __init__(self, view: View) -> None:
        self.layout: Layout = make_layout(view)
        self._shape = Shape(
            self.layout.windows,
            self.layout.groups,
            self.layout.features,
            Sizes(
                self.layout.width,
                self.layout.place_width,
                view.exact_tiles_max,
                view.distinct_bits,
            ),
            view.ttl_us,
            bool(view.offline_path),
        )
        self._fades = bool((self.layout.windows[:, 1] > 0).all())
        self.clear()

    def clear(self) -> None:
        """Forget everything, and the room it took."""
        self.size = 0
        # No event that came since all was stored last is older.
        self._oldest_us = NEVER
        self._state = self._make(0, None if self.layout.lists < 0 else _no_lists())

    def ensure(self, count: int) -> None:
        """Have room for so many slots."""
        if count <= self.size:
            return
        old, used = self._state, self.size
        # What is not touched takes no memory, so there may be much of it.
        self.size = max(_ENTITIES_MIN, count + count // 4)
        new = self._state = self._make(self.size, old.lists)
        new.cells[: len(old.cells)] = old.cells
        if new.lists is not None and old.lists is not None:
            new.lists.table[:used] = old.lists.table
        for name in ("marks", "decay_at", "stamped_at", "is_dirty"):
            getattr(new, name)[:used] = getattr(old, name)
        self._find_blocks()

    def advance(self, batch: Batch, watermark_us: int) -> Advanced:
        """As ``kernel.advance``."""
        state = self._state = self._state._replace(last_row=_last_rows(self.size))
        if len(batch.event_us):
            # Reads count as well, which costs little: what they bring is not old.
            self._oldest_us = min(self._oldest_us, int(batch.event_us.min()))
        if self.layout.lists > 0 and state.lists is not None:
            table, last_row = state.lists.table, state.last_row
            self._have_places(lists.places_needed(table, last_row, batch.slots, batch.is_update))
        return kernel.advance(self._state, self._shape, batch, watermark_us)

    def wake(self, slots: Sequence[int]) -> None:
        """Take entities that were never updated for some that were, long ago."""
        self._state.stamped_at[slots] = 0
        self._state.is_dirty[slots] = True

    def pack_changes(self, count: int) -> Packed:
        """Those of the first slots that changed since this or ``settle`` was asked for.

        Tiles that are older than whatever came since are left out: they are as they were.
        """
        slots, since_us = np.flatnonzero(self._state.is_dirty[:count]), self._oldest_us
        self.settle()
        return packing.pack(self._state, self._lists, self._shape, slots, since_us)

    def pack_again(self, begin: int, end: int) -> Packed:
        """All of these slots, changed or not; ``pack_changes`` leaves them out then."""
        self._state.is_dirty[begin:end] = False
        return self.pack(np.arange(begin, end))

    def settle(self) -> None:
        """Take all there is for stored."""
        self._state.is_dirty[:] = False
        self._oldest_us = NEVER

    def silent(self, count: int, watermark_us: int) -> tuple[Bools, Bools]:
        """(bool[count] slots that nobody need remember, bool[count] those known once)."""
        stamped_at = self._state.stamped_at[:count]
        unknown = stamped_at < 0
        if not self._fades:
            return unknown, np.zeros(count, np.bool_)
        silent = (self._state.decay_at[:count] == NEVER) & ~unknown
        ttl_us = self._shape.ttl_us
        if ttl_us:
            return unknown | (silent & (watermark_us - stamped_at > ttl_us)), np.zeros(count, bool)
        # A row may be stamped one step after the watermark, and nothing may be stamped so again.
        silent &= stamped_at <= watermark_us
        return unknown | silent, silent

    def pack(self, slots: Ints) -> Packed:
        """What is held of these slots."""
        return packing.pack(self._state, self._lists, self._shape, slots, EVER)

    def unpack(self, packed: Packed) -> None:
        """Put rows back; ``ensure`` must have made room for them."""
        if self.layout.lists > 0:
            self._have_places(int(2 * packed.lengths.sum()) + 8 * packed.lengths.size)
        packing.unpack(self._state, self._lists, self._shape, packed)
        self._find_blocks()

    def replace_texts(self, packed: Packed, new_codes: Floats) -> None:
        """As ``packing.replace_texts``."""
        packing.replace_texts(packed, self._shape, self.layout.texts, new_codes)

    @property
    def list_places(self) -> int:
        """For how many tiles in lists there is memory."""
        return len(self._lists.blocks) // max(self.layout.place_width, 1)

    @property
    def next_decay_us(self) -> int:
        """No row decays before."""
        return int(self._state.decay_at.min(initial=NEVER))

    @property
    def _lists(self) -> Lists:
        """The lists for code that asks for them always, and finds none."""
        return _no_lists() if self._state.lists is None else self._state.lists

    def _have_places(self, needed: int) -> None:
        state, width = self._state, self.layout.place_width
        if state.lists is None:
            return
        blocks = state.lists.blocks
        wanted = int(state.lists.free[0]) + needed
        if wanted > len(blocks) // width:
            grown = np.zeros((wanted + wanted // 4) * width)
            grown[: len(blocks)] = blocks
            self._state = state._replace(lists=state.lists._replace(blocks=grown))

    def _find_blocks(self) -> None:
        state = self._state
        self._state = state._replace(block_decay_at=block_decays(state.decay_at))

    def _make(self, size: int, old: Lists | None) -> State:
        layout = self.layout
        decay_at = np.full(size, NEVER, np.int64)
        return State(
            cells=_zeros(size * layout.width, np.float64),
            marks=_zeros(size * layout.marks, np.int64).reshape(size, layout.marks),
            lists=None if old is None else old._replace(table=_table(size, layout.lists)),
            decay_at=decay_at,
            stamped_at=np.full(size, -1, np.int64),
            block_decay_at=block_decays(decay_at),
            last_row=np.empty(0, np.int64),
            is_dirty=np.zeros(size, np.bool_),
        )


def _zeros(count: int, kind: type[np.generic]) -> npt.NDArray[Any]:
    """Zeros of which those that are not touched take no memory.

    numpy's own have that only as long as the allocator has nothing at hand that was used before.
    """
    size_bytes = count * np.dtype(kind).itemsize
    if size_bytes < _MAPPED_BYTES_MIN:
        return np.zeros(count, kind)
    mapped = mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return np.frombuffer(mapped, kind)


def _last_rows(size: int) -> Ints:
    """``State.last_row`` for a call: one for all states that this thread runs, one by one."""
    found: Ints | None = getattr(_OF_THREAD, "last_rows", None)
    if found is None or len(found) < size:
        found = _OF_THREAD.last_rows = np.full(size, -1, np.int64)
    return found


def _table(size: int, count: int) -> Ints:
    table = np.zeros((size, count, lists.LIST_FIELDS), np.int64)
    table[:, :, lists.BLOCK] = -1
    return table


def _no_lists() -> Lists:
    free = np.full(1 + lists.SIZES, -1, np.int64)
    free[0] = 0
    return Lists(_table(0, 0), np.zeros(0), free)
