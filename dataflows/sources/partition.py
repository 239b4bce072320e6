"""One partition as the flow sees it: positions, effective times, clock, and dead letters."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from contracts.plan import Topic
from dataflows.batches import DeadLetter, SourceBatch, ranks_of
from dataflows.sources.decoding import RecordDecoder
from dataflows.watermark import NOT_YET, PartitionClock

Ints = npt.NDArray[np.int64]


class TooManyBadRecordsError(Exception):
    """So many records are bad that going on would throw the topic away."""


@dataclass(frozen=True)
class Position:
    """Where a partition was read to: the next offset, and the newest event time so far."""

    offset: int
    newest_us: int


class PartitionStream:
    """Turns the records of one partition into batches. Holds no file and no clock of its own."""

    def __init__(
        self,
        topic: Topic,
        number: int,
        partition: int,
        newest_us: int,
        bad_share_max: float,
        bad_window_records: int,
    ) -> None:
        self.topic = topic
        self.number = number
        self.partition = partition
        self.newest_us = newest_us
        self._decoder = RecordDecoder(topic)
        self._bad_share_max = bad_share_max
        self._bad_window_records = bad_window_records
        self._seen = 0
        self._bad = 0

    def batch(self, records: bytes, offsets: Ints) -> SourceBatch:
        """Decode records that begin at ``offsets``; raise TooManyBadRecordsError."""
        decoded = self._decoder.decode(records, len(offsets))
        self._check_share(len(offsets), len(decoded.bad))
        event_us = decoded.event_us
        delay_us = self.topic.watermark_delay_us
        newest_before = np.empty(len(event_us), np.int64)
        if len(event_us):
            newest = np.maximum.accumulate(np.maximum(event_us, self.newest_us))
            newest_before[0] = self.newest_us
            newest_before[1:] = newest[:-1]
            self.newest_us = int(newest[-1])
        return SourceBatch(
            topic=self.topic.name,
            clock=self.clock(),
            ranks=ranks_of(self.number, offsets[decoded.index]),
            event_us=event_us,
            effective_us=np.maximum(event_us, newest_before - delay_us),
            columns=decoded.columns,
            dead=tuple(
                DeadLetter(
                    self.topic.name, self.partition, int(offsets[b.index]), b.record, b.reason
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

    def _empty(self, clock: PartitionClock) -> SourceBatch:
        none = np.empty(0, np.int64)
        return SourceBatch(self.topic.name, clock, none, none, none)

    def _check_share(self, records: int, bad: int) -> None:
        self._seen += records
        self._bad += bad
        if self._seen < self._bad_window_records:
            return
        if self._bad > self._bad_share_max * self._seen:
            raise TooManyBadRecordsError(
                f"{self._bad} of the last {self._seen} records of {self.topic.name}/"
                f"{self.partition} are bad; see {self.topic.name}.dlq, mend the producer or the "
                "format in definitions.py, or raise HEADWATER_BAD_RECORD_SHARE_MAX"
            )
        self._seen = self._bad = 0
