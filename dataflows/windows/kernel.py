"""The inner loop: updates and reads of one view in order, compiled by numba.

What happens to one entity does not depend on the others, so each entity's rows are run one after
another: its state is fetched from memory once in a call, and of a view that keeps no history only
the last row need be computed.

Tile ``j`` of a ring of ``r`` tiles lies in cell ``j % r``; a ring holds the tiles
``(head - r, head]``. What stands in a cell counts only if its bit is set among the marks, so tiles
leave by their bits alone. A window of too many tiles for a ring has a list of them, see ``lists``.
Functions work on row ``slot`` of whole arrays: to cut the row out would cost a count of references.
"""

from __future__ import annotations

import numba
import numpy as np

from dataflows.windows.kernel_types import Batch, Floats, Ints, Output, Scratch, Shape, State
from dataflows.windows.lists import (
    LENGTH,
    drop_before,
    find_or_insert,
    first_cell,
    keep_short,
    oldest,
)
from dataflows.windows.tiles import (
    GROUP_BASE,
    GROUP_COLUMN,
    GROUP_LATEST,
    GROUP_LIST,
    GROUP_WIDTH,
    GROUP_WINDOW,
    GROUP_WORD,
    STATS,
    add_value,
    fold,
    result,
)

BUILT_ON = ("lists 3dc243ab6f21113e", "tiles 7306c07e58aba309")

NEVER = 2**62
# Entities whose next decay is looked for together.
_BLOCK_BITS = 6

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
def _align(state: State, shape: Shape, slot: int, time_us: int) -> None:
    """Move the windows of an entity on to ``time_us``, dropping the tiles that left."""
    marks, windows, groups = state.marks, shape.windows, shape.groups
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
            if groups[g, GROUP_LIST] >= 0:
                first = head - tiles + 1
                drop_before(state, slot, groups[g, GROUP_LIST], first, shape.place_width)
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
def _next_decay(state: State, shape: Shape, slot: int) -> int:
    """The first hop boundary at which a tile that is not empty leaves its window."""
    marks, windows, groups = state.marks, shape.windows, shape.groups
    soonest = NEVER
    for g in range(groups.shape[0]):
        w, word = groups[g, GROUP_WINDOW], groups[g, GROUP_WORD]
        tiles, hop_us = windows[w, 0], windows[w, 1]
        if hop_us == 0:
            continue
        if groups[g, GROUP_LIST] >= 0:
            tile = oldest(state, slot, groups[g, GROUP_LIST], shape.place_width)
            if tile >= 0:
                soonest = min(soonest, (tile + tiles) * hop_us)
            continue
        last = marks[slot, w] - tiles + 1
        first = (marks[slot, w] + 1) % tiles
        cell = _next_held(marks, slot, word, first, tiles)
        if cell < 0:
            cell = _next_held(marks, slot, word, 0, first)
            if cell < 0:
                continue
            cell += tiles
        soonest = min(soonest, (last + cell - first + tiles) * hop_us)
    return soonest


@numba.njit(cache=True, error_model="numpy")
def _add(state: State, shape: Shape, slot: int, event_us: int, values: Floats, row: int) -> int:
    """Add one event to its tiles; return the first boundary at which one of them leaves.

    Tiles that became one leave later than one of them would have: then -1, all must be looked at.
    """
    marks, windows, groups = state.marks, shape.windows, shape.groups
    bits = shape.distinct_bits
    leaves = NEVER
    is_merged = False
    for g in range(groups.shape[0]):
        value = values[row, groups[g, GROUP_COLUMN]]
        if np.isnan(value) and groups[g, GROUP_LATEST] == 0:
            continue
        w = groups[g, GROUP_WINDOW]
        tiles, hop_us = windows[w, 0], windows[w, 1]
        cell = tile = 0
        if hop_us != 0:
            tile = event_us // hop_us
            if tile <= marks[slot, w] - tiles:
                continue
            leaves = min(leaves, (tile + tiles) * hop_us)
        number = groups[g, GROUP_LIST]
        if number >= 0:
            start, is_first = find_or_insert(state, slot, number, tile, shape.place_width)
            add_value(state.blocks, start, g, groups, value, event_us, is_first, bits)
            if keep_short(state, shape, slot, g):
                is_merged = True
            continue
        cell = tile % tiles
        word, bit = groups[g, GROUP_WORD] + (cell >> 6), np.int64(1) << (cell & 63)
        start = slot * shape.width + groups[g, GROUP_BASE] + cell * groups[g, GROUP_WIDTH]
        is_first = marks[slot, word] & bit == 0
        marks[slot, word] |= bit
        add_value(state.cells, start, g, groups, value, event_us, is_first, bits)
    return -1 if is_merged else leaves


