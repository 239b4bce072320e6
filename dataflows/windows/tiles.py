"""What one tile holds, compiled: adding a value to it, and what several of them hold together.

A group's row in ``Layout.groups`` says which statistics its tiles hold, and where in the tile.
"""

from __future__ import annotations

import numpy as np

from dataflows.windows.compiled import compiled, inlined
from dataflows.windows.distinct import count_union, set_add, set_merge, set_size
from dataflows.windows.kernel_types import Floats, Ints, Union

COUNT, SUM, MEAN, MIN, MAX, VAR, STD, FIRST, LAST, DISTINCT, LATEST = range(11)
# Statistics a tile can hold, in the order of the columns of ``Layout.groups`` from OFFSETS on; the
# rare ones from FIRST_STAT on. A set of distinct values has no fixed size and stands last.
(
    N_STAT,
    SUM_STAT,
    MIN_STAT,
    MAX_STAT,
    LAST_STAT,
    LAST_TIME_STAT,
    FIRST_STAT,
    FIRST_TIME_STAT,
    MEAN_STAT,
    M2_STAT,
    SET_STAT,
) = range(11)
STATS = 11
(
    GROUP_COLUMN,
    GROUP_WINDOW,
    GROUP_BASE,
    GROUP_WORD,
    GROUP_LIST,
    GROUP_LATEST,
    GROUP_WIDTH,
    OFFSETS,
) = range(8)


@inlined
def add_common(
    cells: Floats,
    start: int,
    g: int,
    groups: Ints,
    value: float,
    event_us: int,
    is_first: bool,  # noqa: FBT001
) -> None:
    """As ``add_value``, of tiles that have no rare statistics."""
    at_count = start + groups[g, OFFSETS + N_STAT]
    cells[at_count] = 1.0 if is_first else cells[at_count] + 1.0
    at = groups[g, OFFSETS + SUM_STAT]
    if at >= 0:
        # Not the value itself: a negative zero is not what the first sum gives.
        cells[start + at] = (0.0 if is_first else cells[start + at]) + value
    at = groups[g, OFFSETS + MIN_STAT]
    if at >= 0:
        cells[start + at] = value if is_first else min(cells[start + at], value)
    at = groups[g, OFFSETS + MAX_STAT]
    if at >= 0:
        cells[start + at] = value if is_first else max(cells[start + at], value)
    at = groups[g, OFFSETS + LAST_STAT]
    if at >= 0:
        # A late event is the last one only if nothing newer came.
        time = start + groups[g, OFFSETS + LAST_TIME_STAT]
        if is_first or event_us >= cells[time]:
            cells[start + at] = value
            cells[time] = event_us


@compiled
def add_value(
    cells: Floats,
    start: int,
    g: int,
    groups: Ints,
    value: float,
    event_us: int,
    is_first: bool,  # noqa: FBT001
    bits: int,
) -> None:
    """Add a value to the tile that begins at ``start``; what stood there is void if it is first."""
    add_common(cells, start, g, groups, value, event_us, is_first)
    at = groups[g, OFFSETS + FIRST_STAT]
    if at >= 0:
        time = start + groups[g, OFFSETS + FIRST_TIME_STAT]
        if is_first or event_us < cells[time]:
            cells[start + at] = value
            cells[time] = event_us
    at = groups[g, OFFSETS + MEAN_STAT]
    if at >= 0:
        at_m2 = start + groups[g, OFFSETS + M2_STAT]
        count = cells[start + groups[g, OFFSETS + N_STAT]]
        mean = 0.0 if is_first else cells[start + at]
        step = value - mean
        mean += step / count
        cells[start + at] = mean
        cells[at_m2] = (0.0 if is_first else cells[at_m2]) + step * (value - mean)
    at = groups[g, OFFSETS + SET_STAT]
    if at >= 0:
        if is_first:
            cells[start + at] = 0.0
        set_add(cells, start + at, value, bits)


@compiled
def merge_tiles(cells: Floats, into: int, later: int, g: int, groups: Ints, bits: int) -> None:
    """Put what the tile at ``later`` holds to what the one before it, at ``into``, does."""
    at_count = groups[g, OFFSETS + N_STAT]
    before, added = cells[into + at_count], cells[later + at_count]
    cells[into + at_count] = before + added
    at = groups[g, OFFSETS + SUM_STAT]
    if at >= 0:
        cells[into + at] += cells[later + at]
    at = groups[g, OFFSETS + MIN_STAT]
    if at >= 0:
        cells[into + at] = min(cells[into + at], cells[later + at])
    at = groups[g, OFFSETS + MAX_STAT]
    if at >= 0:
        cells[into + at] = max(cells[into + at], cells[later + at])
    at = groups[g, OFFSETS + LAST_STAT]
    if at >= 0:
        cells[into + at] = cells[later + at]
        at = groups[g, OFFSETS + LAST_TIME_STAT]
        cells[into + at] = cells[later + at]
    at = groups[g, OFFSETS + FIRST_STAT]
    if at >= 0:
        # A tile that was put together may hold what is older than the tile before it.
        at_time = groups[g, OFFSETS + FIRST_TIME_STAT]
        if cells[later + at_time] < cells[into + at_time]:
            cells[into + at] = cells[later + at]
            cells[into + at_time] = cells[later + at_time]
    at = groups[g, OFFSETS + MEAN_STAT]
    if at >= 0:
        at_m2 = groups[g, OFFSETS + M2_STAT]
        step, count = cells[later + at] - cells[into + at], before + added
        cells[into + at] += step * added / count
        cells[into + at_m2] += cells[later + at_m2] + step * step * before * added / count
    at = groups[g, OFFSETS + SET_STAT]
    if at >= 0:
        set_merge(cells, into + at, later + at, bits)


