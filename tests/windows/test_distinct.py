"""How many distinct values: exact while they are few, then within the error that is stated."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.plan import ColumnType, View
from dataflows.windows.view_state import Floats, Pending, ViewState
from tests.windows.oracle import Value
from tests.windows.random_streams import Stream, streams
from tests.windows.stream import Item, assert_equal, feature, run, view_of


def _view(
    bits: int, window_us: int = 0, hop_us: int = 0, column_type: ColumnType = "int64"
) -> View:
    distinct = feature("d", "count_distinct", window_us, hop_us, "x", column_type)
    return view_of(distinct, offline_path="", distinct_bits=bits)


def _count(view: View, values: Iterable[Value], tiles: int = 1) -> float:
    """The number that a view gives of these values, dealt out to tiles of ten microseconds."""
    dealt = sorted((i % tiles * 10, i, value) for i, value in enumerate(values))
    items = [Item(b"a", at_us, at_us, i, (value,)) for at_us, i, value in dealt]
    ((_, _, (found,)),) = run(view, items, 10 * tiles - 1).rows
    assert isinstance(found, float)
    return found


def _count_hashes(view: View, hashes: Floats) -> float:
    """The same of values that are hashed already; all at one moment."""
    state, zeros = ViewState(view), np.zeros(len(hashes), np.int64)
    slots, is_update = np.repeat(state.slots([b"a"]), len(hashes)), np.ones(len(hashes), np.bool_)
    state.hold(Pending(slots, zeros, zeros, is_update, zeros, hashes.reshape(-1, 1)))
    rows, _ = state.advance(1, 1)
    return float(rows.values[0, 0])


@st.composite
def _distinct_views(draw: st.DrawFn) -> View:
    exact = draw(st.sampled_from([0, 0, 2, 5]))
    columns: list[tuple[str, ColumnType]] = [("x", "float64"), ("i", "int64"), ("s", "string")]
    windows = [(30, 10), (28, 7), (100, 50), (0, 0)] if not exact else [(30, 1), (100, 1), (0, 0)]
    return view_of(
        *[
            feature(f"f{i}", "count_distinct", *draw(st.sampled_from(windows)), *column)
            for i, column in enumerate(
                draw(st.lists(st.sampled_from(columns), min_size=1, max_size=3))
            )
        ],
        feature("n", "count", column="i", column_type="int64"),
        exact_tiles_max=exact,
        distinct_bits=draw(st.sampled_from([4, 5, 6])),
    )


@settings(max_examples=200)
@given(streams(_distinct_views()))
def test_counts_of_few_are_exact_and_of_many_near(stream: Stream) -> None:
    """By tiles, windows and merged moments the count is what was promised of it."""
    rows = run(stream.view, stream.items, stream.up_to_us)
    assert_equal(stream.view, stream.items, stream.up_to_us, rows)


@pytest.mark.parametrize("bits", [4, 8, 11, 14])
def test_counts_are_exact_up_to_their_limits(bits: int) -> None:
    """An eighth of the registers in each tile, and as many as registers in the window: exact."""
    few = 2**bits // 8
    assert _count(_view(bits), [*range(few), *range(few)]) == few
    # Each tile has its own values: eight full tiles are as many as there are registers.
    view = _view(bits, 1_000, 10)
    for tiles in (2, 8):
        assert _count(view, range(few * tiles), tiles) == few * tiles


@pytest.mark.parametrize("bits", [4, 6, 8, 10, 12, 14])
def test_the_error_is_what_is_stated(bits: int) -> None:
    """Over many sets of any size the mean square error is that of the documentation, unbiased."""
    rng = np.random.default_rng(bits)
    stated = 1.04 / math.sqrt(2**bits)
    errors = []
    trials = {4: 400, 6: 300, 8: 200, 10: 100, 12: 50, 14: 20}[bits]
    for _ in range(trials):
        number = int(2**bits * rng.choice([0.2, 0.5, 1, 2.5, 5, 12]))
        found = _count_hashes(_view(bits), rng.integers(0, 2**53, number).astype(np.float64))
        assert found == int(found)
        errors.append((found - number) / number)
    # With few registers the errors are not those of a bell: far too many is not so rare.
    assert max(map(abs, errors)) <= (5 if bits >= 8 else 7) * stated
    assert math.sqrt(sum(error**2 for error in errors) / trials) <= 1.5 * stated
    assert abs(sum(errors) / trials) <= 4 * stated / math.sqrt(trials)


@settings(max_examples=25)
@given(st.sets(st.integers(), min_size=60, max_size=300), st.randoms(), st.integers(1, 20))
def test_only_the_set_counts(values: set[int], rng: random.Random, tiles: int) -> None:
    """The estimate of a set does not depend on order, on repetitions or on how it lies in tiles."""
    drawn = sorted(values)
    # The first tile has all of them and is past exactness, so the window is too.
    one = _count(_view(5), drawn)
    spread = [*drawn, *rng.choices(drawn, k=50)]
    rng.shuffle(spread)
    assert _count(_view(5), spread) == one
    items = [Item(b"a", 0, 0, i, (value,)) for i, value in enumerate(drawn[:30])]
    for i, value in enumerate(drawn[30:]):
        at_us = rng.randrange(tiles) * 10
        items.append(Item(b"a", at_us, at_us, 100 + i, (value,)))
    items.sort(key=lambda item: item.effective_us)
    ((_, _, found),) = run(_view(5, 1_000, 10), items, 10 * tiles - 1).rows
    assert found == [one]


def test_what_leaves_is_no_longer_counted() -> None:
    """Values of a tile that left are gone, however many it had; those that came again are not."""
    view = view_of(feature("d", "count_distinct", 20, 10, "x", "int64"), distinct_bits=4)
    items = [Item(b"a", 5, 5, i, (i,)) for i in range(100)]
    items += [Item(b"a", 15, 15, 100 + i, (i,)) for i in range(2)]
    rows = {stamp: values[0] for stamp, _, values in run(view, items, 40).rows}
    assert rows.keys() == {6, 16, 20, 30}
    assert rows[6] == rows[16] != 2
    assert (rows[20], rows[30]) == (2, 0)
