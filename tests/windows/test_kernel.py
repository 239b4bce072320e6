"""The window kernel against the brute-force computation, on random streams and by name."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.windows.random_streams import Stream, handlings, streams
from tests.windows.stream import Item, assert_equal, expected, feature, run, view_of

HOUR_US = 3_600_000_000


@settings(max_examples=400)
@given(streams())
def test_rows_and_reads_equal_brute_force(stream: Stream) -> None:
    """Every row, stamp, value and read is what the definition gives, computed from scratch."""
    view, items, up_to_us = stream.view, stream.items, stream.up_to_us
    assert_equal(view, items, up_to_us, run(view, items, up_to_us))


@settings(max_examples=200)
@given(streams(), st.data())
def test_cuts_and_reloads_change_nothing(stream: Stream, data: st.DataObject) -> None:
    """However a stream is cut, and wherever its state is stored, all is the same to the bit."""
    view, items, up_to_us = stream.view, stream.items, stream.up_to_us
    how = data.draw(handlings(stream))
    whole = run(view, items, up_to_us)
    assert run(view, items, up_to_us, how.cuts).text == whole.text
    assert run(view, items, up_to_us, how.cuts, how.stored_at).text == whole.text


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_batches_of_any_size_give_the_same_bytes(size: int) -> None:
    """A stream of thousands, in batches of 1, 7 and 1000, gives the bytes of one batch."""
    view = view_of(
        feature("a", "sum", 600, 60),
        feature("b", "mean", 3600, 300),
        feature("c", "last"),
        feature("d", "max", 60, 60, "y"),
    )
    items = _many(3000)
    up_to_us = items[-1].effective_us + 5000
    whole = run(view, items, up_to_us)
    assert len(whole.rows) > 3000
    assert run(view, items, up_to_us, range(size, len(items), size)).text == whole.text


def test_sums_of_fractions_are_near_the_exact_ones() -> None:
    """Sums and means of any doubles are right to rounding."""
    view = view_of(feature("s", "sum", 600, 60), feature("m", "mean", 600, 60))
    items = [Item(b"a", t * 7, t * 7, t, ((t * 0.1 - 3.3) * 1e3,)) for t in range(1, 600)] + [
        Item(b"a", 4300, 4300, 600, None)
    ]
    output = run(view, items, 4500)
    rows = {stamp: values for stamp, _, values in output.rows}
    for stamp, _, values in expected(view, items, 4500).rows:
        assert rows[stamp] == pytest.approx(values, rel=1e-12, abs=1e-8)


def test_growing_keeps_what_is_there() -> None:
    """Hundreds of entities that appear one after the other keep their own values."""
    view = view_of(feature("n", "count", 100_000, 1_000), feature("l", "last"))
    items = [Item(f"{i % 400}".encode(), i + 1, i + 1, i, (float(i),)) for i in range(1200)]
    assert_equal(view, items, 1300, run(view, items, 1300, range(1, 1200, 37)))


def test_no_tail_is_updated_twice() -> None:
    """An event in the oldest tile of a window counts once, and leaves once (chronon 276)."""
    view = view_of(feature("sum", "sum", 30, 10), feature("count", "count", 30, 10))
    items = [
        Item(b"a", 5, 5, 0, (1.0,)),
        Item(b"a", 25, 25, 1, (10.0,)),
        Item(b"a", 6, 26, 2, (100.0,)),
    ]
    output = run(view, items, 100)
    assert [(stamp, values) for stamp, _, values in output.rows] == [
        (6, [1.0, 1.0]),
        (26, [11.0, 2.0]),
        (27, [111.0, 3.0]),
        (30, [10.0, 1.0]),
        (50, [None, 0.0]),
    ]


def test_a_tile_ends_where_its_hour_ends() -> None:
    """At an hour boundary the tile of the event decides, to the microsecond (chronon 1110)."""
    view = view_of(feature("sum", "sum", 2 * HOUR_US, HOUR_US))
    noon = 12 * HOUR_US
    items = [
        Item(b"a", noon - 1, noon - 1, 0, (1.0,)),
        Item(b"a", noon, noon, 1, (10.0,)),
        Item(b"a", noon + HOUR_US - 1, noon + HOUR_US - 1, 2, None),
        Item(b"a", noon + HOUR_US, noon + HOUR_US, 3, None),
        Item(b"a", noon + 2 * HOUR_US - 1, noon + 2 * HOUR_US - 1, 4, None),
        Item(b"a", noon + 2 * HOUR_US, noon + 2 * HOUR_US, 5, None),
    ]
    output = run(view, items, noon + 3 * HOUR_US)
    assert output.reads == {2: [11.0], 3: [10.0], 4: [10.0], 5: [None]}


def test_no_hop_is_lost_at_midnight() -> None:
    """A window across midnight holds the tiles of both days: 110, not 40 (zipline 1993)."""
    midnight = int(datetime(2013, 3, 11, tzinfo=UTC).timestamp()) * 1_000_000
    view = view_of(
        feature("day", "sum", 24 * HOUR_US, HOUR_US), feature("six", "sum", 6 * HOUR_US, HOUR_US)
    )
    moments = [(-5, 70.0), (-1, 20.0), (0, 10.0), (1, 10.0)]
    items = [
        Item(b"a", midnight + h * HOUR_US, midnight + h * HOUR_US, i, (amount,))
        for i, (h, amount) in enumerate(moments)
    ]
    reads = [midnight, midnight + HOUR_US + 1, midnight + 4 * HOUR_US]
    items += [Item(b"a", t, t, 10 + i, None) for i, t in enumerate(reads)]
    items.sort(key=lambda item: item.effective_us)
    output = run(view, items, midnight + 5 * HOUR_US)
    assert output.reads == {10: [90.0, 90.0], 11: [110.0, 40.0], 12: [110.0, 40.0]}


def test_extremes_are_not_added_up() -> None:
    """Minimum and maximum over tiles are minimum and maximum, not sums of them (Feast tiling)."""
    view = view_of(feature("low", "min", 30, 10), feature("high", "max", 30, 10))
    items = [Item(b"a", 10 * i + 1, 10 * i + 1, i, (float(v),)) for i, v in enumerate([5, 7, 3])]
    output = run(view, items, 60)
    assert [values for _, _, values in output.rows] == [
        [5.0, 5.0], [5.0, 7.0], [3.0, 7.0], [3.0, 7.0], [3.0, 3.0], [None, None],
    ]  # fmt: skip


def test_an_entity_that_only_was_read_has_no_row() -> None:
    """Reading an entity that no event has named gives nulls, counts too, and no row."""
    view = view_of(feature("n", "count", 30, 10), feature("l", "last"))
    output = run(view, [Item(b"a", 5, 5, 0, None)], 100)
    assert output.rows == []
    assert output.reads == {0: [None, None]}


def test_a_null_makes_an_entity_known() -> None:
    """An event without a value still makes count 0 and a row, for later reads too."""
    view = view_of(feature("n", "count", 30, 10), feature("l", "last"))
    items = [Item(b"a", 5, 5, 0, (None,)), Item(b"a", 6, 6, 1, None)]
    output = run(view, items, 100)
    assert output.rows == [(6, b"a", [0.0, None])]
    assert output.reads == {1: [0.0, None]}


def _many(count: int) -> list[Item]:
    """A stream of reads and updates, some late, some null, spread unevenly over 50 entities."""
    items = []
    for i in range(count):
        event_us = 1_000_000 + i * 13 % 997 + i * 3
        late_us = 50 * (i % 11 == 0)
        values = None if i % 3 == 0 else (i * 0.37, None if i % 5 == 0 else float(i % 17))
        items.append(Item(f"{i * i % 50}".encode(), event_us, event_us + late_us, i, values))
    return sorted(items, key=lambda item: item.effective_us)
