"""One partition as the flow sees it: positions, effective times, clock, and dead letters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from contracts.log import Chunk
from contracts.plan import Topic
from dataflows.batches import DeadLetter, SourceBatch, ranks_of
from dataflows.crumbs import decode_together
from dataflows.sources.bad_share import BadShare, TooManyBadRecordsError
from dataflows.sources.columns import Decoded
from dataflows.sources.decoding import make_decoder
from dataflows.sources.schema_registry import SchemaRegistry
from dataflows.sources.transform import Transformation, transformed
from dataflows.watermark import NOT_YET, PartitionClock

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Position:
    """Where a partition was read to.

    Attributes:
        offset: of the next record.
        newest_us: the newest event time so far.
        first_us: the event time of the first record that was read.
    """

    offset: int
    newest_us: int
    first_us: int = NOT_YET


class PartitionStream:
    """Turns the records of one partition into batches. Holds no file and no clock of its own.

    Attributes:
        newest_us: the newest event time so far.
        first_us: the event time of the first record; ``NOT_YET`` until there was one.
        failure: set once too many records are bad; to be raised before the next batch, so that
            these records still reach the dead letters.
    """

    def __init__(
        self,
        topic: Topic,
        number: int,
        partition: int,
        newest_us: int,
        bad_share_max: float,
        bad_window_records: int,
        registry: SchemaRegistry | None = None,
        transformations: Sequence[Transformation] = (),
        first_us: int = NOT_YET,
    ) -> None:
        self.topic = topic
        self.number = number
        self.partition = partition
        self.newest_us = newest_us
        self.first_us = first_us
        self.failure: TooManyBadRecordsError | None = None
        self._decoder = make_decoder(topic, registry)
        self._transformations = transformations
        self._bad_share = BadShare(bad_share_max, bad_window_records)
        self._last_reason = ""

    def decode_together(self, chunks: Sequence[Chunk]) -> list[Decoded]:
        """The records of chunks of this and of other partitions of the topic."""
        return decode_together(self._decoder, chunks)

    def batch(self, chunk: Chunk, decoded: Decoded | None = None) -> SourceBatch:
        """Decode the records of a chunk, and run the views' functions over them.

        ``decoded`` is what ``decode_together`` made of it, if it was among what that was given.
        """
        offsets, times_ms = chunk.offsets, chunk.times_ms
        if decoded is None:
            decoded = self._decoder.decode(chunk)
        decoded, derived = transformed(decoded, chunk, self._transformations)
        is_bad = np.ones(len(offsets), np.bool_)
        is_bad[decoded.index] = False
        if decoded.bad:
            self._last_reason = decoded.bad[-1].reason
        self._look_at_share(is_bad)
        event_us = decoded.event_us
        delay_us = self.topic.watermark_delay_us
        newest_before = np.empty(len(event_us), np.int64)
        if len(event_us):
            newest = np.maximum.accumulate(np.maximum(event_us, self.newest_us))
            newest_before[0] = self.newest_us
            newest_before[1:] = newest[:-1]
            self.newest_us = int(newest[-1])
            if self.first_us == NOT_YET:
                self.first_us = int(event_us[0])
        return SourceBatch(
            topic=self.topic.name,
            clock=self.clock(),
            ranks=ranks_of(self.number, offsets[decoded.index]),
            event_us=event_us,
            effective_us=np.maximum(event_us, newest_before - delay_us),
            columns=decoded.columns,
            derived=derived,
            dead=tuple(
                DeadLetter(
                    self.topic.name,
                    self.partition,
                    int(offsets[b.index]),
                    b.record,
                    b.reason,
                    None if times_ms is None else int(times_ms[b.index]),
                )
                for b in decoded.bad
            ),
        )

    def clock(self) -> PartitionClock:
        """What this partition says of event time while it is being read."""
        watermark_us = max(self.newest_us - self.topic.watermark_delay_us, NOT_YET)
        return PartitionClock(self.number, watermark_us, self.newest_us, is_idle=False)

    def idle(self) -> SourceBatch:
        """An empty batch that says: read to the end, holds nobody back."""
        return self._empty(replace(self.clock(), is_idle=True))

    def awake(self) -> SourceBatch:
        """An empty batch that says: there is something new, wait for it."""
        return self._empty(self.clock())

    def known_until(self, watermark_us: int) -> SourceBatch:
        """An empty batch that says: nothing that comes takes effect before this."""
        clock = self.clock()
        return self._empty(replace(clock, watermark_us=max(clock.watermark_us, watermark_us)))

    def _empty(self, clock: PartitionClock) -> SourceBatch:
        none = np.empty(0, np.int64)
        return SourceBatch(self.topic.name, clock, none, none, none)

    def _look_at_share(self, is_bad: npt.NDArray[np.bool_]) -> None:
        """Note if any window of consecutive records holds too many bad ones."""
        too_many = self._bad_share.too_many(is_bad)
        if too_many:
            self.failure = TooManyBadRecordsError(
                f"{too_many} records of {self.topic.name}/{self.partition} are bad "
                f"({self._last_reason}); see {self.topic.name}.dlq, mend the producer, or the "
                "format or function in definitions.py, or raise HEADWATER_BAD_RECORD_SHARE_MAX"
            )
