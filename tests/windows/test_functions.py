"""What each function makes of the values in a window: nulls, nothing, doubles of all sizes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.plan import AggregateFunction
from tests.windows.near import Near
from tests.windows.random_streams import NUMERIC
from tests.windows.stream import Item, Row, assert_equal, feature, run, view_of

# Far from zero, and near each other: here a sum of squares loses all that matters.
CENTRES = st.sampled_from([0.0, 1.0, -1e9, 1e9, 1e9 + 0.1, 1e12])
STEPS = st.integers(-(10**6), 10**6).map(lambda whole: whole / 1000)


def _rows_of(function: AggregateFunction, values: list[float | None]) -> list[Any]:
    """A row's value after each of these, two microseconds apart, in a window of ten tiles."""
    view = view_of(feature("f", function, 100, 10))
    items = [Item(b"a", 2 * i + 1, 2 * i + 1, i, (value,)) for i, value in enumerate(values)]
    rows = sorted(run(view, items, 2 * len(values)).rows)
    assert len(rows) == len(values)
    return [row[0] for _, _, row in rows]


@pytest.mark.parametrize(
    ("function", "wanted"),
    [
        ("count", [0, 1, 1, 2, 3, 4]),
        ("sum", [None, 4, 4, 5, 12, 16]),
        ("mean", [None, 4, 4, 2.5, 4, 4]),
        ("min", [None, 4, 4, 1, 1, 1]),
        ("max", [None, 4, 4, 4, 7, 7]),
        ("var", [None, 0, 0, 2.25, 6, 4.5]),
        ("std", [None, 0, 0, 1.5, 6**0.5, 4.5**0.5]),
        ("first", [None, 4, 4, 4, 4, 4]),
        ("last", [None, 4, 4, 1, 7, 4]),
        ("count_distinct", [0, 1, 1, 2, 3, 3]),
    ],
)
def test_each_function_by_hand(function: AggregateFunction, wanted: list[float | None]) -> None:
    """Nulls are skipped, and nothing gives 0 for both counts and null for all else."""
    found = _rows_of(function, [None, 4.0, None, 1.0, 7.0, 4.0])
    near = [None if value is None else pytest.approx(value, rel=1e-15) for value in wanted]
    assert found == near


@pytest.mark.parametrize(
    ("function", "values"),
    [("sum", [1e308, 1e308]), ("mean", [-1e308, -1e308]), ("var", [1e308, -1e308]),
     ("std", [1e308, -1e308]), ("var", [1e200, 0.0])],
)  # fmt: skip
def test_what_outgrows_doubles_is_null(function: AggregateFunction, values: list[float]) -> None:
    """Never infinite, nor a variance below zero, and forgotten with the tiles that brought it."""
    view = view_of(feature("f", function, 20, 10))
    items = [Item(b"a", i + 1, i + 1, i, (value,)) for i, value in enumerate(values)]
    items += [Item(b"a", 4, 4, 2, None), Item(b"a", 40, 40, 3, (3.0,))]
    output = run(view, items, 45)
    assert output.reads[2] == [None]
    assert [row for stamp, _, row in output.rows if stamp in (3, 41)] == [
        [None], [0.0 if function in ("var", "std") else 3.0]
    ]  # fmt: skip


@pytest.mark.parametrize("function", NUMERIC)
def test_a_window_that_emptied_is_as_if_never_filled(function: AggregateFunction) -> None:
    """After the last tile has left, counts are 0 and all others null again."""
    view = view_of(feature("f", function, 20, 10))
    items = [Item(b"a", 5, 5, 0, (3.0,)), Item(b"a", 60, 60, 1, None)]
    output = run(view, items, 70)
    empty = 0.0 if function in ("count", "count_distinct") else None
    assert output.rows[-1] == (20, b"a", [empty])
    assert output.reads == {1: [empty]}


