"""One partition: effective times, clocks, dead letters, and the bound on bad records."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from contracts.plan import Column, Topic, View
from dataflows.batches import SourceBatch, split_ranks
from dataflows.sources.alignment import Alignment
from dataflows.sources.bad_share import TooManyBadRecordsError
from dataflows.sources.partition import PartitionStream
from dataflows.sources.transform import Transformation
from dataflows.watermark import NOT_YET, PartitionClock, WatermarkTable
from tests.sources.chunks import chunk_of

BASE_US = 1_356_998_400_000_000


def _stream(delay_us: int = 0, newest_us: int = NOT_YET, window: int = 1000) -> PartitionStream:
    topic = Topic("t", (Column("at", "timestamp", False),), "at", delay_us, "at")
    return PartitionStream(topic, 3, 1, newest_us, 0.5, window)


def _records(times: list[int | None]) -> list[bytes]:
    """The records of a batch; None is a bad one."""
    return [
        b"bad"
        if t is None
        else b'{"at":"%s"}'
        % datetime.fromtimestamp((BASE_US + t) / 1e6, UTC).isoformat("T", "microseconds").encode()
        for t in times
    ]


def _batch(stream: PartitionStream, times: list[int | None]) -> SourceBatch:
    return stream.batch(chunk_of(_records(times)))


@given(
    st.lists(st.one_of(st.none(), st.integers(0, 60)), max_size=30),
    st.sampled_from([0, 1, 10]),
    st.integers(1, 30),
)
def test_effective_times_are_those_of_a_plain_loop(
    times: list[int | None], delay_us: int, size: int
) -> None:
    """A record takes effect at its time or at its partition's watermark, whichever is later."""
    wanted, newest_us = [], None
    for t in times:
        if t is None:
            continue
        wanted.append(t if newest_us is None else max(t, newest_us - delay_us))
        newest_us = t if newest_us is None else max(t, newest_us)
    stream = _stream(delay_us, window=10_000)
    found: list[int] = []
    for begin in range(0, len(times), size):
        batch = _batch(stream, times[begin : begin + size])
        found += (batch.effective_us - BASE_US).tolist()
        assert batch.clock.watermark_us == max(stream.newest_us - delay_us, NOT_YET)
        # A stream that resumes from a position goes on as if it had never stopped.
        stream = _stream(delay_us, stream.newest_us, window=10_000)
    assert found == wanted


def test_ranks_and_dead_letters_have_their_offsets() -> None:
    """Good and bad records of a batch are known by the offset at which each begins."""
    chunk = chunk_of(_records([5, None, 7, None]), 1000)
    offsets = chunk.offsets
    batch = _stream().batch(chunk)
    numbers, positions = split_ranks(batch.ranks)
    assert numbers == [3, 3]
    assert positions == [offsets.tolist()[i] for i in (0, 2)]
    assert [(d.topic, d.partition, d.offset, d.record) for d in batch.dead] == [
        ("t", 1, int(offsets[1]), b"bad"),
        ("t", 1, int(offsets[3]), b"bad"),
    ]


def test_too_many_bad_records_stop_loudly() -> None:
    """More bad records than the share allows, in any full window, are a failure that says why."""
    stream = _stream(window=10)
    _batch(stream, [None] * 9)
    assert stream.failure is None
    _batch(stream, [1] * 30)
    assert isinstance(stream.failure, TooManyBadRecordsError)
    assert re.search(
        r"9 of 10 .*\(JSON is malformed.*\).*HEADWATER_BAD_RECORD_SHARE_MAX", str(stream.failure)
    )


def test_a_burst_of_bad_records_inside_a_batch_stops_too() -> None:
    """Many good records around it do not hide a window full of bad ones."""
    stream = _stream(window=10)
    _batch(stream, [*range(1000), *[None] * 6, *range(2000, 3000)])
    assert stream.failure is not None


def test_as_many_bad_records_as_allowed_go_on() -> None:
    """Exactly the allowed share of bad records in every window never stops a stream."""
    stream = _stream(window=10)
    for _ in range(5):
        assert len(_batch(stream, [None, 1] * 5).dead) == 5


def test_records_at_which_a_function_fails_are_bad_ones() -> None:
    """They stand among the others in the dead letters, move no clock and count for the bound."""

    def function(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        if any(at.microsecond for at in rows["at"]):
            raise ValueError("not a whole second")
        return {"at_text": [str(at) for at in rows["at"]]}

    topic = Topic("t", (Column("at", "timestamp", False),), "at", 0, "at")
    view = View("v", "t", ("at_text",), ("string",), (), 0, "", transform="python")
    stream = PartitionStream(
        topic, 3, 1, NOT_YET, 0.5, 5, None, [Transformation(topic, view, function)]
    )
    records = _records([0, 7, None, 1_000_000, 2_000_007])
    batch = stream.batch(chunk_of(records))
    reason = "view v: ValueError: not a whole second"
    assert [(letter.record, letter.reason == reason) for letter in batch.dead] == [
        (records[1], True), (records[2], False), (records[4], True),
    ]  # fmt: skip
    assert stream.newest_us == batch.clock.newest_us == BASE_US + 1_000_000
    assert len(batch.ranks) == len(batch.derived["v"]["at_text"]) == 2
    assert stream.failure is not None


def test_the_watermark_is_that_of_the_slowest() -> None:
    """The slowest partition that is not idle holds the watermark; it never goes back."""
    table = WatermarkTable(3)
    steps = [
        (PartitionClock(0, 10, 12, False), NOT_YET),
        (PartitionClock(1, 20, 20, False), NOT_YET),
        (PartitionClock(2, 5, 5, True), 10),
        (PartitionClock(0, 30, 32, False), 20),
        (PartitionClock(2, 6, 6, False), 20),
        (PartitionClock(1, 40, 40, True), 20),
        (PartitionClock(2, 25, 25, True), 30),
        (PartitionClock(0, 30, 32, True), 40),
    ]
    for clock, watermark_us in steps:
        table.update(clock)
        assert table.watermark_us == watermark_us
        assert table.is_idle == (clock is steps[-1][0])
    table.reopen()
    assert not table.is_idle


def test_nobody_reads_far_ahead_of_the_slowest() -> None:
    """A partition waits for those that are behind, and not for those that have nothing to read."""
    alignment = Alignment(100)
    alignment.at(0, NOT_YET)
    alignment.at(1, NOT_YET)
    assert alignment.may_read(NOT_YET)
    alignment.at(0, 5000)
    assert not alignment.may_read(5000)
    alignment.at(1, 4900)
    assert alignment.may_read(5000)
    alignment.at(0, 5001)
    assert not alignment.may_read(5001)
    assert alignment.may_read(4900)
    alignment.leave(1)
    assert alignment.may_read(5001)
