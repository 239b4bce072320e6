"""Lists of tiles: what is asked for before a call is enough for whatever happens in it."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflows.windows import lists
from dataflows.windows.kernel_types import Lists

WIDTH = 1
PLACES = 200_000


def _lists(entities: int) -> Lists:
    table = np.zeros((entities, 1, lists.LIST_FIELDS), np.int64)
    table[:, :, lists.BLOCK] = -1
    free = np.full(1 + lists.SIZES, -1, np.int64)
    free[0] = 0
    return Lists(table, np.zeros(PLACES * WIDTH), free)


def _load(held: Lists, slot: int, times: list[int]) -> None:
    """Give a list as much room as it needs at once, as what was stored gets it."""
    room = max(4, 1 << (len(times) - 1).bit_length())
    block = lists.take_block(held.blocks, held.free, room, WIDTH)
    held.table[slot, 0] = block, 0, len(times), room
    held.blocks[block : block + len(times)] = times


def _turn(held: Lists, slot: int, times: list[int], window_us: int) -> None:
    """What the kernel does with an entity's updates in one call."""
    for time_us in times:
        lists.drop_before(held, slot, 0, time_us - window_us + 1, WIDTH)
        lists.find_or_insert(held, slot, 0, time_us, WIDTH)
    lists.give_back(held, slot, WIDTH)


def _call(held: Lists, times_of: dict[int, list[int]], window_us: int) -> tuple[int, int]:
    """(places that were asked for, places that were taken) in a call with these updates."""
    slots = np.array([slot for slot, times in times_of.items() for _ in times], np.int64)
    last_row = np.full(len(held.table), -1, np.int64)
    needed = lists.places_needed(held.table, last_row, slots, np.ones(len(slots), np.bool_))
    before = int(held.free[0])
    for slot, times in times_of.items():
        _turn(held, slot, times, window_us)
    return needed, int(held.free[0]) - before


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.integers(1, 12), st.sampled_from([10, 100, 1000]))
def test_no_call_takes_more_places_than_it_asked_for(
    seed: int, entities: int, window_us: int
) -> None:
    """Whatever entities grow, shrink, empty and fill again in a call; else memory is overrun."""
    rng, held, now_us = random.Random(seed), _lists(entities), 100
    for slot in range(entities):
        _load(held, slot, sorted(rng.sample(range(100), rng.randint(1, 80))))
    for _ in range(12):
        span_us = rng.choice([5, 50, 500, 5_000])
        times_of = {
            slot: sorted(now_us + rng.randrange(span_us) for _ in range(rng.randrange(1, 80)))
            for slot in rng.sample(range(entities), rng.randint(1, entities))
        }
        now_us += span_us
        needed, taken = _call(held, times_of, window_us)
        assert taken <= needed


def test_a_list_that_empties_and_fills_again_in_one_call_takes_no_new_places() -> None:
    """Its block has room for all that comes, so none is asked for."""
    held = _lists(1)
    _load(held, 0, list(range(33)))
    assert _call(held, {0: list(range(5_000, 5_031))}, window_us=100) == (0, 0)


def test_the_block_of_a_list_that_stays_empty_is_free_for_others() -> None:
    """Once an entity's turn is over, another one's list takes what its own has let go."""
    held = _lists(2)
    _call(held, {0: list(range(4))}, window_us=100)
    lists.drop_before(held, 0, 0, 5_000, WIDTH)
    lists.give_back(held, 0, WIDTH)
    _, taken = _call(held, {1: [6_000]}, window_us=100)
    assert taken == 0
    assert held.table[0, 0, lists.BLOCK] == -1
