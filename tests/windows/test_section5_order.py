"""DESIGN section 5, lines 7 to 9: a test's number is that of the line that it proves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.plan import Aggregate, Column, Plan, Topic
from dataflows.batches import SourceBatch, ranks_of
from dataflows.routing import ShardRouter
from dataflows.shard import Shard
from dataflows.watermark import PartitionClock
from tests.windows.random_streams import Stream, handlings, streams
from tests.windows.stream import (
    Item,
    Runner,
    advances,
    expected,
    feature,
    run,
    view_of,
)

COUNT = feature("n", "count", 30, 10)


def test_line_7_a_late_event_counts_while_its_tile_is_in_the_window() -> None:
    """It is added to the tile of its own time, and leaves with that, having come late."""
    for effective_us, wanted in [
        (29, [(30, 0.0)]),
        (28, [(29, 1.0), (30, 0.0)]),
        (30, [(31, 0.0)]),
    ]:
        items = [Item(b"a", 5, effective_us, 0, (1.0,))]
        rows = sorted(run(view_of(COUNT), items, 100).rows)
        assert [(stamp, values[0]) for stamp, _, values in rows] == wanted


@settings(max_examples=60)
@given(streams(), st.data())
def test_line_7_what_was_handed_out_is_never_changed(stream: Stream, data: st.DataObject) -> None:
    """Rows come with the advance that passed their stamp: none of an earlier time comes later."""
    how = data.draw(handlings(stream))
    before_us = -1
    found = advances(stream.view, stream.items, stream.up_to_us, how.cuts)
    times = [stream.items[cut].effective_us for cut in how.cuts if cut < len(stream.items)]
    times += [stream.up_to_us] * (len(found) - len(times))
    for advance, watermark_us in zip(found, times, strict=True):
        assert all(before_us < stamp <= watermark_us for stamp, _, _ in advance.rows)
        before_us = watermark_us


def _shard_of(*aggregates: Aggregate) -> tuple[Shard, ShardRouter]:
    """One shard with one view over two partitions of one topic."""
    columns = (Column("k", "string", False), Column("x", "float64", True))
    topic = Topic("t", (*columns, Column("at", "timestamp", False)), "at", 0, "k")
    plan = Plan("p", (topic,), (replace(view_of(*aggregates), name="v"),), ())
    return Shard(plan, 0, 2), ShardRouter(plan, 1)


def _batch(
    partition: int, rows: list[tuple[int, int, float]], watermark_us: int, first_offset: int = 0
) -> SourceBatch:
    """Rows of (event time, time of effect, value) of one entity."""
    return SourceBatch(
        "t",
        PartitionClock(partition, watermark_us, watermark_us, False),
        ranks_of(partition, np.arange(first_offset, first_offset + len(rows))),
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows], np.int64),
        {"k": ["a"] * len(rows), "x": np.array([row[2] for row in rows], np.float64)},
    )


def test_line_7_late_events_are_counted_by_view_and_the_oldest_only_count() -> None:
    """Older than every window changes no value; it is counted as late all the same."""
    shard, router = _shard_of(COUNT)
    rows = [(100, 100, 1.0), (95, 100, 1.0), (3, 100, 1.0)]
    inputs = [router.route(b)[0][1] for b in (_batch(0, rows, 110), _batch(1, [], 110))]
    output = shard.on_batch(inputs)
    assert output is not None
    assert output.late == {"v": 2}
    assert output.rows["v"].rows.values.tolist() == [[2.0]]
    assert output.rows["v"].rows.stamps_us.tolist() == [101]


@pytest.mark.parametrize("first", [0, 1])
def test_line_8_order_is_time_then_partition_then_offset(first: int) -> None:
    """Whichever partition came first: of equal times the higher partition's last one is last."""
    shard, router = _shard_of(feature("l", "last"), feature("f", "first"))
    batches = [
        _batch(0, [(50, 50, 1.0), (50, 50, 2.0), (51, 51, 9.0)], 60),
        _batch(1, [(50, 50, 3.0), (50, 50, 4.0)], 60),
    ]
    inputs = [router.route(batches[i])[0][1] for i in (first, 1 - first)]
    outputs = [shard.on_batch([one]) for one in inputs]
    (output,) = [one for one in outputs if one is not None]
    rows = output.rows["v"].rows
    assert rows.stamps_us.tolist() == [51, 52]
    assert rows.values.tolist() == [[4.0, 1.0], [9.0, 1.0]]


@settings(max_examples=60)
@given(streams(), st.data())
def test_line_9_what_is_done_again_is_done_alike(stream: Stream, data: st.DataObject) -> None:
    """From what was stored with an offset, all after it is the same: upserts write it again."""
    cut = data.draw(st.integers(0, len(stream.items) - 1))
    runner = Runner(stream.view)
    runner.hold(stream.items[:cut])
    runner.advance(stream.items[cut].effective_us)
    runner.store("dump")
    resumed = Runner.resumed(stream.view, runner.stored)
    for one in (runner, resumed):
        one.hold(stream.items[cut:])
    rest = runner.advance(stream.up_to_us)
    assert repr(resumed.advance(stream.up_to_us)) == repr(rest)
    wanted = expected(stream.view, stream.items, stream.up_to_us)
    newest = {
        key: (stamp, values) for stamp, key, values in sorted(wanted.rows, key=lambda r: r[0])
    }
    # The online store has the newest row of each entity, however often it was written.
    for key, found in {key: (stamp, values) for stamp, key, values in rest.rows}.items():
        assert found == newest[key]


def test_line_9_time_goes_on_where_it_stood() -> None:
    """What is due to decay decays after a restart too, though nothing comes."""
    runner = Runner(view_of(COUNT))
    runner.hold([Item(b"a", 5, 5, 0, (1.0,))])
    runner.advance(10)
    runner.store("dump, load")
    assert runner.advance(40).rows == [(30, b"a", [0.0])]
