"""The inner loop: updates and reads of one view in order, compiled by numba.

What happens to one entity does not depend on the others, so each entity's rows are run one after
another: its state is fetched from memory once in a call, and of a view that keeps no history only
the last row need be computed.

Tile ``j`` of a ring of ``r`` tiles lies in cell ``j % r``; a ring holds the tiles
``(head - r, head]``. What stands in a cell counts only if its bit is set among the marks, so tiles
leave by their bits alone. Functions work on row ``slot`` of whole arrays: to cut the row out would
cost a count of references.

All compiled code and its constants are in this one module: numba keeps what it compiled until the
module that it is in changes, whatever became of the others.
"""

from __future__ import annotations

import numba
import numpy as np

from dataflows.windows.kernel_types import Batch, Floats, Ints, Output, Shape, State

NEVER = 2**62
# Entities whose next decay is looked for together.
_BLOCK_BITS = 6

COUNT, SUM, MEAN, MIN, MAX, LAST, LATEST = range(7)
# Statistics a tile can hold, in the order of the columns of ``Layout.groups`` from OFFSETS on.
N_STAT, SUM_STAT, MIN_STAT, MAX_STAT, LAST_STAT, LAST_TIME_STAT = range(6)
GROUP_COLUMN, GROUP_WINDOW, GROUP_BASE, GROUP_WORD, GROUP_LATEST, OFFSETS = range(6)
GROUP_WIDTH = OFFSETS + 6

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
def _align(marks: Ints, slot: int, time_us: int, windows: Ints, groups: Ints) -> None:
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
def _next_decay(marks: Ints, slot: int, windows: Ints, groups: Ints) -> int:
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
def _add(
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
def _compute(
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
    state: State, shape: Shape, slot: int, at_us: int, held: Floats, reads: Floats, row: int
) -> None:
    """What is known of an entity at a moment; what is not known, or too old, stays null."""
    stamp_us = state.stamped_at[slot]
    if stamp_us < 0 or (shape.ttl_us != 0 and at_us - stamp_us > shape.ttl_us):
        return
    windows, groups, features = shape.windows, shape.groups, shape.features
    _align(state.marks, slot, at_us, windows, groups)
    _compute(state.cells, state.marks, slot, windows, groups, features, held, reads, row)


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
    cells, marks, decay_at, stamped_at = state.cells, state.marks, state.decay_at, state.stamped_at
    windows, groups, features = shape.windows, shape.groups, shape.features
    next_row = np.empty(batch.slots.shape[0], np.int64)
    read_of = np.cumsum(~batch.is_update)
    n_reads = read_of[-1] if read_of.shape[0] else 0
    reads = np.full((n_reads, features.shape[0]), np.nan)
    entities = _entities(batch.slots, state, next_row, watermark_us)
    out = _output(entities.shape[0] + 16, features.shape[0])
    held = np.empty((groups.shape[0], 6))
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
                _read(state, shape, slot, at_us, held, reads, read_of[row] - 1)
                row = -1 if row == last else next_row[row]
                continue
            stamp_us = decay_at[slot] if decays else at_us + 1
            # A second cause with the same stamp shares the row.
            if is_open and shape.keeps_history and stamp_us != stamped_at[slot]:
                out = _with_room(out, used)
                out.slots[used], out.stamps_us[used] = slot, stamped_at[slot]
                _compute(cells, marks, slot, windows, groups, features, held, out.values, used)
                used += 1
            _align(marks, slot, stamp_us, windows, groups)
            if not decays:
                event_us = batch.event_us[row]
                leaves = _add(cells, marks, slot, event_us, batch.values, row, windows, groups)
                decay_at[slot] = min(decay_at[slot], leaves)
                row = -1 if row == last else next_row[row]
            if decay_at[slot] <= stamp_us:
                decay_at[slot] = _next_decay(marks, slot, windows, groups)
            stamped_at[slot] = stamp_us
            is_open = True
        if is_open:
            out = _with_room(out, used)
            out.slots[used], out.stamps_us[used] = slot, stamped_at[slot]
            _compute(cells, marks, slot, windows, groups, features, held, out.values, used)
            used += 1
        state.last_row[slot] = -1
        block = slot >> _BLOCK_BITS
        state.block_decay_at[block] = min(state.block_decay_at[block], decay_at[slot])
    soonest = state.block_decay_at.min() if state.block_decay_at.shape[0] else NEVER
    rows = Output(out.slots[:used], out.stamps_us[:used], out.values[:used])
    return rows, reads, soonest