@numba.njit(cache=True, error_model="numpy")
def _held_places(state: State, shape: Shape, slot: int, g: int, places: Ints) -> int:
    """Where the tiles of a group that hold anything begin, oldest first; how many there are."""
    groups, marks = shape.groups, state.marks
    number = groups[g, GROUP_LIST]
    if number >= 0:
        count = state.lists[slot, number, LENGTH]
        begin = first_cell(state, slot, number, shape.place_width)
        for i in range(count):
            places[i] = begin + i * shape.place_width
        return count
    w, word = groups[g, GROUP_WINDOW], groups[g, GROUP_WORD]
    begin, width = slot * shape.width + groups[g, GROUP_BASE], groups[g, GROUP_WIDTH]
    tiles = shape.windows[w, 0]
    first = (marks[slot, w] + 1) % tiles if shape.windows[w, 1] != 0 else 0
    count = 0
    low, high = first, tiles
    for _ in range(2):
        cell = _next_held(marks, slot, word, low, high)
        while cell >= 0:
            places[count] = begin + cell * width
            count += 1
            cell = _next_held(marks, slot, word, cell + 1, high)
        low, high = 0, first
    return count


@numba.njit(cache=True, error_model="numpy")
def _compute(
    state: State, shape: Shape, slot: int, scratch: Scratch, out: Floats, row: int
) -> None:
    """The features of an entity whose windows are aligned, into ``out[row]``."""
    groups, features = shape.groups, shape.features
    folded = -1
    for f in range(features.shape[0]):
        # In the order of their groups.
        g, function, place = features[f, 0], features[f, 1], features[f, 2]
        if g != folded:
            folded = g
            count = _held_places(state, shape, slot, g, scratch.places)
            if groups[g, GROUP_LIST] >= 0:
                fold(state.blocks, count, g, groups, shape.distinct_bits, scratch)
            else:
                fold(state.cells, count, g, groups, shape.distinct_bits, scratch)
        out[row, place] = result(function, scratch.held)


@numba.njit(cache=True)
def _scratch(shape: Shape) -> Scratch:
    most = max(shape.exact_tiles_max + 1, 1)
    for g in range(shape.groups.shape[0]):
        if shape.groups[g, GROUP_LIST] < 0:
            most = max(most, shape.windows[shape.groups[g, GROUP_WINDOW], 0])
    size = 1 << shape.distinct_bits
    return Scratch(
        np.empty(STATS), np.empty(most, np.int64), np.empty(2 * size), np.empty(size, np.int64)
    )


def block_decays(decay_at: Ints) -> Ints:
    """``State.block_decay_at`` of these ``decay_at``."""
    starts = np.arange(0, len(decay_at), 1 << _BLOCK_BITS)
    return np.minimum.reduceat(decay_at, starts) if len(starts) else decay_at.copy()


@numba.njit(cache=True)
def _output(rows: int, features: int) -> Output:
    return Output(np.empty(rows, np.int64), np.empty(rows, np.int64), np.empty((rows, features)))


@numba.njit(cache=True)
def _with_room(out: Output, used: int) -> Output:
    """The output with room for at least one row more."""
    if used < out.slots.shape[0]:
        return out
    new = _output(2 * used, out.values.shape[1])
    new.slots[:used], new.stamps_us[:used] = out.slots, out.stamps_us
    new.values[:used] = out.values
    return new


@numba.njit(cache=True)
def _entities(slots: Ints, state: State, next_row: Ints, watermark_us: int) -> Ints:
    """The entities that have rows, then those of the others that decay until the watermark.

    ``state.last_row`` becomes the last row of each entity, ``next_row`` the one that follows each
    row; the first follows the last.
    """
    decay_at, blocks, last_row = state.decay_at, state.block_decay_at, state.last_row
    entities = np.empty(slots.shape[0] + 64, np.int64)
    used = 0
    for row in range(slots.shape[0]):
        last = last_row[slots[row]]
        if last < 0:
            next_row[row] = row
            entities[used] = slots[row]
            used += 1
        else:
            next_row[row] = next_row[last]
            next_row[last] = row
        last_row[slots[row]] = row
    for block in range(blocks.shape[0]):
        if blocks[block] > watermark_us:
            continue
        begin = block << _BLOCK_BITS
        end = min(begin + (1 << _BLOCK_BITS), decay_at.shape[0])
        soonest = NEVER
        if used + end - begin > entities.shape[0]:
            grown = np.empty(2 * entities.shape[0], np.int64)
            grown[:used] = entities[:used]
            entities = grown
        for slot in range(begin, end):
            if decay_at[slot] > watermark_us:
                soonest = min(soonest, decay_at[slot])
            elif last_row[slot] < 0:
                entities[used] = slot
                used += 1
        # Those that are run now lower it again.
        blocks[block] = soonest
    return entities[:used]


