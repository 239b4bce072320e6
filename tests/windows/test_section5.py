"""DESIGN section 5, lines 1 to 6: a test's number is that of the line that it proves."""

from __future__ import annotations

import random
import statistics
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.plan import AggregateFunction
from tests.windows.oracle import Value
from tests.windows.random_streams import Stream, handlings, streams, views
from tests.windows.stream import (
    Item,
    Runner,
    assert_equal,
    feature,
    run,
    together,
    view_of,
)

COUNT = feature("n", "count", 30, 10)
SUM = feature("s", "sum", 30, 10)


def _reads(times: range, first_rank: int = 1_000) -> list[Item]:
    return [Item(b"a", at, at, first_rank + at, None) for at in times]


def _in_order(items: list[Item]) -> list[Item]:
    return sorted(items, key=lambda item: item.effective_us)


@settings(max_examples=120)
@given(streams(), st.data(), st.randoms())
def test_line_1_only_event_time_counts(
    stream: Stream, data: st.DataObject, rng: random.Random
) -> None:
    """Batches of any size, whose rows come in any order: the results are those of one batch."""
    whole = run(stream.view, stream.items, stream.up_to_us)
    runner, found, begin = Runner(stream.view), [], 0
    for cut in [*data.draw(handlings(stream)).cuts, len(stream.items)]:
        # What waits for the same watermark may come in any order, in any number of batches.
        part = stream.items[begin:cut]
        begin = cut
        rng.shuffle(part)
        for item in part:
            runner.hold([item])
        is_last = cut == len(stream.items)
        watermark_us = stream.up_to_us if is_last else stream.items[cut].effective_us
        found.append(runner.advance(watermark_us))
    assert together(found).text == whole.text


def test_line_1_ties_do_not_depend_on_who_came_first() -> None:
    """Updates and reads of one moment, handed in any order: one and the same result."""
    view = view_of(feature("f", "first"), feature("l", "last"), feature("n", "count"))
    items = [Item(b"a", 5, 5, i, None if i % 3 == 0 else (float(i),)) for i in range(6)]
    items.append(Item(b"a", 6, 6, 6, None))
    rng = random.Random(1)
    for _ in range(50):
        rng.shuffle(items)
        runner = Runner(view)
        for item in items:
            runner.hold([item])
        found = runner.advance(10)
        assert found.rows == [(6, b"a", [1.0, 5.0, 4.0])]
        nulls: list[Value] = [None, None, None]
        assert found.reads == {0: nulls, 3: nulls, 6: [1.0, 5.0, 4.0]}


@pytest.mark.parametrize("workers", [1, 3])
def test_line_1_entities_do_not_know_each_other(workers: int) -> None:
    """However entities are dealt out to states, each has the rows that it has alone."""
    view = view_of(COUNT, SUM, feature("f", "first", column="s", column_type="string"))
    rng = random.Random(workers)
    items = [
        Item(b"%d" % rng.randrange(20), at, at, at, (float(at % 7), f"text {at % 13}"))
        for at in range(300)
    ]
    whole = run(view, items, 400)
    parts = [
        run(view, [item for item in items if int(item.key) % workers == worker], 400)
        for worker in range(workers)
    ]
    assert sorted(row for part in parts for row in part.rows) == sorted(whole.rows)


