"""Which entities have their turn in a call, compiled, and room for the rows that come of it."""

from __future__ import annotations

import numpy as np

from dataflows.windows.compiled import compiled, inlined
from dataflows.windows.kernel_types import Ints, Output, State

NEVER = 2**62
# Entities whose next decay is looked for together.
BLOCK_BITS = 6


def block_decays(decay_at: Ints) -> Ints:
    """``State.block_decay_at`` of these ``decay_at``."""
    starts = np.arange(0, len(decay_at), 1 << BLOCK_BITS)
    return np.minimum.reduceat(decay_at, starts) if len(starts) else decay_at.copy()


@compiled
def make_output(rows: int, features: int) -> Output:
    """Room for so many rows."""
    return Output(np.empty(rows, np.int64), np.empty(rows, np.int64), np.empty((rows, features)))


@compiled
def with_room(out: Output, used: int) -> Output:
    """The output with room for at least one row more."""
    if used < out.slots.shape[0]:
        return out
    new = make_output(2 * used, out.values.shape[1])
    new.slots[:used], new.stamps_us[:used] = out.slots, out.stamps_us
    new.values[:used] = out.values
    return new


@compiled
def entities_to_run(slots: Ints, state: State, next_row: Ints, watermark_us: int) -> Ints:
    """The entities that have rows or decay until the watermark, as they lie in memory.

    ``state.last_row`` becomes the last row of each entity, ``next_row`` the one that follows each
    row; the first follows the last.
    """
    decay_at, blocks, last_row = state.decay_at, state.block_decay_at, state.last_row
    has_rows = np.zeros(blocks.shape[0], np.bool_)
    for row in range(slots.shape[0]):
        last = last_row[slots[row]]
        if last < 0:
            next_row[row] = row
            has_rows[slots[row] >> BLOCK_BITS] = True
        else:
            next_row[row] = next_row[last]
            next_row[last] = row
        last_row[slots[row]] = row
    entities = np.empty(slots.shape[0] + (1 << BLOCK_BITS), np.int64)
    used = 0
    for block in range(blocks.shape[0]):
        decays = blocks[block] <= watermark_us
        if not decays and not has_rows[block]:
            continue
        begin = block << BLOCK_BITS
        end = min(begin + (1 << BLOCK_BITS), decay_at.shape[0])
        soonest = NEVER
        if used + end - begin > entities.shape[0]:
            grown = np.empty(2 * entities.shape[0], np.int64)
            grown[:used] = entities[:used]
            entities = grown
        for slot in range(begin, end):
            is_due = decay_at[slot] <= watermark_us
            if is_due or last_row[slot] >= 0:
                entities[used] = slot
                used += 1
            if not is_due:
                soonest = min(soonest, decay_at[slot])
        # Those that are run now lower it again.
        blocks[block] = soonest
    return entities[:used]


@inlined
def settle(block_decay_at: Ints, last_row: Ints, slot: int, decay_us: int) -> None:
    """An entity's turn is over."""
    last_row[slot] = -1
    block = slot >> BLOCK_BITS
    block_decay_at[block] = min(block_decay_at[block], decay_us)


@compiled
def soonest(state: State) -> int:
    """A time before which nothing decays."""
    return state.block_decay_at.min() if state.block_decay_at.shape[0] else NEVER
