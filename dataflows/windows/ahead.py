"""Memory that is fetched before its turn, compiled: entities lie anywhere, and nobody could guess.

Of many entities nearly all the time goes into waiting for memory, one line after another. What an
entity's turn is going to need can be asked for while those before it have theirs.
"""

from __future__ import annotations

from dataflows.windows.compiled import inlined, prefetch
from dataflows.windows.kernel_types import Floats, Ints
from dataflows.windows.tiles import (
    GROUP_BASE,
    GROUP_LIST,
    GROUP_WIDTH,
    GROUP_WINDOW,
    GROUP_WORD,
)

# Turns. Where tiles lie is only known once the marks are there, so these come so much earlier.
AHEAD = 4


@inlined
def fetch_ahead(
    cells: Floats,
    marks: Ints,
    decay_at: Ints,
    stamped_at: Ints,
    entities: Ints,
    turn: int,
    groups: Ints,
    width: int,
) -> None:
    """What the turns after this one are going to need: tiles that hold anything, 64 of a ring."""
    if turn + 2 * AHEAD < entities.shape[0]:
        slot, count = entities[turn + 2 * AHEAD], marks.shape[1]
        flat = marks.reshape(-1)
        prefetch(flat, slot * count)
        prefetch(flat, slot * count + count - 1)
        prefetch(decay_at, slot)
        prefetch(stamped_at, slot)
    if turn + AHEAD < entities.shape[0]:
        slot = entities[turn + AHEAD]
        for g in range(groups.shape[0]):
            if groups[g, GROUP_LIST] >= 0:
                continue
            place = slot * width + groups[g, GROUP_BASE]
            held = marks[slot, groups[g, GROUP_WORD]]
            for _ in range(64):
                if held == 0:
                    break
                if held & 1:
                    prefetch(cells, place)
                held >>= 1
                place += groups[g, GROUP_WIDTH]


@inlined
def fetch_newest(
    cells: Floats, slots: Ints, marks: Ints, row: int, windows: Ints, groups: Ints, width: int
) -> None:
    """The newest tile of each ring of an entity, whose marks are given by row, if there is one."""
    if row >= slots.shape[0]:
        return
    for g in range(groups.shape[0]):
        if groups[g, GROUP_LIST] < 0:
            w = groups[g, GROUP_WINDOW]
            begin = slots[row] * width + groups[g, GROUP_BASE]
            prefetch(cells, begin + marks[row, w] % windows[w, 0] * groups[g, GROUP_WIDTH])
