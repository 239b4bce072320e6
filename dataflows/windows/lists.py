"""Tiles in a sorted list, compiled: for windows of so many tiles that a ring could not be held.

A list has a block of places in ``Lists.blocks``, of which those from its first one on are in use.
Blocks have ``2 ** i`` places; those that are free hang together by size. A place holds the number
of its tile (whole, exact in a double) and then what a tile of the group holds.
"""

from __future__ import annotations

import numpy as np

from dataflows.windows.compiled import compiled, inlined
from dataflows.windows.kernel_types import Bools, Floats, Ints, Lists, Sizes
from dataflows.windows.tiles import GROUP_LIST, merge_tiles

BLOCK, FIRST_PLACE, LENGTH, ROOM = range(4)
LIST_FIELDS = 4
SIZES = 32
_SMALLEST = 4


@compiled
def places_needed(table: Ints, last_row: Ints, slots: Ints, is_update: Bools) -> int:
    """More places than these updates can ask for, one new tile each; ``last_row`` is as ever."""
    needed = 0
    for row in range(slots.shape[0]):
        if is_update[row]:
            # Counts them, here only.
            last_row[slots[row]] = max(last_row[slots[row]], 0) + 1
    for slot in slots:
        added = last_row[slot]
        last_row[slot] = -1
        if added < 0:
            continue
        for number in range(table.shape[1]):
            length = table[slot, number, LENGTH] + added
            if table[slot, number, FIRST_PLACE] + length > table[slot, number, ROOM]:
                # A block of which more than half is in use makes way for one of twice its size: the
                # last one has less than four times as many, and those before it as many together.
                needed += 8 * max(length, _SMALLEST)
    return needed


@compiled
def take_block(blocks: Floats, free: Ints, room: int, place_width: int) -> int:
    """The first place of a free block of ``room`` places, which is a power of two."""
    size = 0
    while 1 << size < room:
        size += 1
    block = free[1 + size]
    if block >= 0:
        free[1 + size] = np.int64(blocks[block * place_width])
        return block
    block = free[0]
    free[0] += room
    return block


@compiled
def free_block(blocks: Floats, free: Ints, block: int, room: int, place_width: int) -> None:
    """Keep a block of so many places for whoever wants one of that size."""
    size = 0
    while 1 << size < room:
        size += 1
    blocks[block * place_width] = free[1 + size]
    free[1 + size] = block


@compiled
def drop_before(lists: Lists, slot: int, number: int, oldest_tile: int, place_width: int) -> None:
    """Let go of the tiles before ``oldest_tile``.

    A list that is empty then keeps its block until ``give_back``: ``places_needed`` relies on it.
    """
    table, blocks = lists.table, lists.blocks
    length = table[slot, number, LENGTH]
    if length == 0:
        return
    place = table[slot, number, BLOCK] + table[slot, number, FIRST_PLACE]
    dropped = 0
    while dropped < length and blocks[(place + dropped) * place_width] < oldest_tile:
        dropped += 1
    table[slot, number, FIRST_PLACE] += dropped
    if dropped == length:
        table[slot, number, FIRST_PLACE] = 0
    table[slot, number, LENGTH] = length - dropped


@inlined
def give_back(lists: Lists | None, slot: int, place_width: int) -> None:
    """Free the blocks of an entity's lists that are empty, once its turn is over."""
    if lists is None:
        return
    table = lists.table
    for number in range(table.shape[1]):
        room = table[slot, number, ROOM]
        if room > 0 and table[slot, number, LENGTH] == 0:
            block = table[slot, number, BLOCK]
            free_block(lists.blocks, lists.free, block, room, place_width)
            table[slot, number, BLOCK] = -1
            table[slot, number, FIRST_PLACE] = table[slot, number, ROOM] = 0


@compiled
def oldest(lists: Lists, slot: int, number: int, place_width: int) -> int:
    """The oldest tile of a list; -1 if it is empty."""
    table = lists.table
    if table[slot, number, LENGTH] == 0:
        return -1
    place = table[slot, number, BLOCK] + table[slot, number, FIRST_PLACE]
    return np.int64(lists.blocks[place * place_width])


