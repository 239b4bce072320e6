"""The inner loop: updates and reads of one view in order, compiled by numba.

What happens to one entity does not depend on the others, so each entity's rows are run one after
another: its state is fetched from memory once in a call, and of a view that keeps no history only
the last row need be computed.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from dataflows.windows.rings import NEVER as NEVER
from dataflows.windows.rings import add, align, compute, next_decay

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

# Entities whose next decay is looked for together.
_BLOCK_BITS = 6


class State(NamedTuple):
    """The arrays of ``ViewState``, one row per entity, of which the later ones may be unused.

    Attributes:
        cells: float64[n, width], the tiles, see ``layout``.
        marks: int64[n, marks], newest tile of each window, and which tiles hold anything.
        decay_at: int64[n], next hop boundary at which a tile that holds something leaves.
        stamped_at: int64[n], stamp of the newest row; -1 for an entity never updated.
        block_decay_at: int64[ceil(n / 64)], no decay of these 64 entities comes before.
        last_row: int64[n], all -1 between two calls.
    """

    cells: Floats
    marks: Ints
    decay_at: Ints
    stamped_at: Ints
    block_decay_at: Ints
    last_row: Ints


class Shape(NamedTuple):
    """What is the same in all calls: the arrays of ``Layout``, and what the view asks for.

    Attributes:
        windows, groups, features: as in ``Layout``.
        ttl_us: as in ``View``.
        keeps_history: whether all rows are wanted, and not only an entity's last one.
    """

    windows: Ints
    groups: Ints
    features: Ints
    ttl_us: int
    keeps_history: bool


class Batch(NamedTuple):
    """The columns of ``Pending``, in the order in which they are to be run."""

    slots: Ints
    is_update: Bools
    effective_us: Ints
    event_us: Ints
    values: Floats


class Output(NamedTuple):
    """Rows: entity, stamp, float64[n, F] features (NaN is null)."""

    slots: Ints
    stamps_us: Ints
    values: Floats


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
    align(state.marks, slot, at_us, windows, groups)
    compute(state.cells, state.marks, slot, windows, groups, features, held, reads, row)


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
                compute(cells, marks, slot, windows, groups, features, held, out.values, used)
                used += 1
            align(marks, slot, stamp_us, windows, groups)
            if not decays:
                event_us = batch.event_us[row]
                leaves = add(cells, marks, slot, event_us, batch.values, row, windows, groups)
                decay_at[slot] = min(decay_at[slot], leaves)
                row = -1 if row == last else next_row[row]
            if decay_at[slot] <= stamp_us:
                decay_at[slot] = next_decay(marks, slot, windows, groups)
            stamped_at[slot] = stamp_us
            is_open = True
        if is_open:
            out = _with_room(out, used)
            out.slots[used], out.stamps_us[used] = slot, stamped_at[slot]
            compute(cells, marks, slot, windows, groups, features, held, out.values, used)
            used += 1
        state.last_row[slot] = -1
        block = slot >> _BLOCK_BITS
        state.block_decay_at[block] = min(state.block_decay_at[block], decay_at[slot])
    soonest = state.block_decay_at.min() if state.block_decay_at.shape[0] else NEVER
    rows = Output(out.slots[:used], out.stamps_us[:used], out.values[:used])
    return rows, reads, soonest
