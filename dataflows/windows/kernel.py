"""The inner loop: updates and reads of one view in order, compiled by numba.

What happens to one entity does not depend on the others, so each entity's rows are run one after
another: its state is fetched from memory once in a call, and of a view that keeps no history only
the last row need be computed. There what leaves before an update needs no turn, as it has no row.

Most views have rings only, and none of the rare statistics: for them ``State.lists`` is None, and
numba makes a kernel without the branches that ask for it, a third faster than the other.
Functions work on row ``slot`` of whole arrays: to cut the row out would cost a count of references,
and so does each array that is taken out of a tuple.
"""

from __future__ import annotations

import numpy as np

from dataflows.windows.ahead import fetch_ahead
from dataflows.windows.compiled import compiled, inlined
from dataflows.windows.kernel_types import (
    Advanced,
    Batch,
    Floats,
    Ints,
    Lists,
    Output,
    Shape,
    Sizes,
    State,
    Union,
)
from dataflows.windows.lists import (
    drop_before,
    find_or_insert,
    give_back,
    keep_short,
    list_places,
    oldest,
)
from dataflows.windows.rings import fold_ring, next_held, ring_places
from dataflows.windows.tiles import (
    GROUP_BASE,
    GROUP_COLUMN,
    GROUP_LATEST,
    GROUP_LIST,
    GROUP_WIDTH,
    GROUP_WINDOW,
    GROUP_WORD,
    STATS,
    add_common,
    add_value,
    fold,
    result,
)
from dataflows.windows.turns import (
    NEVER,
    entities_to_run,
    make_output,
    settle,
    soonest,
    with_room,
)


@inlined
def _align(
    marks: Ints,
    lists: Lists | None,
    slot: int,
    time_us: int,
    windows: Ints,
    groups: Ints,
    sizes: Sizes,
) -> None:
    """Move the windows of an entity on to ``time_us``, dropping the tiles that left."""
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
            if lists is not None and groups[g, GROUP_LIST] >= 0:
                first = head - tiles + 1
                drop_before(lists, slot, groups[g, GROUP_LIST], first, sizes.place_width)
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


@inlined
def _next_decay(
    marks: Ints, lists: Lists | None, slot: int, windows: Ints, groups: Ints, sizes: Sizes
) -> int:
    """The first hop boundary at which a tile that is not empty leaves its window."""
    soonest = NEVER
    for g in range(groups.shape[0]):
        w, word = groups[g, GROUP_WINDOW], groups[g, GROUP_WORD]
        tiles, hop_us = windows[w, 0], windows[w, 1]
        if hop_us == 0:
            continue
        if lists is not None and groups[g, GROUP_LIST] >= 0:
            tile = oldest(lists, slot, groups[g, GROUP_LIST], sizes.place_width)
            if tile >= 0:
                soonest = min(soonest, (tile + tiles) * hop_us)
            continue
        last = marks[slot, w] - tiles + 1
        first = (marks[slot, w] + 1) % tiles
        cell = next_held(marks, slot, word, first, tiles)
        if cell < 0:
            cell = next_held(marks, slot, word, 0, first)
            if cell < 0:
                continue
            cell += tiles
        soonest = min(soonest, (last + cell - first + tiles) * hop_us)
    return soonest


