"""The buffer between the reading thread and the flow."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.log import Chunk, LogError
from dataflows.sources.kafka_partition import KafkaPartition
from tests.sources.kafka_reading import Record, records_of

FRESH_SECONDS = 1.0


class _Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def _partition(clock: _Clock | None = None) -> KafkaPartition:
    return KafkaPartition("t", 3, 10, FRESH_SECONDS, lambda: None, clock or _Clock())


def _chunk(records: list[tuple[int, bytes]], next_offset: int) -> Chunk:
    values = [value + b"\n" for _, value in records]
    offsets = np.array([offset for offset, _ in records], np.int64)
    starts = np.cumsum([0, *(len(value) for value in values)])[:-1]
    return Chunk(b"".join(values), starts.astype(np.int64), offsets, next_offset, offsets * 7)


@st.composite
def _fetches(draw: st.DrawFn) -> list[Chunk]:
    """Fetches from offset 10 on, with gaps, some with control records only."""
    chunks, offset = [], 10
    for _ in range(draw(st.integers(0, 5))):
        records = []
        for _ in range(draw(st.integers(0, 5))):
            offset += draw(st.integers(0, 2))
            records.append((offset, draw(st.binary(max_size=6))))
            offset += 1
        offset += draw(st.integers(0, 2)) if records else 1
        chunks.append(_chunk(records, offset))
    return chunks


@given(
    _fetches(),
    st.lists(st.integers(1, 30), min_size=1),
    st.lists(st.booleans(), min_size=1),
    st.integers(10, 40),
)
def test_reads_give_all_records_once_and_in_order(
    fetches: list[Chunk], sizes: list[int], is_early: list[bool], until: int
) -> None:
    """Fetches that come at any moment are read whole, in bounds, and never past ``until``."""
    partition = _partition()
    found: list[Record] = []
    to_come = list(fetches)
    is_empty, turn = False, 0
    while to_come or not is_empty:
        if to_come and (is_empty or is_early[turn % len(is_early)]):
            partition.add(to_come.pop(0))
        bytes_max = sizes[turn % len(sizes)]
        before = partition.offset
        chunk = partition.read(bytes_max, until)
        is_empty, turn = chunk is None, turn + 1
        if chunk is None:
            assert partition.offset == before
            continue
        assert len(chunk.records) <= bytes_max or len(chunk.starts) == 1
        assert before <= chunk.offsets[0] < chunk.next_offset == partition.offset
        found += records_of(chunk)
    wanted = [record for fetch in fetches for record in records_of(fetch)]
    assert found == [record for record in wanted if record[0] < until]
    if len(found) == len(wanted):
        assert partition.buffered_bytes == 0
        assert partition.offset == (fetches[-1].next_offset if fetches else 10)
    assert all(a[0] < b[0] for a, b in pairwise(found))


def test_the_buffer_counts_its_bytes() -> None:
    """What is added and not yet read is counted, and nothing is once all is read."""
    partition = _partition()
    partition.add(_chunk([(10, b"a" * 100), (11, b"b" * 100)], 12))
    assert partition.buffered_bytes >= 202
    partition.read(110)
    assert 101 <= partition.buffered_bytes < 202
    partition.read(110)
    assert partition.buffered_bytes == 0


def test_the_end_is_what_a_broker_has_just_told() -> None:
    """A partition is at its end only while a fresh answer says so, and all was read."""
    clock = _Clock()
    partition = _partition(clock)
    assert not partition.is_at_end(), "nobody has said anything yet"
    partition.told(12, 12, clock.now)
    assert not partition.is_at_end()
    partition.add(_chunk([(10, b"a"), (11, b"b")], 12))
    assert partition.has_news()
    assert not partition.is_at_end()
    partition.read(100)
    assert partition.is_at_end()
    clock.now += FRESH_SECONDS + 0.1
    assert not partition.is_at_end(), "the broker may be gone"
    partition.told(12, 12, clock.now)
    assert partition.is_at_end()
    partition.told(13, 13, clock.now)
    assert not partition.is_at_end()


def test_control_records_at_the_end_are_read_past() -> None:
    """What a fetch gives of control records only moves the offset, also behind records."""
    partition = _partition()
    partition.told(14, 14, 100.0)
    partition.add(_chunk([(10, b"a")], 11))
    partition.add(_chunk([], 12))
    chunk = partition.read(100)
    assert chunk is not None
    assert chunk.next_offset == partition.offset == 12
    partition.add(_chunk([], 14))
    assert not partition.has_news()
    assert partition.offset == 14
    assert partition.is_at_end()
    assert partition.is_at_end(14)


def test_what_may_not_be_read_yet_is_no_silence() -> None:
    """An open transaction is told as such, until it ends; what it leaves behind is read past."""
    partition = _partition()
    partition.told(10, 10, 100.0)
    assert not partition.has_withheld()
    partition.told(10, 13, 100.0)
    assert partition.is_at_end()
    assert partition.has_withheld()
    partition.add(_chunk([], 13))
    assert not partition.has_withheld(), "it was aborted"
    partition.told(13, 13, 100.0)
    assert partition.is_at_end()
    assert not partition.has_withheld()


def test_until_is_reached_without_a_broker() -> None:
    """Once all before ``until`` is read nobody need answer, whatever lies behind it."""
    partition = _partition()
    partition.add(_chunk([(10, b"a"), (15, b"b")], 16))
    assert not partition.is_at_end(12)
    assert partition.read(100, 12) is not None
    assert partition.read(100, 12) is None
    assert partition.is_at_end(12)
    assert not partition.is_at_end(16)


def test_a_failure_comes_behind_what_was_fetched() -> None:
    """Records that were fetched before a failure are given first; then each read raises it."""
    partition = _partition()
    partition.told(11, 11, 100.0)
    partition.add(_chunk([(10, b"a")], 11))
    partition.fail(LogError("it is broken"))
    assert partition.read(100) is not None
    assert partition.has_news()
    assert not partition.is_at_end()
    for _ in range(2):
        with pytest.raises(LogError, match="it is broken"):
            partition.read(100)


def test_a_closed_partition_takes_no_more() -> None:
    """What comes after the flow has let go is dropped, so that it does not stay in memory."""
    partition = _partition()
    partition.add(_chunk([(10, b"a")], 11))
    partition.close()
    partition.add(_chunk([(11, b"a")], 12))
    assert partition.buffered_bytes == 0
    assert partition.read(100) is None