@numba.njit(cache=True, error_model="numpy")
def _read(
    state: State, shape: Shape, slot: int, at_us: int, scratch: Scratch, reads: Floats, row: int
) -> None:
    """What is known of an entity at a moment; what is not known, or too old, stays null."""
    stamp_us = state.stamped_at[slot]
    if stamp_us < 0 or (shape.ttl_us != 0 and at_us - stamp_us > shape.ttl_us):
        return
    _align(state, shape, slot, at_us)
    _compute(state, shape, slot, scratch, reads, row)


@numba.njit(cache=True, error_model="numpy")
def advance(
    state: State,
    shape: Shape,
    batch: Batch,
    watermark_us: int,
) -> tuple[Output, Floats, int]:
    """Run updates and reads in the given order, then all decay up to the watermark.

    Returns the rows that came into being, in order of time for each entity (of a view that keeps no
    history only the last one), float64[reads, F], what the reads saw, in the order of the reads
    (NaN is null), and a time before which nothing decays.
    """
    decay_at, stamped_at = state.decay_at, state.stamped_at
    features = shape.features.shape[0]
    next_row = np.empty(batch.slots.shape[0], np.int64)
    read_of = np.cumsum(~batch.is_update)
    n_reads = read_of[-1] if read_of.shape[0] else 0
    reads = np.full((n_reads, features), np.nan)
    entities = _entities(batch.slots, state, next_row, watermark_us)
    out = _output(entities.shape[0] + 16, features)
    scratch = _scratch(shape)
    used = 0
    for slot in entities:
        last = state.last_row[slot]
        row = next_row[last] if last >= 0 else -1
        # Whether this call has given the entity a row, whose values are computed once it is over.
        is_open = False
        while True:
            at_us = watermark_us
            if row >= 0:
                at_us = batch.effective_us[row]
                if batch.is_update[row]:
                    # Its moment may have been settled when all was silent: then it is one step
                    # later than what was handed out, together with others that come as it does.
                    at_us = max(at_us, stamped_at[slot] - is_open)
            decays = decay_at[slot] <= at_us
            if not decays and row < 0:
                break
            if not decays and not batch.is_update[row]:
                _read(state, shape, slot, at_us, scratch, reads, read_of[row] - 1)
                row = -1 if row == last else next_row[row]
                continue
            stamp_us = decay_at[slot] if decays else at_us + 1
            # A second cause with the same stamp shares the row.
            if is_open and shape.keeps_history and stamp_us != stamped_at[slot]:
                out = _with_room(out, used)
                out.slots[used], out.stamps_us[used] = slot, stamped_at[slot]
                _compute(state, shape, slot, scratch, out.values, used)
                used += 1
            _align(state, shape, slot, stamp_us)
            if not decays:
                event_us = batch.event_us[row]
                leaves = _add(state, shape, slot, event_us, batch.values, row)
                decay_at[slot] = min(decay_at[slot], leaves)
                row = -1 if row == last else next_row[row]
            if decay_at[slot] <= stamp_us:
                decay_at[slot] = _next_decay(state, shape, slot)
            stamped_at[slot] = stamp_us
            is_open = True
        if is_open:
            out = _with_room(out, used)
            out.slots[used], out.stamps_us[used] = slot, stamped_at[slot]
            _compute(state, shape, slot, scratch, out.values, used)
            used += 1
            state.is_dirty[slot] = True
        state.last_row[slot] = -1
        block = slot >> _BLOCK_BITS
        state.block_decay_at[block] = min(state.block_decay_at[block], decay_at[slot])
    soonest = state.block_decay_at.min() if state.block_decay_at.shape[0] else NEVER
    rows = Output(out.slots[:used], out.stamps_us[:used], out.values[:used])
    return rows, reads, soonest
