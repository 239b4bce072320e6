"""Rows that wait: what is due comes out in order, whatever came in when."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dataflows.windows.holding import FAR_FUTURE_US, Holding, Pending

_TIMES = st.integers(0, 30)
_PARTS = st.lists(st.lists(st.tuples(_TIMES, st.booleans()), max_size=6), max_size=40)


def _part(rows: list[tuple[int, bool]], first_rank: int) -> Pending:
    ranks = np.arange(first_rank, first_rank + len(rows))
    times = np.array([time for time, _ in rows], np.int64)
    is_update = np.array([update for _, update in rows], np.bool_)
    return Pending(
        ranks % 7, times, ranks, is_update, times - 1, ranks.reshape(-1, 1).astype(float)
    )


@given(_PARTS, st.lists(st.tuples(st.integers(0, 32), st.booleans()), max_size=5))
def test_what_is_due_comes_in_order_and_once(
    parts: list[list[tuple[int, bool]]], advances: list[tuple[int, bool]]
) -> None:
    """Each advance gives all due rows by (time, reads first, rank), the rest stays held."""
    held = Holding()
    waiting: list[tuple[int, bool, int]] = []
    stops = dict(zip(range(3, 40, 7), advances, strict=False))
    rank = 1_000
    for number, rows in enumerate([*parts, []]):
        # Ranks do not ascend from part to part, as those of two partitions do not.
        rank += 100 if number % 3 else -500
        held.add(_part(rows, rank))
        waiting += [(time, update, rank + i) for i, (time, update) in enumerate(rows)]
        watermark_us, is_idle = stops.get(number, (0, False)) if rows else (40, False)
        before_us = watermark_us + is_idle
        due = sorted(
            row for row in waiting if (row[0] < before_us if row[1] else row[0] <= watermark_us)
        )
        waiting = [row for row in waiting if row not in due]
        taken = held.take(watermark_us, before_us)
        found = [] if taken is None else [
            (int(t), bool(u), int(r))
            for t, u, r in zip(taken.effective_us, taken.is_update, taken.ranks, strict=True)
        ]  # fmt: skip
        assert found == due
        if taken is not None:
            np.testing.assert_array_equal(taken.slots, taken.ranks % 7)
            np.testing.assert_array_equal(taken.event_us, taken.effective_us - 1)
            np.testing.assert_array_equal(taken.values[:, 0], taken.ranks)
        assert len(held) == len(waiting)
        assert held.first_us == min((row[0] for row in waiting), default=FAR_FUTURE_US)


def test_parts_are_few_however_many_came() -> None:
    """What waits long is put together, so that looking for what is due stays cheap."""
    held = Holding()
    copied = 0
    for number in range(3_000):
        before = {id(part) for part in held.parts}
        held.add(_part([(3_000 - number, True)], number))
        copied += sum(len(part.slots) for part in held.parts if id(part) not in before)
        assert len(held.parts) <= 30
    assert len(held) == 3_000
    assert copied < 3_000 * 20
