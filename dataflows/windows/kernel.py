"""The inner loop: updates and reads of one view in order, compiled by numba.

Every function works on the arrays of ``ViewState`` (see there for their meaning). Tile ``j`` of a
ring of ``r`` tiles lies in cell ``j % r``; the ring of a window holds the tiles ``(head - r, head]``.
"""

from __future__ import annotations

import numba
import numpy as np

from dataflows.windows.layout import (
    COUNT,
    GROUP_BASE,
    GROUP_COLUMN,
    GROUP_LATEST,
    GROUP_WIDTH,
    GROUP_WINDOW,
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

NEVER = np.int64(2**62)


@numba.njit(cache=True)
def _clear_cell(cells, start, group):
    """Make one tile of one group empty."""
    for k in range(group[GROUP_WIDTH]):
        cells[start + k] = 0.0
    if group[OFFSETS + MIN_STAT] >= 0:
        cells[start + group[OFFSETS + MIN_STAT]] = np.inf
    if group[OFFSETS + MAX_STAT] >= 0:
        cells[start + group[OFFSETS + MAX_STAT]] = -np.inf


@numba.njit(cache=True)
def clear_rows(cells, first, last, windows, groups):
    """Make the state of the entities ``first..last-1`` empty."""
    for slot in range(first, last):
        for g in range(groups.shape[0]):
            group = groups[g]
            for cell in range(windows[group[GROUP_WINDOW], 0]):
                start = group[GROUP_BASE] + cell * group[GROUP_WIDTH]
                _clear_cell(cells[slot], start, group)


@numba.njit(cache=True)
def _align(cells, heads, time_us, windows, groups):
    """Move the rings of one entity on to ``time_us``, dropping the tiles that left."""
    for w in range(windows.shape[0]):
        tiles, hop_us = windows[w, 0], windows[w, 1]
        if hop_us == 0:
            continue
        head = time_us // hop_us
        if head <= heads[w]:
            continue
        first = max(heads[w] + 1, head - tiles + 1)
        for g in range(groups.shape[0]):
            group = groups[g]
            if group[GROUP_WINDOW] != w:
                continue
            for tile in range(first, head + 1):
                start = group[GROUP_BASE] + (tile % tiles) * group[GROUP_WIDTH]
                _clear_cell(cells, start, group)
        heads[w] = head


@numba.njit(cache=True)
def _next_decay(cells, heads, windows, groups):
    """The first hop boundary at which a tile that is not empty leaves its window."""
    soonest = NEVER
    for g in range(groups.shape[0]):
        group = groups[g]
        tiles, hop_us = windows[group[GROUP_WINDOW], 0], windows[group[GROUP_WINDOW], 1]
        if hop_us == 0:
            continue
        head = heads[group[GROUP_WINDOW]]
        for tile in range(head - tiles + 1, head + 1):
            start = group[GROUP_BASE] + (tile % tiles) * group[GROUP_WIDTH]
            if cells[start + group[OFFSETS + N_STAT]] > 0:
                soonest = min(soonest, (tile + tiles) * hop_us)
                break
    return soonest


@numba.njit(cache=True)
def _add(cells, heads, event_time_us, values, windows, groups):
    """Add one event to its tiles; return the first boundary at which one of them leaves."""
    leaves = NEVER
    for g in range(groups.shape[0]):
        group = groups[g]
        value = values[group[GROUP_COLUMN]]
        is_null = np.isnan(value)
        if is_null and group[GROUP_LATEST] == 0:
            continue
        tiles, hop_us = windows[group[GROUP_WINDOW], 0], windows[group[GROUP_WINDOW], 1]
        start = group[GROUP_BASE]
        if hop_us != 0:
            tile = event_time_us // hop_us
            if tile <= heads[group[GROUP_WINDOW]] - tiles:
                continue
            start += (tile % tiles) * group[GROUP_WIDTH]
            leaves = min(leaves, (tile + tiles) * hop_us)
        # The statistic of the last value is older than a late event only if nothing newer came.
        at = group[OFFSETS + LAST_STAT]
        if at >= 0:
            at_time = start + group[OFFSETS + LAST_TIME_STAT]
            if cells[start + group[OFFSETS + N_STAT]] == 0 or event_time_us >= cells[at_time]:
                cells[start + at] = value
                cells[at_time] = event_time_us
        cells[start + group[OFFSETS + N_STAT]] += 1
        at = group[OFFSETS + SUM_STAT]
        if at >= 0:
            cells[start + at] += value
        at = group[OFFSETS + MIN_STAT]
        if at >= 0:
            cells[start + at] = min(cells[start + at], value)
        at = group[OFFSETS + MAX_STAT]
        if at >= 0:
            cells[start + at] = max(cells[start + at], value)
    return leaves


@numba.njit(cache=True)
def _group_statistics(cells, heads, group, windows, out):
    """Fold the ring of one group, oldest tile first, into ``out`` (one place per statistic)."""
    tiles = windows[group[GROUP_WINDOW], 0]
    width = group[GROUP_WIDTH]
    first = 0
    if windows[group[GROUP_WINDOW], 1] != 0:
        first = (heads[group[GROUP_WINDOW]] + 1) % tiles
    has_sum = group[OFFSETS + SUM_STAT]
    has_min = group[OFFSETS + MIN_STAT]
    has_max = group[OFFSETS + MAX_STAT]
    has_last = group[OFFSETS + LAST_STAT]
    n, total, low, high, last = 0.0, 0.0, np.inf, -np.inf, np.nan
    cell = first
    for _ in range(tiles):
        start = group[GROUP_BASE] + cell * width
        held = cells[start + group[OFFSETS + N_STAT]]
        if held > 0:
            n += held
            if has_sum >= 0:
                total += cells[start + has_sum]
            if has_min >= 0:
                low = min(low, cells[start + has_min])
            if has_max >= 0:
                high = max(high, cells[start + has_max])
            if has_last >= 0:
                last = cells[start + has_last]
        cell += 1
        if cell == tiles:
            cell = 0
    out[N_STAT], out[SUM_STAT], out[MIN_STAT], out[MAX_STAT] = n, total, low, high
    out[LAST_STAT] = last


@numba.njit(cache=True)
def _values(cells, heads, windows, groups, features, statistics, out):
    """The features of one entity whose rings are aligned."""
    for g in range(groups.shape[0]):
        _group_statistics(cells, heads, groups[g], windows, statistics[g])
    for f in range(features.shape[0]):
        held, function = statistics[features[f, 0]], features[f, 1]
        if function == COUNT:
            out[f] = held[N_STAT]
        elif held[N_STAT] == 0:
            out[f] = np.nan
        elif function == SUM:
            out[f] = held[SUM_STAT]
        elif function == MEAN:
            out[f] = held[SUM_STAT] / held[N_STAT]
        elif function == MIN:
            out[f] = held[MIN_STAT]
        elif function == MAX:
            out[f] = held[MAX_STAT]
        else:
            out[f] = held[LAST_STAT]


@numba.njit(cache=True)
def _room(n, slots, stamps, values):
    """The three output arrays with room for row ``n``, grown when they are full."""
    if n < slots.shape[0]:
        return slots, stamps, values
    size = max(64, 2 * slots.shape[0])
    new_slots = np.empty(size, np.int64)
    new_stamps = np.empty(size, np.int64)
    new_values = np.empty((size, values.shape[1]))
    new_slots[:n], new_stamps[:n], new_values[:n] = slots[:n], stamps[:n], values[:n]
    return new_slots, new_stamps, new_values


@numba.njit(cache=True)
def advance(
    cells, heads, decay_at, stamped_at, row_of, windows, groups, features, ttl_us,
    slot, is_update, effective_us, event_us, event_values, watermark_us,
):  # fmt: skip
    """Run updates and reads in the given order, then all decay up to the watermark.

    Returns (slots, stamps, values) of the rows that came into being, several per entity, in no
    particular order, and the values that the reads saw, in the order of the reads.
    """
    n_reads = slot.shape[0] - is_update.sum()
    read_values = np.full((n_reads, features.shape[0]), np.nan)
    out_slots = np.empty(slot.shape[0] + 16, np.int64)
    out_stamps = np.empty(slot.shape[0] + 16, np.int64)
    out_values = np.empty((slot.shape[0] + 16, features.shape[0]))
    statistics = np.empty((groups.shape[0], 6))
    n_out = 0
    read = 0
    for i in range(slot.shape[0] + decay_at.shape[0]):
        if i < slot.shape[0]:
            s, until_us = slot[i], effective_us[i]
            if is_update[i]:
                # Its moment may have been settled when all was silent: then it is one step later
                # than what was handed out, and together with others that come as it does.
                until_us = max(until_us, stamped_at[s] - (row_of[s] >= 0))
        else:
            s, until_us = i - slot.shape[0], watermark_us
        while decay_at[s] <= until_us:
            boundary_us = decay_at[s]
            _align(cells[s], heads[s], boundary_us, windows, groups)
            out_slots, out_stamps, out_values = _room(n_out, out_slots, out_stamps, out_values)
            _values(cells[s], heads[s], windows, groups, features, statistics, out_values[n_out])
            # An update just before the boundary has the same stamp: one row for both.
            if not (stamped_at[s] == boundary_us and row_of[s] >= 0):
                out_slots[n_out], out_stamps[n_out] = s, boundary_us
                row_of[s] = n_out
                n_out += 1
            else:
                out_values[row_of[s]] = out_values[n_out]
            stamped_at[s] = boundary_us
            decay_at[s] = _next_decay(cells[s], heads[s], windows, groups)
        if i >= slot.shape[0]:
            continue
        if not is_update[i]:
            fresh = ttl_us == 0 or until_us - stamped_at[s] <= ttl_us
            if stamped_at[s] >= 0 and fresh:
                _align(cells[s], heads[s], until_us, windows, groups)
                _values(
                    cells[s], heads[s], windows, groups, features, statistics, read_values[read]
                )
            read += 1
            continue
        stamp = until_us + 1
        _align(cells[s], heads[s], stamp, windows, groups)
        leaves = _add(cells[s], heads[s], event_us[i], event_values[i], windows, groups)
        decay_at[s] = min(decay_at[s], leaves)
        if decay_at[s] <= stamp:
            decay_at[s] = _next_decay(cells[s], heads[s], windows, groups)
        out_slots, out_stamps, out_values = _room(n_out, out_slots, out_stamps, out_values)
        row = row_of[s] if stamped_at[s] == stamp and row_of[s] >= 0 else n_out
        _values(cells[s], heads[s], windows, groups, features, statistics, out_values[row])
        if row == n_out:
            out_slots[n_out], out_stamps[n_out] = s, stamp
            row_of[s] = n_out
            n_out += 1
        stamped_at[s] = stamp
    for k in range(n_out):
        row_of[out_slots[k]] = -1
    return out_slots[:n_out], out_stamps[:n_out], out_values[:n_out], read_values
