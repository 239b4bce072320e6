"""Rows of a state without what they do not use, compiled: for snapshots."""

from __future__ import annotations

import numpy as np

from dataflows.windows.compiled import compiled
from dataflows.windows.kernel_types import Floats, Ints, Lists, Packed, Shape, State
from dataflows.windows.lists import (
    BLOCK,
    FIRST_PLACE,
    LENGTH,
    ROOM,
    first_cell,
    take_block,
)
from dataflows.windows.tiles import (
    GROUP_BASE,
    GROUP_LIST,
    GROUP_WIDTH,
    GROUP_WINDOW,
    GROUP_WORD,
    OFFSETS,
    SET_STAT,
    tile_size,
)


@compiled
def _is_held(marks: Ints, slot: int, word: int, cell: int) -> bool:
    return marks[slot, word + (cell >> 6)] >> (cell & 63) & 1 != 0


@compiled
def _copy_tile(cells: Floats, start: int, g: int, shape: Shape, packed: Floats, used: int) -> int:
    """Copy one tile; ``packed`` must have room for a whole one. How many doubles are used then."""
    size = tile_size(cells, start, g, shape.groups, shape.sizes.distinct_bits)
    for i in range(size):
        packed[used + i] = cells[start + i]
    return used + size


@compiled
def _with_room(packed: Floats, needed: int) -> Floats:
    if needed <= packed.shape[0]:
        return packed
    grown = np.empty(max(needed, 2 * packed.shape[0]))
    grown[: packed.shape[0]] = packed
    return grown


@compiled
def _pack_entity(
    state: State,
    lists: Lists,
    shape: Shape,
    slot: int,
    lengths: Ints,
    row: int,
    packed: Floats,
    used: int,
) -> tuple[Floats, int]:
    """Add the tiles of one entity to the first ``used`` doubles of ``packed``."""
    groups = shape.groups
    for g in range(groups.shape[0]):
        width, number = groups[g, GROUP_WIDTH], groups[g, GROUP_LIST]
        if number < 0:
            tiles = shape.windows[groups[g, GROUP_WINDOW], 0]
            packed = _with_room(packed, used + tiles * width)
            begin = slot * shape.sizes.width + groups[g, GROUP_BASE]
            for cell in range(tiles):
                if _is_held(state.marks, slot, groups[g, GROUP_WORD], cell):
                    used = _copy_tile(state.cells, begin + cell * width, g, shape, packed, used)
            continue
        length = lists.table[slot, number, LENGTH]
        lengths[row, number] = length
        packed = _with_room(packed, used + length * (width + 1))
        start = first_cell(lists, slot, number, shape.sizes.place_width)
        for _ in range(length):
            packed[used] = lists.blocks[start - 1]
            used = _copy_tile(lists.blocks, start, g, shape, packed, used + 1)
            start += shape.sizes.place_width
    return packed, used


@compiled
def pack(state: State, lists: Lists, shape: Shape, slots: Ints) -> Packed:
    """What the state holds of these entities; ``lists`` are its own, or empty if it has none."""
    count = slots.shape[0]
    marks = np.empty((count, state.marks.shape[1]), np.int64)
    lengths = np.zeros((count, lists.table.shape[1]), np.int64)
    decay_at, stamped_at = np.empty(count, np.int64), np.empty(count, np.int64)
    packed, used = np.empty(16 * count + 64), 0
    for row in range(count):
        slot = slots[row]
        for i in range(marks.shape[1]):
            marks[row, i] = state.marks[slot, i]
        decay_at[row], stamped_at[row] = state.decay_at[slot], state.stamped_at[slot]
        packed, used = _pack_entity(state, lists, shape, slot, lengths, row, packed, used)
    return Packed(slots, marks, lengths, decay_at, stamped_at, packed[:used].copy())


@compiled
def _size_in(packed: Floats, at: int, g: int, shape: Shape) -> int:
    return tile_size(packed, at, g, shape.groups, shape.sizes.distinct_bits)


@compiled
def _unpack_list(
    lists: Lists, shape: Shape, slot: int, g: int, length: int, packed: Floats, used: int
) -> int:
    """Put a list of that length back; a list that stands there goes."""
    number, width = shape.groups[g, GROUP_LIST], shape.sizes.place_width
    table = lists.table
    if length > table[slot, number, ROOM]:
        room = 4
        while room < length:
            room *= 2
        # The old block is lost until the state is loaded again; that happens while loading only.
        table[slot, number, BLOCK] = take_block(lists.blocks, lists.free, room, width)
        table[slot, number, ROOM] = room
    table[slot, number, FIRST_PLACE], table[slot, number, LENGTH] = 0, length
    place = table[slot, number, BLOCK] * width
    for _ in range(length):
        lists.blocks[place] = packed[used]
        size = _size_in(packed, used + 1, g, shape)
        for i in range(size):
            lists.blocks[place + 1 + i] = packed[used + 1 + i]
        used += 1 + size
        place += width
    return used


@compiled
def unpack(state: State, lists: Lists, shape: Shape, packed: Packed) -> None:
    """Put entities back as they were when they were packed; there must be room for them."""
    groups, used = shape.groups, 0
    for row in range(packed.slots.shape[0]):
        slot = packed.slots[row]
        for i in range(packed.marks.shape[1]):
            state.marks[slot, i] = packed.marks[row, i]
        state.decay_at[slot] = packed.decay_at[row]
        state.stamped_at[slot] = packed.stamped_at[row]
        for g in range(groups.shape[0]):
            width, number = groups[g, GROUP_WIDTH], groups[g, GROUP_LIST]
            if number >= 0:
                length = packed.lengths[row, number]
                used = _unpack_list(lists, shape, slot, g, length, packed.cells, used)
                continue
            begin = slot * shape.sizes.width + groups[g, GROUP_BASE]
            for cell in range(shape.windows[groups[g, GROUP_WINDOW], 0]):
                if _is_held(state.marks, slot, groups[g, GROUP_WORD], cell):
                    size = _size_in(packed.cells, used, g, shape)
                    for i in range(size):
                        state.cells[begin + cell * width + i] = packed.cells[used + i]
                    used += size


@compiled
def replace_texts(packed: Packed, shape: Shape, is_text: Ints, new_codes: Floats) -> None:
    """Replace the texts' codes in packed tiles: ``new_codes[old]``; those that are -1 get ever new.

    ``is_text`` is int64[G, statistics], 1 where a group's tile holds a text. The first free code
    stands in the last place of ``new_codes`` before, and after.
    """
    groups, used = shape.groups, 0
    for row in range(packed.slots.shape[0]):
        for g in range(groups.shape[0]):
            number = groups[g, GROUP_LIST]
            if number >= 0:
                count = packed.lengths[row, number]
            else:
                count = 0
                for cell in range(shape.windows[groups[g, GROUP_WINDOW], 0]):
                    count += _is_held(packed.marks, row, groups[g, GROUP_WORD], cell)
            for _ in range(count):
                used += number >= 0
                for stat in range(SET_STAT):
                    at = used + groups[g, OFFSETS + stat]
                    if is_text[g, stat] and not np.isnan(packed.cells[at]):
                        old = np.int64(packed.cells[at])
                        if new_codes[old] < 0.0:
                            new_codes[old] = new_codes[-1]
                            new_codes[-1] += 1.0
                        packed.cells[at] = new_codes[old]
                used += _size_in(packed.cells, used, g, shape)
