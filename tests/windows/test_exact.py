"""Windows that move by the microsecond, and what becomes of them when moments are too many."""

from __future__ import annotations

import pickle
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.plan import Aggregate, View
from tests.windows.random_streams import Stream, handlings, streams, views
from tests.windows.stream import (
    Advance,
    Item,
    Runner,
    advances,
    assert_equal,
    feature,
    run,
    together,
    view_of,
)

HOUR_US = 3_600_000_000
START_US = 1_763_000_000_123_457
EXACT_VIEWS = views().filter(lambda view: view.exact_tiles_max > 0 and len(view.aggregates) > 0)


def _view(*aggregates: Aggregate, most: int = 1024, ttl_us: int = 0) -> View:
    return view_of(*aggregates, exact_tiles_max=most, ttl_us=ttl_us)


def _counts(view: View, times: list[int], up_to_us: int) -> dict[int, float]:
    """Stamp -> the first feature, of one entity with a value of its time at each of these."""
    items = [Item(b"a", at, at, i, (float(at),)) for i, at in enumerate(times)]
    output = run(view, items, up_to_us)
    assert_equal(view, items, up_to_us, output)
    found = {}
    for stamp, _, (value, *_) in output.rows:
        assert isinstance(value, float)
        found[stamp] = value
    return found


@settings(max_examples=300)
@given(streams(EXACT_VIEWS))
def test_exact_windows_equal_brute_force(stream: Stream) -> None:
    """Every row and read is that of a window of one microsecond's hop, with few moments or many."""
    output = run(stream.view, stream.items, stream.up_to_us)
    assert_equal(stream.view, stream.items, stream.up_to_us, output)


@settings(max_examples=150)
@given(streams(EXACT_VIEWS), st.data())
def test_exact_windows_do_not_mind_being_stored(stream: Stream, data: st.DataObject) -> None:
    """Cut, stored and loaded anywhere, moments that were put together included."""
    view, items, up_to_us = stream.view, stream.items, stream.up_to_us
    how = data.draw(handlings(stream))
    found = run(view, items, up_to_us, how.cuts, how.stored_at)
    assert found.text == run(view, items, up_to_us).text


