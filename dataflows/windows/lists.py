"""Tiles in a sorted list, compiled: for windows of so many tiles that a ring could not be held.

A list has a block of places in ``State.blocks``, of which those from its first one on are in use.
Blocks have ``2 ** i`` places; those that are free hang together by size. A place holds the number
of its tile (whole, exact in a double) and then what a tile of the group holds.
"""

from __future__ import annotations

import numba
import numpy as np

from dataflows.windows.kernel_types import Bools, Floats, Ints, Shape, State
from dataflows.windows.tiles import GROUP_LIST, merge_tiles

BUILT_ON = ("tiles 7306c07e58aba309",)

BLOCK, FIRST_PLACE, LENGTH, ROOM = range(4)
LIST_FIELDS = 4
SIZES = 32
_SMALLEST = 4


@numba.njit(cache=True, error_model="numpy")
def places_needed(state: State, slots: Ints, is_update: Bools) -> int:
    """More places than these updates can ask for, one new tile each."""
    needed = 0
    for row in range(slots.shape[0]):
        if not is_update[row]:
            continue
        slot = slots[row]
        needed += 8 * state.lists.shape[1]
        if state.last_row[slot] < 0:
            state.last_row[slot] = 0
            for number in range(state.lists.shape[1]):
                needed += 4 * state.lists[slot, number, ROOM]
    for slot in slots:
        state.last_row[slot] = -1
    return needed


@numba.njit(cache=True, error_model="numpy")
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


@numba.njit(cache=True, error_model="numpy")
def _free_block(blocks: Floats, free: Ints, block: int, room: int, place_width: int) -> None:
    size = 0
    while 1 << size < room:
        size += 1
    blocks[block * place_width] = free[1 + size]
    free[1 + size] = block


@numba.njit(cache=True, error_model="numpy")
def drop_before(state: State, slot: int, number: int, oldest_tile: int, place_width: int) -> None:
    """Let go of the tiles before ``oldest_tile``."""
    lists = state.lists
    length = lists[slot, number, LENGTH]
    if length == 0:
        return
    place = lists[slot, number, BLOCK] + lists[slot, number, FIRST_PLACE]
    dropped = 0
    while dropped < length and state.blocks[(place + dropped) * place_width] < oldest_tile:
        dropped += 1
    lists[slot, number, FIRST_PLACE] += dropped
    lists[slot, number, LENGTH] = length - dropped
    if dropped == length:
        block, room = lists[slot, number, BLOCK], lists[slot, number, ROOM]
        _free_block(state.blocks, state.free, block, room, place_width)
        lists[slot, number, BLOCK] = -1
        lists[slot, number, FIRST_PLACE] = lists[slot, number, ROOM] = 0


@numba.njit(cache=True, error_model="numpy")
def oldest(state: State, slot: int, number: int, place_width: int) -> int:
    """The oldest tile of a list; -1 if it is empty."""
    if state.lists[slot, number, LENGTH] == 0:
        return -1
    place = state.lists[slot, number, BLOCK] + state.lists[slot, number, FIRST_PLACE]
    return np.int64(state.blocks[place * place_width])


@numba.njit(cache=True, error_model="numpy")
def first_cell(state: State, slot: int, number: int, place_width: int) -> int:
    """Where in ``State.blocks`` the oldest tile of a list begins; others follow by place width."""
    lists = state.lists
    return (lists[slot, number, BLOCK] + lists[slot, number, FIRST_PLACE]) * place_width + 1


@numba.njit(cache=True, error_model="numpy")
def find_or_insert(
    state: State, slot: int, number: int, tile: int, place_width: int
) -> tuple[int, bool]:
    """(where in ``State.blocks`` the tile begins, whether it is new and holds nothing yet)."""
    lists, blocks = state.lists, state.blocks
    begin = lists[slot, number, BLOCK] + lists[slot, number, FIRST_PLACE]
    length = lists[slot, number, LENGTH]
    at = length
    while at > 0 and blocks[(begin + at - 1) * place_width] > tile:
        at -= 1
    if at > 0 and blocks[(begin + at - 1) * place_width] == tile:
        return (begin + at - 1) * place_width + 1, False
    if lists[slot, number, FIRST_PLACE] + length >= lists[slot, number, ROOM]:
        _make_room(state, slot, number, place_width)
        begin = lists[slot, number, BLOCK] + lists[slot, number, FIRST_PLACE]
    first, end = (begin + at) * place_width, (begin + length) * place_width
    for cell in range(end - 1, first - 1, -1):
        blocks[cell + place_width] = blocks[cell]
    blocks[first] = tile
    lists[slot, number, LENGTH] = length + 1
    return first + 1, True


@numba.njit(cache=True, error_model="numpy")
def _make_room(state: State, slot: int, number: int, place_width: int) -> None:
    """Move a list to the beginning of its block, or to a larger one if half of it is in use."""
    lists, blocks = state.lists, state.blocks
    block, room = lists[slot, number, BLOCK], lists[slot, number, ROOM]
    first, length = lists[slot, number, FIRST_PLACE], lists[slot, number, LENGTH]
    target = block
    if first < room // 2 or room == 0:
        larger = max(_SMALLEST, 2 * room)
        target = take_block(blocks, state.free, larger, place_width)
        lists[slot, number, BLOCK], lists[slot, number, ROOM] = target, larger
    begin, to = (block + first) * place_width, target * place_width
    for cell in range(length * place_width):
        blocks[to + cell] = blocks[begin + cell]
    lists[slot, number, FIRST_PLACE] = 0
    if target != block and room > 0:
        _free_block(blocks, state.free, block, room, place_width)


@numba.njit(cache=True, error_model="numpy")
def keep_short(state: State, shape: Shape, slot: int, g: int) -> bool:
    """If a list has become too long, make one of the two tiles that are nearest to each other."""
    lists, blocks, width = state.lists, state.blocks, shape.place_width
    number = shape.groups[g, GROUP_LIST]
    length = lists[slot, number, LENGTH]
    if length <= shape.exact_tiles_max:
        return False
    begin = (lists[slot, number, BLOCK] + lists[slot, number, FIRST_PLACE]) * width
    nearest, least = 0, np.inf
    for i in range(length - 1):
        gap = blocks[begin + (i + 1) * width] - blocks[begin + i * width]
        if gap < least:
            nearest, least = i, gap
    into, later = begin + nearest * width, begin + (nearest + 1) * width
    merge_tiles(blocks, into + 1, later + 1, g, shape.groups, shape.distinct_bits)
    blocks[into] = blocks[later]
    for cell in range(later, begin + (length - 1) * width):
        blocks[cell] = blocks[cell + width]
    lists[slot, number, LENGTH] = length - 1
    return True
