"""Rows of a state without what they do not use, compiled: for snapshots."""

from __future__ import annotations

import numpy as np

from dataflows.windows.ahead import AHEAD, fetch_newest
from dataflows.windows.compiled import compiled, inlined
from dataflows.windows.kernel_types import Floats, Ints, Lists, Packed, Shape, State
from dataflows.windows.lists import (
    BLOCK,
    FIRST_PLACE,
    LENGTH,
    ROOM,
    first_cell,
    free_block,
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

# Before it is known how much the entities of a call hold.
_DOUBLES_PER_ENTITY = 16


@inlined
def _is_held(marks: Ints, row: int, word: int, cell: int) -> bool:
    return marks[row, word + (cell >> 6)] >> (cell & 63) & 1 != 0


@inlined
def _first_tile(head: int, tiles: int, hop_us: int, since_us: int) -> int:
    """The oldest tile of a ring that may be among packed ones; ``head`` is the newest."""
    first = head - tiles + 1
    return first if hop_us == 0 else max(first, since_us // hop_us)


@compiled
def _with_room(packed: Floats, needed: int) -> Floats:
    if needed <= packed.shape[0]:
        return packed
    grown = np.empty(max(needed, 2 * packed.shape[0]))
    grown[: packed.shape[0]] = packed
    return grown


@inlined
def _pack_ring(
    cells: Floats,
    begin: int,
    marks: Ints,
    row: int,
    g: int,
    windows: Ints,
    groups: Ints,
    bits: int,
    since_us: int,
    packed: Floats,
    used: int,
) -> int:
    """Copy tiles of the ring that begins at ``begin``; how many doubles are used then.

    ``packed`` must have room for all tiles of the ring.
    """
    w, word, width = groups[g, GROUP_WINDOW], groups[g, GROUP_WORD], groups[g, GROUP_WIDTH]
    tiles, head = windows[w, 0], marks[row, w]
    first = _first_tile(head, tiles, windows[w, 1], since_us)
    cell = first % tiles
    for _ in range(first, head + 1):
        if _is_held(marks, row, word, cell):
            start = begin + cell * width
            size = tile_size(cells, start, g, groups, bits)
            for i in range(size):
                packed[used + i] = cells[start + i]
            used += size
        cell += 1
        if cell == tiles:
            cell = 0
    return used


@compiled
def _pack_list(
    lists: Lists, shape: Shape, slot: int, g: int, packed: Floats, used: int
) -> tuple[Floats, int]:
    """Add the tiles of a list to the first ``used`` doubles of ``packed``."""
    groups = shape.groups
    width, number = groups[g, GROUP_WIDTH], groups[g, GROUP_LIST]
    length = lists.table[slot, number, LENGTH]
    packed = _with_room(packed, used + length * (width + 1))
    start = first_cell(lists, slot, number, shape.sizes.place_width)
    for _ in range(length):
        packed[used] = lists.blocks[start - 1]
        size = tile_size(lists.blocks, start, g, groups, shape.sizes.distinct_bits)
        for i in range(size):
            packed[used + 1 + i] = lists.blocks[start + i]
        used += 1 + size
        start += shape.sizes.place_width
    return packed, used


@compiled
def _pack_cells(
    state: State, lists: Lists, shape: Shape, slots: Ints, marks: Ints, since_us: int
) -> Floats:
    """The tiles of these entities, whose marks are given by row."""
    cells, windows, groups, sizes = state.cells, shape.windows, shape.groups, shape.sizes
    count, used = slots.shape[0], 0
    packed = np.empty(_DOUBLES_PER_ENTITY * count + sizes.width)
    for row in range(count):
        fetch_newest(cells, slots, marks, row + AHEAD, windows, groups, sizes.width)
        needed = used + sizes.width
        if needed > packed.shape[0]:
            # The others may take what these did, and some more.
            packed = _with_room(packed, needed + used // (row + 1) * (count - row) * 9 // 8)
        for g in range(groups.shape[0]):
            if groups[g, GROUP_LIST] >= 0:
                packed, used = _pack_list(lists, shape, slots[row], g, packed, used)
                packed = _with_room(packed, used + sizes.width)
            else:
                begin = slots[row] * sizes.width + groups[g, GROUP_BASE]
                used = _pack_ring(
                    cells, begin, marks, row, g, windows, groups, sizes.distinct_bits,
                    since_us, packed, used,
                )  # fmt: skip
    return packed[:used]


@compiled
def pack(state: State, lists: Lists, shape: Shape, slots: Ints, since_us: int) -> Packed:
    """What the state holds of these entities; ``lists`` are its own, or empty if it has none.

    One thing after the other, and not entity by entity: memory is read ahead then.
    """
    count = slots.shape[0]
    marks = np.empty((count, state.marks.shape[1]), np.int64)
    for row in range(count):
        for i in range(marks.shape[1]):
            marks[row, i] = state.marks[slots[row], i]
    lengths = np.zeros((count, lists.table.shape[1]), np.int64)
    for number in range(lengths.shape[1]):
        for row in range(count):
            lengths[row, number] = lists.table[slots[row], number, LENGTH]
    decay_at, stamped_at = np.empty(count, np.int64), np.empty(count, np.int64)
    for row in range(count):
        decay_at[row] = state.decay_at[slots[row]]
    for row in range(count):
        stamped_at[row] = state.stamped_at[slots[row]]
    packed = _pack_cells(state, lists, shape, slots, marks, since_us)
    return Packed(since_us, slots, marks, lengths, decay_at, stamped_at, packed)


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
        if table[slot, number, ROOM] > 0:
            old = table[slot, number, BLOCK]
            free_block(lists.blocks, lists.free, old, table[slot, number, ROOM], width)
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
            w = groups[g, GROUP_WINDOW]
            tiles, hop_us = shape.windows[w, 0], shape.windows[w, 1]
            head = packed.marks[row, w]
            first = _first_tile(head, tiles, hop_us, packed.since_us)
            for tile in range(first, head + 1):
                cell = tile % tiles
                if _is_held(packed.marks, row, groups[g, GROUP_WORD], cell):
                    size = _size_in(packed.cells, used, g, shape)
                    for i in range(size):
                        state.cells[begin + cell * width + i] = packed.cells[used + i]
                    used += size


@compiled
def replace_texts(packed: Packed, shape: Shape, is_text: Ints, new_codes: Floats) -> None:
    """Replace the texts' codes in packed tiles: ``new_codes[old]``; those that are -1 get ever new.

    Nothing may have been left out of ``packed``.

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