@pytest.mark.parametrize("exact_tiles_max", [0, 100])
@pytest.mark.parametrize(("window_us", "hop_us"), [(12, 3), (12, 4), (12, 12), (5, 1), (70, 1)])
def test_line_2_a_window_is_its_tiles_up_to_now(
    window_us: int, hop_us: int, exact_tiles_max: int
) -> None:
    """At each microsecond the window is W - h to W long; at a boundary it is W before it."""
    if exact_tiles_max:
        hop_us = 1
    view = view_of(
        feature("n", "count", window_us, hop_us),
        feature("l", "first", window_us, hop_us),
        exact_tiles_max=exact_tiles_max,
    )
    # An event each microsecond: the count is the length, and the first is where it begins.
    updates = [Item(b"a", at, at, at, (float(at),)) for at in range(200)]
    output = run(view, _in_order([*_reads(range(100, 200)), *updates]), 200)
    for at in range(100, 200):
        count, first = output.reads[1_000 + at]
        begins = (at // hop_us - window_us // hop_us + 1) * hop_us
        assert (count, first) == (at - begins, begins if at > begins else None)
        assert window_us - hop_us <= at - begins < window_us
        if (at + 1) % hop_us == 0:
            # The hop is about to end: with this very moment it is Flink's window that ends there.
            assert begins == at + 1 - window_us


def test_line_2_a_tumbling_window_begins_anew() -> None:
    """With a hop as long as the window, it begins at each multiple of its length."""
    view = view_of(feature("n", "count", 10, 10))
    updates = [Item(b"a", at, at, at, (1.0,)) for at in range(40)]
    output = run(view, _in_order([*_reads(range(10, 40)), *updates]), 40)
    assert [output.reads[1_000 + at] for at in range(10, 40)] == [
        [float(at % 10)] for at in range(10, 40)
    ]


def test_line_2_without_a_window_all_of_history_counts() -> None:
    """However long ago: nothing ever leaves, and no time makes a row."""
    year_us = 365 * 24 * 3_600 * 1_000_000
    view = view_of(feature("n", "count"), feature("f", "first"), feature("m", "min"))
    items = [Item(b"a", i * year_us, i * year_us, i, (float(9 - i),)) for i in range(5)]
    output = run(view, [*items, Item(b"a", 50 * year_us, 50 * year_us, 9, None)], 60 * year_us)
    assert output.reads == {9: [5.0, 9.0, 5.0]}
    assert len(output.rows) == 5


def test_line_2_windows_of_different_hops_stand_side_by_side() -> None:
    """Each feature of a view has its own tiles, and each decays at its own boundary."""
    view = view_of(
        feature("a", "count", 10, 5), feature("b", "count", 12, 3), feature("c", "count")
    )
    output = run(view, [Item(b"a", 7, 7, 0, (1.0,))], 100)
    assert sorted(output.rows) == [
        (8, b"a", [1.0, 1.0, 1.0]),
        (15, b"a", [0.0, 1.0, 1.0]),
        (18, b"a", [0.0, 0.0, 1.0]),
    ]


@settings(max_examples=120)
@given(streams(views().filter(lambda view: len(view.aggregates) > 2)))
def test_line_3_functions_are_those_of_the_definition(stream: Stream) -> None:
    """All functions of numbers, strings and booleans, nulls and empty windows, from scratch."""
    output = run(stream.view, stream.items, stream.up_to_us)
    assert_equal(stream.view, stream.items, stream.up_to_us, output)


@pytest.mark.parametrize("exact_tiles_max", [0, 100])
def test_line_3_each_function_of_numbers(exact_tiles_max: int) -> None:
    """Over three tiles, two of which have ties, one of which has its numbers falling."""
    points = [(1, 4.0), (1, 6.0), (12, 9.0), (13, 1.0), (14, 4.0), (25, 3.0), (25, 2.0)]
    numbers = [value for _, value in points]
    wanted: dict[AggregateFunction, float] = {
        "count": 7,
        "sum": 29,
        "mean": 29 / 7,
        "min": 1,
        "max": 9,
        "var": statistics.pvariance(numbers),
        "std": statistics.pstdev(numbers),
        "first": 4,
        "last": 2,
        "count_distinct": 6,
    }
    hop_us = 1 if exact_tiles_max else 10
    view = view_of(
        *[feature(name, name, 30, hop_us) for name in wanted], exact_tiles_max=exact_tiles_max
    )
    items = [Item(b"a", at, at, i, (value,)) for i, (at, value) in enumerate(points)]
    output = run(view, [*items, Item(b"a", 26, 26, 99, None)], 27)
    assert output.reads[99] == pytest.approx(list(wanted.values()), rel=1e-14)


@pytest.mark.parametrize("value", [None, float("nan")])
def test_line_3_null_and_nan_are_skipped(value: float | None) -> None:
    """They are no number: not counted, not added, not first and not last."""
    view = view_of(
        COUNT, SUM, feature("f", "first", 30, 10), feature("l", "last", 30, 10),
        feature("v", "var", 30, 10), feature("d", "count_distinct", 30, 10),
    )  # fmt: skip
    items = [Item(b"a", at, at, at, (v,)) for at, v in [(1, value), (2, 4.0), (3, value)]]
    found = sorted(run(view, items, 20).rows)
    assert found[0][2] == [0.0, None, None, None, None, 0.0]
    assert found[1][2] == found[2][2] == [1.0, 4.0, 4.0, 4.0, 0.0, 1.0]


@pytest.mark.parametrize("tiles", [1, 3])
def test_line_3_the_error_of_distinct_counts_is_stated(tiles: int) -> None:
    """Thousands of values in 256 registers: within a few times 6.5 %, and a whole number."""
    view = view_of(feature("d", "count_distinct", 30, 10), distinct_bits=8, offline_path="")
    items = [Item(b"a", i % tiles * 10, 0, i, (i % 3_000 + 0.5,)) for i in range(4_000)]
    items = [replace(item, effective_us=item.event_us) for item in items]
    ((_, _, (found,)),) = run(view, _in_order(items), 29).rows
    assert isinstance(found, float)
    assert abs(found - 3_000) <= 3 * 0.065 * 3_000
    assert found == int(found)


def test_line_3_a_view_without_aggregations_has_the_latest_row() -> None:
    """The row of the latest event as it is, nulls included; an older one does not replace it."""
    view = view_of(feature("x", "latest"), feature("s", "latest", column="s", column_type="string"))
    items = [
        Item(b"a", 5, 5, 0, (1.0, "one")),
        Item(b"a", 7, 7, 1, (None, "two")),
        Item(b"a", 6, 9, 2, (3.0, "late")),
    ]
    rows = sorted(run(view, items, 20).rows, key=lambda row: row[0])
    assert [values for _, _, values in rows] == [[1.0, "one"], [None, "two"], [None, "two"]]


@pytest.mark.parametrize("read_rank", [0, 9])
def test_line_4_a_read_sees_what_was_strictly_before(read_rank: int) -> None:
    """What happens at the very moment of a read is not seen by it, whoever came first."""
    items = [
        Item(b"a", 4, 4, 1, (1.0,)),
        Item(b"a", 5, 5, read_rank, None),
        Item(b"a", 5, 5, 2, (10.0,)),
        Item(b"a", 6, 6, 20, None),
    ]
    for order in (items, [items[0], items[2], items[1], items[3]]):
        output = run(view_of(COUNT, SUM), order, 10)
        assert output.reads == {read_rank: [1.0, 1.0], 20: [2.0, 11.0]}


def test_line_4_windows_are_those_of_the_read() -> None:
    """A read at a boundary has the window of that boundary, though no event moved it there."""
    items = [Item(b"a", 5, 5, 0, (1.0,)), *_reads(range(29, 31))]
    assert run(view_of(COUNT), items, 40).reads == {1_029: [1.0], 1_030: [0.0]}


def test_line_5_a_value_is_valid_a_microsecond_after_its_event() -> None:
    """The stamp of a row is its event's time and one microsecond, on time or late."""
    items = [Item(b"a", 5, 5, 0, (1.0,)), Item(b"a", 3, 8, 1, (1.0,))]
    assert [stamp for stamp, _, _ in sorted(run(view_of(COUNT), items, 20).rows)] == [6, 9]


def test_line_5_a_value_is_that_of_its_stamp() -> None:
    """What leaves at the very moment of the stamp is gone, even when nothing more is awaited."""
    runner = Runner(view_of(COUNT, SUM))
    runner.hold([Item(b"a", 5, 5, 0, (1.0,)), Item(b"a", 29, 29, 1, (10.0,))])
    found = [runner.advance(29, 30), runner.advance(49)]
    assert together(found).rows == [(6, b"a", [1.0, 1.0]), (30, b"a", [1.0, 10.0])]


@settings(max_examples=120)
@given(streams(views().filter(lambda view: view.ttl_us == 0)))
def test_line_5_a_point_in_time_join_gives_what_reads_gave(stream: Stream) -> None:
    """The newest row with a stamp not after a read's time is what that read returned."""
    output = run(stream.view, stream.items, stream.up_to_us)
    for item in stream.items:
        if item.values is None:
            rows = [
                row for row in output.rows if row[1] == item.key and row[0] <= item.effective_us
            ]
            nulls: list[Value] = [None] * len(stream.view.aggregates)
            joined = max(rows, key=lambda row: row[0])[2] if rows else nulls
            assert repr(joined) == repr(output.reads[item.rank])


@pytest.mark.parametrize("offline_path", ["offline", ""])
def test_line_6_values_change_as_tiles_leave(offline_path: str) -> None:
    """Each hop that something leaves at has its row, as soon as the watermark is there."""
    runner = Runner(view_of(COUNT, SUM, offline_path=offline_path))
    runner.hold([Item(b"a", at, at, at, (float(at),)) for at in (5, 15, 16)])
    runner.advance(20)
    assert runner.advance(29).rows == []
    assert runner.advance(30).rows == [(30, b"a", [2.0, 31.0])]
    assert runner.advance(39).rows == []
    # A silent entity is back at count 0.
    assert runner.advance(41).rows == [(40, b"a", [0.0, None])]
    assert runner.advance(1_000).rows == []


def test_line_6_each_window_of_each_entity_decays_at_its_own_time() -> None:
    """Entities that decay now and later, windows of several lengths: each has its rows, in time."""
    view = view_of(feature("long", "count", 60, 20), feature("short", "count", 20, 10))
    runner = Runner(view)
    runner.hold([Item(b"%d" % i, i, i, i, (1.0,)) for i in range(200)])
    # Two tiles of the short window, one of the long one.
    runner.hold([Item(b"two", at, at, at, (1.0,)) for at in (5, 15)])
    found = [runner.advance(at) for at in range(0, 300, 10)]
    for number, one in enumerate(found):
        assert all(10 * number - 10 < stamp <= 10 * number for stamp, _, _ in one.rows)
    counts = [(6, 1, 1), (16, 2, 2), (20, 2, 1), (30, 2, 0), (60, 0, 0)]
    wanted = [(stamp, b"two", [float(long), float(short)]) for stamp, long, short in counts]
    for i in range(200):
        key, ends, ends_all = b"%d" % i, i // 10 * 10 + 20, i // 20 * 20 + 60
        wanted += [(i + 1, key, [1.0, 1.0]), (ends, key, [1.0, 0.0]), (ends_all, key, [0.0, 0.0])]
    assert sorted(together(found).rows) == sorted(wanted)