@inlined
def _last_decay(
    marks: Ints, slot: int, first_us: int, until_us: int, windows: Ints, groups: Ints
) -> int:
    """The last moment until then at which a tile leaves a ring; one does at ``first_us``."""
    last_us = first_us
    for g in range(groups.shape[0]):
        w, word = groups[g, GROUP_WINDOW], groups[g, GROUP_WORD]
        tiles, hop_us = windows[w, 0], windows[w, 1]
        if hop_us == 0:
            continue
        first = (marks[slot, w] + 1) % tiles
        oldest = marks[slot, w] - tiles + 1
        # Those that leave until then are the ring's oldest.
        leaving = min(until_us // hop_us - tiles - oldest + 1, tiles)
        begin, end, tile = first, min(first + leaving, tiles), oldest - first
        for _ in range(2):
            cell = next_held(marks, slot, word, begin, end)
            while cell >= 0:
                last_us = max(last_us, (tile + cell + tiles) * hop_us)
                cell = next_held(marks, slot, word, cell + 1, end)
            begin, end, tile = 0, first + leaving - tiles, oldest - first + tiles
    return last_us


@inlined
def _add(
    cells: Floats,
    marks: Ints,
    lists: Lists | None,
    slot: int,
    event_us: int,
    values: Floats,
    row: int,
    windows: Ints,
    groups: Ints,
    sizes: Sizes,
) -> int:
    """Add one event to its tiles; return the first boundary at which one of them leaves.

    Tiles that became one leave later than one of them would have: then -1, all must be looked at.
    """
    leaves = NEVER
    is_merged = False
    for g in range(groups.shape[0]):
        value = values[row, groups[g, GROUP_COLUMN]]
        if np.isnan(value) and groups[g, GROUP_LATEST] == 0:
            continue
        w = groups[g, GROUP_WINDOW]
        tiles, hop_us = windows[w, 0], windows[w, 1]
        tile = 0
        if hop_us != 0:
            tile = event_us // hop_us
            if tile <= marks[slot, w] - tiles:
                continue
            leaves = min(leaves, (tile + tiles) * hop_us)
        if lists is not None and groups[g, GROUP_LIST] >= 0:
            number = groups[g, GROUP_LIST]
            start, is_first = find_or_insert(lists, slot, number, tile, sizes.place_width)
            add_value(
                lists.blocks, start, g, groups, value, event_us, is_first, sizes.distinct_bits
            )
            if keep_short(lists, slot, g, groups, sizes):
                is_merged = True
            continue
        cell = tile % tiles
        word, bit = groups[g, GROUP_WORD] + (cell >> 6), np.int64(1) << (cell & 63)
        start = slot * sizes.width + groups[g, GROUP_BASE] + cell * groups[g, GROUP_WIDTH]
        is_first = marks[slot, word] & bit == 0
        marks[slot, word] |= bit
        if lists is None:
            add_common(cells, start, g, groups, value, event_us, is_first)
        else:
            add_value(cells, start, g, groups, value, event_us, is_first, sizes.distinct_bits)
    return -1 if is_merged else leaves


@compiled
def _fold_any(
    cells: Floats,
    marks: Ints,
    lists: Lists,
    slot: int,
    g: int,
    windows: Ints,
    groups: Ints,
    sizes: Sizes,
    held: Floats,
    places: Ints,
    union: Union,
) -> None:
    """What the tiles of a group hold together, into ``held``."""
    if groups[g, GROUP_LIST] >= 0:
        count = list_places(lists, slot, groups[g, GROUP_LIST], sizes.place_width, places)
        fold(lists.blocks, places, count, g, groups, sizes.distinct_bits, held, union)
    else:
        count = ring_places(marks, slot, g, windows, groups, sizes.width, places)
        fold(cells, places, count, g, groups, sizes.distinct_bits, held, union)


@inlined
def _compute(
    cells: Floats,
    marks: Ints,
    lists: Lists | None,
    slot: int,
    windows: Ints,
    groups: Ints,
    features: Ints,
    sizes: Sizes,
    held: Floats,
    places: Ints,
    union: Union,
    out: Floats,
    row: int,
) -> None:
    """The features of an entity whose windows are aligned, into ``out[row]``."""
    folded = -1
    for f in range(features.shape[0]):
        # They stand in the order of their groups.
        g = features[f, 0]
        if g != folded:
            folded = g
            if lists is None:
                fold_ring(cells, marks, slot, g, windows, groups, sizes.width, held)
            else:
                _fold_any(cells, marks, lists, slot, g, windows, groups, sizes, held, places, union)
        out[row, features[f, 2]] = result(features[f, 1], held)


@compiled
def _room(windows: Ints, groups: Ints, sizes: Sizes) -> tuple[Floats, Ints, Union]:
    """Room to work in: for what a group holds, for places of its tiles, and for its sets."""
    most = sizes.exact_tiles_max + 1
    for g in range(groups.shape[0]):
        if groups[g, GROUP_LIST] < 0:
            most = max(most, windows[groups[g, GROUP_WINDOW], 0])
    registers = 1 << sizes.distinct_bits
    union = Union(np.empty(2 * registers), np.empty(registers, np.int64))
    return np.empty(STATS), np.empty(most, np.int64), union


@compiled
def _is_known(stamp_us: int, at_us: int, ttl_us: int) -> bool:
    """Whether a read at ``at_us`` sees an entity whose newest row has that stamp."""
    return stamp_us >= 0 and (ttl_us == 0 or at_us - stamp_us <= ttl_us)


@compiled
def advance(state: State, shape: Shape, batch: Batch, watermark_us: int) -> Advanced:
    """Run updates and reads in the given order, then all decay up to the watermark."""
    cells, marks, lists = state.cells, state.marks, state.lists
    decay_at, stamped_at = state.decay_at, state.stamped_at
    windows, groups, features, sizes = shape.windows, shape.groups, shape.features, shape.sizes
    next_row = np.empty(batch.slots.shape[0], np.int64)
    read_of = np.cumsum(~batch.is_update)
    n_reads = read_of[-1] if read_of.shape[0] else 0
    reads = np.full((n_reads, features.shape[0]), np.nan)
    used, entities = 0, entities_to_run(batch.slots, state, next_row, watermark_us)
    out = make_output(entities.shape[0] + 16, features.shape[0])
    held, places, union = _room(windows, groups, sizes)
    for turn in range(entities.shape[0]):
        slot = entities[turn]
        fetch_ahead(cells, marks, decay_at, stamped_at, entities, turn, groups, sizes.width)
        last = state.last_row[slot]
        row = next_row[last] if last >= 0 else -1
        # Whether this call has given the entity a row, whose values are computed once it is over.
        is_open = False
        while True:
            at_us = watermark_us if row < 0 else batch.effective_us[row]
            if row >= 0 and batch.is_update[row]:
                # Its moment may have been settled when all was silent: then it is one step later
                # than what was handed out, together with others that come as it does.
                at_us = max(at_us, stamped_at[slot] - is_open)
            has_turn = shape.keeps_history or row < 0 or not batch.is_update[row]
            decays = has_turn and decay_at[slot] <= at_us
            is_over = not decays and row < 0
            if not is_over and not decays and not batch.is_update[row]:
                if _is_known(stamped_at[slot], at_us, shape.ttl_us):
                    _align(marks, lists, slot, at_us, windows, groups, sizes)
                    _compute(
                        cells, marks, lists, slot, windows, groups, features, sizes,
                        held, places, union, reads, read_of[row] - 1,
                    )  # fmt: skip
                row = -1 if row == last else next_row[row]
                continue
            stamp_us = decay_at[slot] if decays else at_us + 1
            if lists is None and decays and not shape.keeps_history:
                stamp_us = _last_decay(marks, slot, stamp_us, at_us, windows, groups)
            # A second cause with the same stamp shares the row.
            is_other = shape.keeps_history and stamp_us != stamped_at[slot]
            if is_open and (is_over or is_other):
                out = with_room(out, used)
                out.slots[used], out.stamps_us[used] = slot, stamped_at[slot]
                _compute(
                    cells, marks, lists, slot, windows, groups, features, sizes,
                    held, places, union, out.values, used,
                )  # fmt: skip
                used += 1
            if is_over:
                break
            _align(marks, lists, slot, stamp_us, windows, groups, sizes)
            if not decays:
                leaves = _add(
                    cells, marks, lists, slot, batch.event_us[row], batch.values, row,
                    windows, groups, sizes,
                )  # fmt: skip
                decay_at[slot] = min(decay_at[slot], leaves)
                row = -1 if row == last else next_row[row]
            if decay_at[slot] <= stamp_us:
                decay_at[slot] = _next_decay(marks, lists, slot, windows, groups, sizes)
            stamped_at[slot] = stamp_us
            is_open = True
        settle(state.block_decay_at, state.last_row, slot, decay_at[slot])
        give_back(lists, slot, sizes.place_width)
        if is_open:
            state.is_dirty[slot] = True
    rows = Output(out.slots[:used], out.stamps_us[:used], out.values[:used])
    return Advanced(rows, reads, soonest(state))
