"""Tiles in a ring, compiled: which cells hold anything, and what they hold together.

Tile ``j`` of a ring of ``r`` tiles lies in cell ``j % r``; a ring holds the tiles
``(head - r, head]``. What stands in a cell counts only if its bit is set among the marks.
"""

from __future__ import annotations

import numpy as np

from dataflows.windows.compiled import compiled, inlined
from dataflows.windows.kernel_types import Floats, Ints
from dataflows.windows.tiles import (
    GROUP_BASE,
    GROUP_WIDTH,
    GROUP_WINDOW,
    GROUP_WORD,
    LAST_STAT,
    MAX_STAT,
    MIN_STAT,
    N_STAT,
    OFFSETS,
    SUM_STAT,
)

# Multiplied by a power of two, this number has another six bits at its top for each of the 64.
_DE_BRUIJN = 0x03F79D71B4CB0A89
_PLACE = np.zeros(64, np.int64)
for _bit in range(64):
    _PLACE[(_DE_BRUIJN << _bit & 2**64 - 1) >> 58] = _bit


@inlined
def next_held(marks: Ints, slot: int, word: int, begin: int, end: int) -> int:
    """The first cell of ``begin..end-1`` that holds anything; -1 if none does."""
    if begin >= end:
        return -1
    place = begin >> 6
    bits = marks[slot, word + place] >> (begin & 63)
    cell = begin
    while bits == 0:
        place += 1
        cell = place << 6
        if cell >= end:
            return -1
        bits = marks[slot, word + place]
    cell += _PLACE[((bits & -bits) * _DE_BRUIJN >> 58) & 63]
    return cell if cell < end else -1


@compiled
def ring_places(
    marks: Ints, slot: int, g: int, windows: Ints, groups: Ints, width: int, places: Ints
) -> int:
    """Where the tiles of a ring that hold anything begin, oldest first; how many there are."""
    w, word = groups[g, GROUP_WINDOW], groups[g, GROUP_WORD]
    begin, tile_width = slot * width + groups[g, GROUP_BASE], groups[g, GROUP_WIDTH]
    tiles = windows[w, 0]
    first = (marks[slot, w] + 1) % tiles if windows[w, 1] != 0 else 0
    count = 0
    low, high = first, tiles
    for _ in range(2):
        cell = next_held(marks, slot, word, low, high)
        while cell >= 0:
            places[count] = begin + cell * tile_width
            count += 1
            cell = next_held(marks, slot, word, cell + 1, high)
        low, high = 0, first
    return count


@inlined
def fold_ring(
    cells: Floats,
    marks: Ints,
    slot: int,
    g: int,
    windows: Ints,
    groups: Ints,
    width: int,
    held: Floats,
) -> None:
    """As ``tiles.fold`` of a ring whose tiles have no rare statistics, in one go."""
    w, word = groups[g, GROUP_WINDOW], groups[g, GROUP_WORD]
    begin, tile_width = slot * width + groups[g, GROUP_BASE], groups[g, GROUP_WIDTH]
    tiles = windows[w, 0]
    first = (marks[slot, w] + 1) % tiles if windows[w, 1] != 0 else 0
    at_count = groups[g, OFFSETS + N_STAT]
    at_sum = groups[g, OFFSETS + SUM_STAT]
    at_min = groups[g, OFFSETS + MIN_STAT]
    at_max = groups[g, OFFSETS + MAX_STAT]
    at_last = groups[g, OFFSETS + LAST_STAT]
    number, total, low, high, last = 0.0, 0.0, np.inf, -np.inf, np.nan
    begin_cell, end_cell = first, tiles
    for _ in range(2):
        cell = next_held(marks, slot, word, begin_cell, end_cell)
        while cell >= 0:
            start = begin + cell * tile_width
            number += cells[start + at_count]
            if at_sum >= 0:
                total += cells[start + at_sum]
            if at_min >= 0:
                low = min(low, cells[start + at_min])
            if at_max >= 0:
                high = max(high, cells[start + at_max])
            if at_last >= 0:
                last = cells[start + at_last]
            cell = next_held(marks, slot, word, cell + 1, end_cell)
        begin_cell, end_cell = 0, first
    held[N_STAT], held[SUM_STAT], held[LAST_STAT] = number, total, last
    held[MIN_STAT], held[MAX_STAT] = low, high
