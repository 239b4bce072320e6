"""One partition of Kafka between the thread that reads it and the flow that takes it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from contracts.log import Chunk, LogError
from dataflows.sources.chunks import cut_chunk, joined_chunks, room_for

_BYTES_BESIDE_RECORD = 24  # start, offset and time


class KafkaPartition:
    """A bounded buffer of records that were fetched; implements ``contracts.log.PartitionReader``.

    The flow calls what ``PartitionReader`` has; the thread of ``KafkaLog`` calls the others.

    Attributes:
        topic: its name.
        partition: its number.
        offset: where the next read begins.
        buffered_bytes: what waits to be read.
        fetched_offset: where the next fetch begins.
        committed_offset: all before it is done; None if nothing was said.
        answered_at: monotonic seconds of the last answer of a broker, or of when we began to ask.
        is_paused: whether it is not fetched, for there is no room.
        is_closed: whether the flow has let go of it.
    """

    def __init__(
        self,
        topic: str,
        partition: int,
        offset: int,
        fresh_seconds: float,
        wake: Callable[[], None],
        monotonic: Callable[[], float],
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.fetched_offset = offset
        self.buffered_bytes = 0
        self.committed_offset: int | None = None
        self.answered_at = monotonic()
        self.is_paused = False
        self.is_closed = False
        self._end_offset: int | None = None
        self._written_offset = 0
        self._fresh_seconds = fresh_seconds
        self._wake = wake
        self._monotonic = monotonic
        self._chunks: deque[Chunk] = deque()
        self._first = 0  # of the first chunk's records, which was not read yet
        self._failure: LogError | None = None
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """For messages: ``topic/partition``."""
        return f"{self.topic}/{self.partition}"

    def read(self, bytes_max: int, until: int | None = None) -> Chunk | None:
        """As ``PartitionReader``; what was fetched before a failure is given first."""
        with self._lock:
            taken = self._take(bytes_max, until)
            failure = None if self._chunks else self._failure
        if taken is not None and self.is_paused:
            self._wake()
        if taken is None and failure is not None:
            # A new one for each caller: raising adds to the traceback of the one that is raised.
            raise LogError(str(failure)) from failure
        return taken

    def has_news(self) -> bool:
        """Whether there are records, or a failure to be raised."""
        return bool(self._chunks) or self._failure is not None

    def is_at_end(self, until: int | None = None) -> bool:
        """Whether a broker has told, just now, that nothing lies behind what was read.

        Every fetch is answered with where the log ends for readers (behind the last record that
        is committed), also when there is nothing new; an old answer does not count.
        """
        with self._lock:
            if until is not None:
                position = self.fetched_offset
                if self._chunks:
                    position = int(self._chunks[0].offsets[self._first])
                if position >= until:
                    return True
            if self._chunks or self._end_offset is None or self._failure is not None:
                return False
            is_fresh = self._monotonic() - self.answered_at <= self._fresh_seconds
            return is_fresh and self.fetched_offset >= self._end_offset

    def has_withheld(self) -> bool:
        """Whether a transaction was open when a broker last answered.

        Control records behind the last record are none of it: they are read past.
        """
        with self._lock:
            return self._written_offset > self.fetched_offset

    def known_at(self, now: float) -> float:
        """When a broker last answered for this partition."""
        return self.answered_at

    def committed(self, offset: int) -> None:
        """Remember; the thread tells Kafka within a second or so."""
        self.committed_offset = offset

    def close(self) -> None:
        """Read no more; what was said by ``committed`` is still told to Kafka."""
        with self._lock:
            self.is_closed = True
            self._chunks.clear()
            self._first = self.buffered_bytes = 0
        self._wake()

    def add(self, chunk: Chunk) -> None:
        """What a fetch gave; of control records only where they end."""
        with self._lock:
            self.fetched_offset = chunk.next_offset
            if self.is_closed:
                return
            if len(chunk.starts):
                self._chunks.append(chunk)
                self.buffered_bytes += _bytes_of(chunk)
            elif self._chunks:
                self._chunks[-1] = replace(self._chunks[-1], next_offset=chunk.next_offset)
            else:
                self.offset = chunk.next_offset

    def told(self, end_offset: int, written_offset: int, at_seconds: float) -> None:
        """A broker has answered, and said where the log ends, for readers and at all."""
        with self._lock:
            self._end_offset = end_offset
            self._written_offset = written_offset
            self.answered_at = at_seconds

    def fail(self, error: LogError) -> None:
        """Nothing more will come."""
        with self._lock:
            self._failure = error

    def _take(self, bytes_max: int, until: int | None) -> Chunk | None:
        taken: list[Chunk] = []
        size = 0
        while self._chunks:
            chunk, first = self._chunks[0], self._first
            if taken and len(chunk.records) - int(chunk.starts[first]) > bytes_max - size:
                break
            last = room_for(chunk, first, bytes_max, until)
            if last <= first:
                break
            taken.append(cut_chunk(chunk, first, last))
            size += len(taken[-1].records)
            if last < len(chunk.starts):
                self._first = last
                break
            self._chunks.popleft()
            self._first = 0
        if not taken:
            return None
        joined = joined_chunks(taken)
        self.buffered_bytes -= _bytes_of(joined)
        self.offset = joined.next_offset
        return joined


def _bytes_of(chunk: Chunk) -> int:
    return len(chunk.records) + _BYTES_BESIDE_RECORD * len(chunk.starts)
