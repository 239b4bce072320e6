"""Partitions that are read before their turn: nobody but the decoder may notice."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from contracts.log import Chunk, LogError
from contracts.online_store import SqliteConfig
from contracts.plan import Column, Topic
from contracts.settings import DataflowSettings
from dataflows.batches import SourceBatch
from dataflows.flow.log_source import LogSourcePartition
from dataflows.flow.run_context import Places, RunContext
from dataflows.sources.alignment import Alignment
from dataflows.sources.partition import PartitionStream
from dataflows.watermark import NOT_YET
from tests.sources.chunks import chunk_of

_TOPIC = Topic("t", (Column("at", "timestamp", False),), "at", 0, "at")
_RECORD = b'{"at":"2013-01-31T00:00:00Z"}'


class Reader:
    """Gives one chunk after another; an error where one stands among them."""

    def __init__(self, chunks: list[Chunk | LogError]) -> None:
        self.chunks = chunks
        self.offset = 0
        self.is_closed = False

    def read(self, bytes_max: int, until: int | None = None) -> Chunk | None:
        """The next chunk."""
        if not self.chunks:
            return None
        if isinstance(self.chunks[0], LogError):
            raise self.chunks[0]
        chunk = self.chunks.pop(0)
        assert isinstance(chunk, Chunk)
        self.offset = chunk.next_offset
        return chunk

    def has_news(self) -> bool:
        """Whether anything is left."""
        return bool(self.chunks)

    def is_at_end(self, until: int | None = None) -> bool:
        """Whether nothing is left."""
        return not self.chunks

    def has_withheld(self) -> bool:
        """Never."""
        return False

    def known_at(self, now: float) -> float:
        """Just now."""
        return now

    def committed(self, offset: int) -> None:
        """Nobody asks."""

    def close(self) -> None:
        """Remember it."""
        self.is_closed = True


def _records(*counts: int) -> list[Chunk | LogError]:
    """A chunk for each number of records."""
    found: list[Chunk | LogError] = []
    first = 0
    for count in counts:
        found.append(chunk_of([_RECORD] * count, first))
        first = found[-1].next_offset  # type: ignore[union-attr]
    return found


def _partitions(folder: Path, readers: list[Reader]) -> list[LogSourcePartition]:
    places = Places(folder, SqliteConfig(folder / "none.db"), {}, folder, folder)
    context = RunContext(DataflowSettings.for_repo(folder), places, None, threading.Event())
    alignment, peers = Alignment(2**63), list[LogSourcePartition]()
    for number, reader in enumerate(readers):
        stream = PartitionStream(_TOPIC, number, number, NOT_YET, 0.5, 1_000)
        peers.append(LogSourcePartition(f"t/{number}", stream, reader, alignment, context, peers))
    return list(peers)


def _given(partition: LogSourcePartition) -> list[int]:
    """Offsets of the batch that a partition gives now."""
    batches: list[SourceBatch] = list(partition.next_batch())
    ranks = np.concatenate([batch.ranks for batch in batches]) if batches else np.empty(0, int)
    return [int(rank) & (2**48 - 1) for rank in ranks]


def test_a_partition_stands_where_it_stood_until_its_turn(tmp_path: Path) -> None:
    """What was read ahead is given at its turn, and only then is it behind the position."""
    readers = [Reader(_records(1, 1)), Reader(_records(2, 1))]
    first, second = _partitions(tmp_path, readers)
    size = len(_RECORD) + 1
    assert _given(first) == [0]
    assert [reader.offset for reader in readers] == [size, 2 * size]
    assert second.snapshot().offset == 0
    assert second.snapshot().newest_us == NOT_YET
    assert _given(second) == [0, size]
    assert second.snapshot().offset == 2 * size
    # Whoever comes first reads ahead for all.
    assert _given(second) == [2 * size]
    assert first.snapshot().offset == size
    assert _given(first) == [size]


def test_what_was_read_ahead_is_given_before_the_end(tmp_path: Path) -> None:
    """Asked to stop, a partition first gives what was read of it: its reader has gone past it."""
    first, second = _partitions(tmp_path, [Reader(_records(1)), Reader(_records(1))])
    assert _given(first) == [0]
    first._context.stop.set()
    assert _given(second) == [0]
    for partition in (first, second):
        with pytest.raises(StopIteration):
            partition.next_batch()


def test_a_partition_that_may_not_read_is_not_read_ahead(tmp_path: Path) -> None:
    """An epoch's budget, silence and being over hold for reading ahead as well."""
    readers = [Reader(_records(1, 1, 1)), Reader(_records(1))]
    first, second = _partitions(tmp_path, readers)
    second._bytes_left = 0
    assert _given(first) == [0]
    second._bytes_left, second._is_idle = 1, True
    assert _given(first) == [len(_RECORD) + 1]
    second._is_idle = False
    second.close()
    assert _given(first) == [2 * (len(_RECORD) + 1)]
    assert readers[1].offset == 0
    assert readers[1].is_closed


def test_an_error_of_a_partition_waits_for_its_turn(tmp_path: Path) -> None:
    """One that cannot be read on does not keep the others' records back."""
    broken = Reader([LogError("the disk is gone")])
    first, second = _partitions(tmp_path, [Reader(_records(1)), broken])
    assert _given(first) == [0]
    with pytest.raises(LogError, match="the disk is gone"):
        second.next_batch()


def test_much_is_not_decoded_with_others(tmp_path: Path) -> None:
    """A chunk that is no crumb is decoded when its partition gives it, like any other."""
    many = 64 * 1024 // len(_RECORD)
    first, second = _partitions(tmp_path, [Reader(_records(1)), Reader(_records(many))])
    assert _given(first) == [0]
    assert second._ahead.is_ahead
    assert len(_given(second)) == many
