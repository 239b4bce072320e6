"""The rings of one entity: which tiles they hold, adding an event, folding them into features.

Every function works on row ``slot`` of the arrays of ``kernel.State``. Tile ``j`` of a ring of
``r`` tiles lies in cell ``j % r``; a ring holds the tiles ``(head - r, head]``. What stands in a
cell counts only if its bit is set among the marks, so tiles leave by their bits alone. Rows are not
cut out of the arrays: each such view costs a count of references.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from dataflows.windows.layout import (
    COUNT,
    GROUP_BASE,
    GROUP_COLUMN,
    GROUP_LATEST,
    GROUP_WIDTH,
    GROUP_WINDOW,
    GROUP_WORD,
    LAST_STAT,
    LAST_TIME_STAT,
    MAX,
    MAX_STAT,
    MEAN,
    MIN,
    MIN_STAT,
    N_STAT,
    OFFSETS,
    SUM,
    SUM_STAT,
)

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

NEVER = 2**62


# Multiplied by a power of two, this number has another six bits at its top for each of the 64.
_DE_BRUIJN = 0x03F79D71B4CB0A89
_PLACE = np.zeros(64, np.int64)
for _bit in range(64):
    _PLACE[(_DE_BRUIJN << _bit & 2**64 - 1) >> 58] = _bit


@numba.njit(cache=True, error_model="numpy")
def _next_held(marks: Ints, slot: int, word: int, begin: int, end: int) -> int:
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


@numba.njit(cache=True, error_model="numpy")
def align(marks: Ints, slot: int, time_us: int, windows: Ints, groups: Ints) -> None:
    """Move the rings of an entity on to ``time_us``, dropping the tiles that left."""
    for w in range(windows.shape[0]):
        tiles, hop_us = windows[w, 0], windows[w, 1]
        old = marks[slot, w]
        if hop_us == 0 or time_us < (old + 1) * hop_us:
            continue
        head = time_us // hop_us
        marks[slot, w] = head
        for g in range(groups.shape[0]):
            if groups[g, GROUP_WINDOW] != w:
                continue
            word = groups[g, GROUP_WORD]
            if head - old >= tiles:
                for k in range(word, word + ((tiles + 63) >> 6)):
                    marks[slot, k] = 0
                continue
            cell = (old + 1) % tiles
            for _ in range(head - old):
                marks[slot, word + (cell >> 6)] &= ~(np.int64(1) << (cell & 63))
                cell += 1
                if cell == tiles:
                    cell = 0


@numba.njit(cache=True, error_model="numpy")
def next_decay(marks: Ints, slot: int, windows: Ints, groups: Ints) -> int:
    """The first hop boundary at which a tile that is not empty leaves its window."""
    soonest = NEVER
    for g in range(groups.shape[0]):
        w, word = groups[g, GROUP_WINDOW], groups[g, GROUP_WORD]
        tiles, hop_us = windows[w, 0], windows[w, 1]
        if hop_us == 0:
            continue
        oldest = marks[slot, w] - tiles + 1
        first = (marks[slot, w] + 1) % tiles
        cell = _next_held(marks, slot, word, first, tiles)
        if cell < 0:
            cell = _next_held(marks, slot, word, 0, first)
            if cell < 0:
                continue
            cell += tiles
        soonest = min(soonest, (oldest + cell - first + tiles) * hop_us)
    return soonest


@numba.njit(cache=True, error_model="numpy")
def _add_to_tile(
    cells: Floats,
    slot: int,
    start: int,
    g: int,
    groups: Ints,
    value: float,
    event_us: int,
    is_first: bool,  # noqa: FBT001
) -> None:
    """Add a value to the tile that begins at ``start``; what stood there is void if it is first."""
    count = start + groups[g, OFFSETS + N_STAT]
    cells[slot, count] = 1.0 if is_first else cells[slot, count] + 1.0
    at = groups[g, OFFSETS + SUM_STAT]
    if at >= 0:
        # Not the value itself: a negative zero is not what the first sum gives.
        cells[slot, start + at] = (0.0 if is_first else cells[slot, start + at]) + value
    at = groups[g, OFFSETS + MIN_STAT]
    if at >= 0:
        cells[slot, start + at] = value if is_first else min(cells[slot, start + at], value)
    at = groups[g, OFFSETS + MAX_STAT]
    if at >= 0:
        cells[slot, start + at] = value if is_first else max(cells[slot, start + at], value)
    at = groups[g, OFFSETS + LAST_STAT]
    if at >= 0:
        # A late event is the last one only if nothing newer came.
        time = start + groups[g, OFFSETS + LAST_TIME_STAT]
        if is_first or event_us >= cells[slot, time]:
            cells[slot, start + at] = value
            cells[slot, time] = event_us


@numba.njit(cache=True, error_model="numpy")
def add(
    cells: Floats,
    marks: Ints,
    slot: int,
    event_us: int,
    values: Floats,
    row: int,
    windows: Ints,
    groups: Ints,
) -> int:
    """Add one event to its tiles; return the first boundary at which one of them leaves."""
    leaves = NEVER
    for g in range(groups.shape[0]):
        value = values[row, groups[g, GROUP_COLUMN]]
        if np.isnan(value) and groups[g, GROUP_LATEST] == 0:
            continue
        w = groups[g, GROUP_WINDOW]
        tiles, hop_us = windows[w, 0], windows[w, 1]
        cell = 0
        if hop_us != 0:
            tile = event_us // hop_us
            if tile <= marks[slot, w] - tiles:
                continue
            cell = tile % tiles
            leaves = min(leaves, (tile + tiles) * hop_us)
        word, bit = groups[g, GROUP_WORD] + (cell >> 6), np.int64(1) << (cell & 63)
        start = groups[g, GROUP_BASE] + cell * groups[g, GROUP_WIDTH]
        is_first = marks[slot, word] & bit == 0
        marks[slot, word] |= bit
        _add_to_tile(cells, slot, start, g, groups, value, event_us, is_first)
    return leaves


@numba.njit(cache=True, error_model="numpy")
def _fold(
    cells: Floats, marks: Ints, slot: int, g: int, windows: Ints, groups: Ints, held: Floats
) -> None:
    """Fold the ring of one group, oldest tile first, into ``held[g]``, one place a statistic."""
    w, word, base = groups[g, GROUP_WINDOW], groups[g, GROUP_WORD], groups[g, GROUP_BASE]
    tiles, width = windows[w, 0], groups[g, GROUP_WIDTH]
    at_count = base + groups[g, OFFSETS + N_STAT]
    at_sum = groups[g, OFFSETS + SUM_STAT]
    at_min = groups[g, OFFSETS + MIN_STAT]
    at_max = groups[g, OFFSETS + MAX_STAT]
    at_last = groups[g, OFFSETS + LAST_STAT]
    first = (marks[slot, w] + 1) % tiles if windows[w, 1] != 0 else 0
    count, total, low, high, last = 0.0, 0.0, np.inf, -np.inf, np.nan
    begin, end = first, tiles
    for _ in range(2):
        cell = _next_held(marks, slot, word, begin, end)
        while cell >= 0:
            start = cell * width
            count += cells[slot, at_count + start]
            start += base
            if at_sum >= 0:
                total += cells[slot, start + at_sum]
            if at_min >= 0:
                low = min(low, cells[slot, start + at_min])
            if at_max >= 0:
                high = max(high, cells[slot, start + at_max])
            if at_last >= 0:
                last = cells[slot, start + at_last]
            cell = _next_held(marks, slot, word, cell + 1, end)
        begin, end = 0, first
    held[g, N_STAT], held[g, SUM_STAT], held[g, LAST_STAT] = count, total, last
    held[g, MIN_STAT], held[g, MAX_STAT] = low, high


@numba.njit(cache=True, error_model="numpy")
def compute(
    cells: Floats,
    marks: Ints,
    slot: int,
    windows: Ints,
    groups: Ints,
    features: Ints,
    held: Floats,
    out: Floats,
    row: int,
) -> None:
    """The features of an entity whose rings are aligned, into ``out[row]``."""
    for g in range(groups.shape[0]):
        _fold(cells, marks, slot, g, windows, groups, held)
    for f in range(features.shape[0]):
        g, function = features[f, 0], features[f, 1]
        if function == COUNT:
            out[row, f] = held[g, N_STAT]
        elif held[g, N_STAT] == 0:
            out[row, f] = np.nan
        elif function == SUM:
            out[row, f] = held[g, SUM_STAT]
        elif function == MEAN:
            out[row, f] = held[g, SUM_STAT] / held[g, N_STAT]
        elif function == MIN:
            out[row, f] = held[g, MIN_STAT]
        elif function == MAX:
            out[row, f] = held[g, MAX_STAT]
        else:
            out[row, f] = held[g, LAST_STAT]