@compiled
def first_cell(lists: Lists, slot: int, number: int, place_width: int) -> int:
    """Where in ``Lists.blocks`` the oldest tile of a list begins; others follow by place width."""
    table = lists.table
    return (table[slot, number, BLOCK] + table[slot, number, FIRST_PLACE]) * place_width + 1


@compiled
def list_places(lists: Lists, slot: int, number: int, place_width: int, places: Ints) -> int:
    """Where in ``Lists.blocks`` the tiles of a list begin, oldest first; how many there are."""
    count = lists.table[slot, number, LENGTH]
    begin = first_cell(lists, slot, number, place_width)
    for i in range(count):
        places[i] = begin + i * place_width
    return count


@compiled
def find_or_insert(
    lists: Lists, slot: int, number: int, tile: int, place_width: int
) -> tuple[int, bool]:
    """(where in ``Lists.blocks`` the tile begins, whether it is new and holds nothing yet)."""
    table, blocks = lists.table, lists.blocks
    begin = table[slot, number, BLOCK] + table[slot, number, FIRST_PLACE]
    length = table[slot, number, LENGTH]
    at = length
    while at > 0 and blocks[(begin + at - 1) * place_width] > tile:
        at -= 1
    if at > 0 and blocks[(begin + at - 1) * place_width] == tile:
        return (begin + at - 1) * place_width + 1, False
    if table[slot, number, FIRST_PLACE] + length >= table[slot, number, ROOM]:
        _make_room(lists, slot, number, place_width)
        begin = table[slot, number, BLOCK] + table[slot, number, FIRST_PLACE]
    first, end = (begin + at) * place_width, (begin + length) * place_width
    for cell in range(end - 1, first - 1, -1):
        blocks[cell + place_width] = blocks[cell]
    blocks[first] = tile
    table[slot, number, LENGTH] = length + 1
    return first + 1, True


@compiled
def _make_room(lists: Lists, slot: int, number: int, place_width: int) -> None:
    """Move a list to the beginning of its block, or to a larger one if half of it is in use."""
    table, blocks = lists.table, lists.blocks
    block, room = table[slot, number, BLOCK], table[slot, number, ROOM]
    first, length = table[slot, number, FIRST_PLACE], table[slot, number, LENGTH]
    target = block
    if first < room // 2 or room == 0:
        larger = max(_SMALLEST, 2 * room)
        target = take_block(blocks, lists.free, larger, place_width)
        table[slot, number, BLOCK], table[slot, number, ROOM] = target, larger
    begin, to = (block + first) * place_width, target * place_width
    for cell in range(length * place_width):
        blocks[to + cell] = blocks[begin + cell]
    table[slot, number, FIRST_PLACE] = 0
    if target != block and room > 0:
        free_block(blocks, lists.free, block, room, place_width)


@compiled
def keep_short(lists: Lists, slot: int, g: int, groups: Ints, sizes: Sizes) -> bool:
    """If a list has become too long, make one of the two tiles that are nearest to each other."""
    table, blocks, width = lists.table, lists.blocks, sizes.place_width
    number = groups[g, GROUP_LIST]
    length = table[slot, number, LENGTH]
    if length <= sizes.exact_tiles_max:
        return False
    begin = (table[slot, number, BLOCK] + table[slot, number, FIRST_PLACE]) * width
    nearest, least = 0, np.inf
    for i in range(length - 1):
        gap = blocks[begin + (i + 1) * width] - blocks[begin + i * width]
        if gap < least:
            nearest, least = i, gap
    into, later = begin + nearest * width, begin + (nearest + 1) * width
    merge_tiles(blocks, into + 1, later + 1, g, groups, sizes.distinct_bits)
    blocks[into] = blocks[later]
    for cell in range(later, begin + (length - 1) * width):
        blocks[cell] = blocks[cell + width]
    table[slot, number, LENGTH] = length - 1
    return True