def test_an_event_stays_for_its_window_to_the_microsecond() -> None:
    """An hour is an hour: whatever the clock shows, not a microsecond more or less."""
    view = _view(feature("n", "count", HOUR_US, 1))
    times = [START_US, START_US + 1, START_US + HOUR_US // 2]
    items = [Item(b"a", at, at, i, (1.0,)) for i, at in enumerate(times)]
    reads = [START_US, *(at + d for at in times for d in (HOUR_US - 1, HOUR_US))]
    items += [Item(b"a", at, at, 10 + i, None) for i, at in enumerate(reads)]
    items.sort(key=lambda item: item.effective_us)
    output = run(view, items, START_US + 2 * HOUR_US)
    assert {items[0].rank, 10} <= {item.rank for item in items}
    assert [output.reads[10 + i] for i in range(7)] == [
        [None], [3.0], [2.0], [2.0], [1.0], [1.0], [0.0],
    ]  # fmt: skip
    decays = sorted(stamp for stamp, _, _ in output.rows)[3:]
    assert decays == [at + HOUR_US for at in times]


def test_hops_forget_earlier_than_exact_windows() -> None:
    """A hop of ten minutes lets go of an event up to ten minutes before its hour is over."""
    items = [Item(b"a", HOUR_US - 1, HOUR_US - 1, 0, (1.0,))]
    hop_us = HOUR_US // 6
    hopping = run(view_of(feature("n", "count", HOUR_US, hop_us)), items, 3 * HOUR_US)
    exact = run(_view(feature("n", "count", HOUR_US, 1)), items, 3 * HOUR_US)
    assert [stamp for stamp, _, _ in hopping.rows] == [HOUR_US, 2 * HOUR_US - hop_us]
    assert [stamp for stamp, _, _ in exact.rows] == [HOUR_US, 2 * HOUR_US - 1]


def test_the_nearest_two_moments_become_one_at_the_later_time() -> None:
    """Of 0, 10, 11 and 30 three are left: 10 leaves with 11; all that is left is still counted."""
    view = _view(feature("n", "count", 100, 1), feature("f", "first", 100, 1), most=3)
    found = _counts(view, [0, 10, 11, 30], 200)
    assert found == {1: 1, 11: 2, 12: 3, 31: 4, 100: 3, 111: 1, 130: 0}


def test_of_gaps_that_are_equal_the_oldest_is_closed() -> None:
    """0, 10, 20 and 30 with room for three: 0 becomes 10."""
    view = _view(feature("n", "count", 100, 1), most=3)
    assert _counts(view, [0, 10, 20, 30], 200) == {
        1: 1,
        11: 2,
        21: 3,
        31: 4,
        110: 2,
        120: 1,
        130: 0,
    }


def test_a_moment_that_is_there_needs_no_room() -> None:
    """Many events of one moment are one tile: nothing is put together, and all count."""
    view = _view(feature("n", "count", 100, 1), most=2)
    assert _counts(view, [5, 5, 5, 8, 8, 8], 200) == {6: 3, 9: 6, 105: 3, 108: 0}


def test_what_came_late_to_moments_that_are_one() -> None:
    """A late event between two moments that became one has its own tile; the first is first."""
    view = _view(feature("f", "first", 100, 1), feature("l", "last", 100, 1), most=2)
    times = [(5, 5), (8, 8), (50, 50), (6, 51)]
    items = [Item(b"a", at, effect, i, (float(at),)) for i, (at, effect) in enumerate(times)]
    output = run(view, items, 200)
    assert_equal(view, items, 200, output)
    assert (52, b"a", [5.0, 50.0]) in output.rows


@settings(max_examples=60)
@given(st.lists(st.integers(0, 300), min_size=1, max_size=40), st.integers(2, 6))
def test_what_is_put_together_stays_too_long_and_never_too_short(
    times: list[int], most: int
) -> None:
    """With too many moments a count is never below the exact one, nor above all that came."""
    items = [Item(b"a", at, at, i, (1.0,)) for i, at in enumerate(sorted(times))]
    reads = [Item(b"a", at, at, 100 + at, None) for at in range(0, 450, 7)]
    both = sorted([*items, *reads], key=lambda item: item.effective_us)
    bounded = run(_view(feature("n", "count", 100, 1), most=most), both, 500)
    exact = run(_view(feature("n", "count", 100, 1)), both, 500)
    for rank, (wanted,) in exact.reads.items():
        (found,) = bounded.reads[rank]
        if wanted is None:
            assert found is None
        else:
            assert isinstance(found, float)
            assert isinstance(wanted, float)
            assert wanted <= found <= len(times)


@pytest.mark.parametrize("most", [2, 16])
def test_memory_is_bounded_by_the_moments_that_are_told_apart(most: int) -> None:
    """However many moments a window has seen, an entity takes no more than its most."""
    view = _view(feature("n", "sum", HOUR_US, 1), feature("v", "var", HOUR_US, 1), most=most)
    runner, rng = Runner(view), random.Random(4)
    sizes = []
    for part in range(20):
        times = sorted(START_US + part * 10**6 + rng.randrange(10**6) for _ in range(100))
        runner.hold([Item(b"a", at, at, i, (1.0,)) for i, at in enumerate(times)])
        runner.advance(START_US + (part + 1) * 10**6)
        sizes.append(len(pickle.dumps(runner.state.dump())))
    assert max(sizes[1:]) - min(sizes[1:]) <= 64
    assert sizes[-1] <= 3_000 + 100 * most
    (last,) = runner.advance(START_US + 3 * HOUR_US).rows[-1:]
    assert last[2] == [None, None]


def test_memory_of_moments_that_left_is_used_again() -> None:
    """Entities that fill and empty their windows over and over take what they took at first."""
    runner = Runner(_view(feature("s", "sum", 100, 1), feature("v", "var", 100, 1)))
    taken = []
    for part in range(12):
        begin_us = part * 1_000
        items = [Item(b"%d" % (i % 20), begin_us + i // 20, 0, i, (1.0,)) for i in range(1_200)]
        runner.hold([replace(item, effective_us=item.event_us) for item in items])
        runner.advance(begin_us + 500)
        taken.append(runner.state.list_places)
    assert 0 < taken[-1] == taken[0]


def test_entities_with_few_and_with_many_moments_live_side_by_side() -> None:
    """Each entity has the room that it needs, whoever else grows, shrinks or goes."""
    view = _view(feature("s", "sum", 500, 1), feature("d", "count_distinct", 300, 1), most=64)
    rng = random.Random(11)
    items = []
    for i in range(900):
        # Half of all go to two of fifty; each falls silent now and then.
        key = b"%d" % (rng.randrange(2) if i % 2 else i // 120 * 5 + rng.randrange(20))
        items.append(Item(key, i, i, i, (float(rng.randrange(30)),)))
    cuts = range(0, 900, 40)
    found: list[Advance] = advances(
        view, items, 2_500, cuts, {i: "dump, load" if i % 3 else "changes" for i in range(23)}
    )
    assert_equal(view, items, 2_500, together(found))