@settings(max_examples=150)
@given(CENTRES, st.lists(st.tuples(STEPS, st.integers(0, 300)), min_size=1, max_size=30), st.data())
def test_variance_of_any_doubles_is_near_the_exact_one(
    centre: float, points: list[tuple[float, int]], data: st.DataObject
) -> None:
    """Variance and deviation are as near as doubles tell the numbers apart, in any tiles."""
    exact = data.draw(st.sampled_from([0, 2, 1024]))
    hop_us = 1 if exact else data.draw(st.sampled_from([1, 5, 50]))
    view = view_of(
        feature("v", "var", 100, hop_us),
        feature("s", "std", 50, hop_us),
        feature("w", "var"),
        exact_tiles_max=exact,
    )
    ordered = sorted(points, key=lambda point: point[1])
    items = [Item(b"a", at, at, i, (centre + step,)) for i, (step, at) in enumerate(ordered)]
    assert_equal(view, items, 500, run(view, items, 500))


@given(
    st.floats(-1e150, 1e150, allow_subnormal=False),
    st.lists(st.integers(0, 60), min_size=1, max_size=20),
)
def test_equal_numbers_do_not_vary_at_all(value: float, times: list[int]) -> None:
    """However many times a number comes, and in how many tiles, its variance is 0 exactly."""
    view = view_of(feature("v", "var", 40, 10), feature("s", "std", 40, 10), feature("w", "var"))
    items = [Item(b"a", at, at, i, (value,)) for i, at in enumerate(sorted(times))]
    for _, _, values in run(view, items, 61).rows:
        assert values in ([0.0, 0.0, 0.0], [None, None, 0.0])


def test_variance_of_what_a_sum_of_squares_cannot_tell_apart() -> None:
    """A billion and its neighbours: the textbook's sum of squares gives 0, or less than that."""
    (*_, last) = _rows_of("var", [1e9 + 4, 1e9 + 7, 1e9 + 13, 1e9 + 16])
    assert last == pytest.approx(22.5, rel=1e-9)
    assert _rows_of("std", [-1e9, -1e9 - 1, -1e9])[-1] == pytest.approx((2 / 9) ** 0.5, rel=1e-6)


def test_the_first_is_the_earliest_and_the_last_the_latest() -> None:
    """Event time decides, not the order of effect; of one moment's the order does."""
    view = view_of(feature("f", "first", 100, 10), feature("l", "last", 100, 10))
    items = [
        Item(b"a", 15, 15, 0, (1.0,)),
        Item(b"a", 15, 15, 1, (2.0,)),
        Item(b"a", 14, 20, 2, (3.0,)),
        Item(b"a", 14, 20, 3, (4.0,)),
        Item(b"a", 3, 21, 4, (5.0,)),
        Item(b"a", 15, 22, 5, (6.0,)),
    ]
    found = {stamp: values for stamp, _, values in run(view, items, 30).rows}
    assert found == {16: [1.0, 2.0], 21: [3.0, 2.0], 22: [5.0, 2.0], 23: [5.0, 6.0]}


def test_what_was_first_leaves_and_the_next_is_first() -> None:
    """When the oldest tile leaves, the first one of those that are left is the first."""
    view = view_of(feature("f", "first", 30, 10))
    items = [Item(b"a", at, at, i, (float(at),)) for i, at in enumerate([3, 7, 14, 18, 25])]
    rows = sorted(run(view, items, 60).rows)
    assert [(stamp, values[0]) for stamp, _, values in rows if stamp >= 30] == [
        (30, 14.0),
        (40, 25.0),
        (50, None),
    ]


def test_a_whole_feature_that_outgrew_64_bits_is_null() -> None:
    """No store could hold it; a smaller one is as it is."""
    whole = replace(feature("s", "sum"), dtype="int64")
    items = [Item(b"a", i, i, i, (2.0**62,)) for i in range(1, 4)]
    rows: list[Row] = sorted(run(view_of(whole), items, 10).rows, key=lambda row: row[0])
    assert [values for _, _, values in rows] == [[2.0**62], [None], [None]]


def test_near_is_not_everything() -> None:
    """What the comparison lets through is near, not below zero, and not null."""
    assert Near(5.0, 0.5) == 5.5
    assert Near(5.0, 0.5) != 5.6
    assert Near(5.0, 0.5) != None  # noqa: E711
    assert Near(0.1, 0.5) != -0.1
    assert [1.0, Near(0.0, 0.0)] == [1.0, 0.0]
    assert Near(0.0, 0.0) != 1e-300