@compiled
def tile_size(cells: Floats, start: int, g: int, groups: Ints, bits: int) -> int:
    """Doubles that the tile at ``start`` uses; the others of its width mean nothing."""
    at = groups[g, OFFSETS + SET_STAT]
    return groups[g, GROUP_WIDTH] if at < 0 else at + set_size(cells, start + at, bits)


@compiled
def fold(
    cells: Floats,
    places: Ints,
    count: int,
    g: int,
    groups: Ints,
    bits: int,
    held: Floats,
    union: Union,
) -> None:
    """Put together the tiles at the first ``count`` of ``places``, oldest first.

    ``held`` gets what they hold, one place a statistic; that of a set is the number of its values.
    """
    at_count = groups[g, OFFSETS + N_STAT]
    at_sum = groups[g, OFFSETS + SUM_STAT]
    at_min = groups[g, OFFSETS + MIN_STAT]
    at_max = groups[g, OFFSETS + MAX_STAT]
    at_last = groups[g, OFFSETS + LAST_STAT]
    number, total, low, high, last = 0.0, 0.0, np.inf, -np.inf, np.nan
    for i in range(count):
        start = places[i]
        number += cells[start + at_count]
        if at_sum >= 0:
            total += cells[start + at_sum]
        if at_min >= 0:
            low = min(low, cells[start + at_min])
        if at_max >= 0:
            high = max(high, cells[start + at_max])
        if at_last >= 0:
            last = cells[start + at_last]
    held[N_STAT], held[SUM_STAT], held[LAST_STAT] = number, total, last
    held[MIN_STAT], held[MAX_STAT] = low, high
    if count == 0:
        held[SET_STAT] = 0.0
        return
    at_first = groups[g, OFFSETS + FIRST_STAT]
    if at_first >= 0:
        at_time = groups[g, OFFSETS + FIRST_TIME_STAT]
        first = places[0]
        for i in range(1, count):
            if cells[places[i] + at_time] < cells[first + at_time]:
                first = places[i]
        held[FIRST_STAT] = cells[first + at_first]
    if groups[g, OFFSETS + MEAN_STAT] >= 0:
        _fold_spread(cells, places, count, g, groups, held)
    at_set = groups[g, OFFSETS + SET_STAT]
    if at_set >= 0:
        held[SET_STAT] = count_union(cells, places, count, at_set, bits, union)


@compiled
def _fold_spread(
    cells: Floats, places: Ints, count: int, g: int, groups: Ints, held: Floats
) -> None:
    """Mean and sum of squared differences of several tiles, by the formula of Chan et al."""
    at_count = groups[g, OFFSETS + N_STAT]
    at_mean, at_m2 = groups[g, OFFSETS + MEAN_STAT], groups[g, OFFSETS + M2_STAT]
    start = places[0]
    number, mean, m2 = cells[start + at_count], cells[start + at_mean], cells[start + at_m2]
    for i in range(1, count):
        start = places[i]
        added = cells[start + at_count]
        together = number + added
        step = cells[start + at_mean] - mean
        mean += step * added / together
        m2 += cells[start + at_m2] + step * step * number * added / together
        number = together
    held[MEAN_STAT], held[M2_STAT] = mean, m2


@inlined
def result(function: int, held: Floats) -> float:
    """What a function gives of what the tiles of its group hold; NaN is null."""
    count = held[N_STAT]
    if function == COUNT:
        return count
    if function == DISTINCT:
        return held[SET_STAT]
    if count == 0.0:
        return np.nan
    if function == SUM:
        return held[SUM_STAT]
    if function == MEAN:
        return held[SUM_STAT] / count
    if function == MIN:
        return held[MIN_STAT]
    if function == MAX:
        return held[MAX_STAT]
    if function == VAR:
        return held[M2_STAT] / count
    if function == STD:
        return np.sqrt(held[M2_STAT] / count)
    if function == FIRST:
        return held[FIRST_STAT]
    return held[LAST_STAT]
