"""The file log as a Bytewax source: assigned partitions, positions in Bytewax's own state."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from contracts.file_log import PartitionFile, ensure_topic, partition_files
from contracts.plan import Plan
from dataflows.batches import SourceBatch
from dataflows.flow.run_context import RunContext
from dataflows.sources.alignment import Alignment
from dataflows.sources.partition import PartitionStream, Position
from dataflows.watermark import NOT_YET

# Between two looks at a file that had nothing new; looking costs some microseconds.
_POLL_SECONDS = 0.001
# After silence, from saying "awake" to the first batch. Records that belong together are written
# to several partitions one after another: all of them get the time to say that they hold the
# watermark back again, before the first of them moves it on.
_WAKE_SECONDS = 0.003


@dataclass(frozen=True)
class LogPartition:
    """One partition of the log and its number in the flow (order of topic, then partition)."""

    number: int
    topic: str
    partition: int
    path: Path

    @property
    def name(self) -> str:
        """Its name in Bytewax's recovery state."""
        return f"{self.topic}/{self.partition}"


def list_partitions(directory: Path, plan: Plan) -> list[LogPartition]:
    """All partitions of the plan's topics; topics that do not exist yet are made."""
    found: list[LogPartition] = []
    for topic in plan.topics:
        ensure_topic(directory, topic.name)
        for partition, path in partition_files(directory, topic.name).items():
            found.append(LogPartition(len(found), topic.name, partition, path))
    return found


class FileLogSource(FixedPartitionedSource[SourceBatch, Position]):
    """All partitions of the file log that the plan reads."""

    def __init__(self, plan: Plan, partitions: list[LogPartition], context: RunContext) -> None:
        self._plan = plan
        self._partitions = {partition.name: partition for partition in partitions}
        self._context = context
        distance_us = int(context.settings.alignment_seconds * 1_000_000)
        self._alignment = Alignment(distance_us)

    def list_parts(self) -> list[str]:
        """Names of the partitions."""
        return list(self._partitions)

    def build_part(
        self, step_id: str, for_part: str, resume_state: Position | None
    ) -> FileLogPartition:
        """A partition that goes on at ``resume_state``."""
        settings = self._context.settings
        position = resume_state or Position(0, NOT_YET)
        partition = self._partitions[for_part]
        stream = PartitionStream(
            self._plan.topic(partition.topic),
            partition.number,
            partition.partition,
            position.newest_us,
            settings.bad_record_share_max,
            settings.bad_record_window,
        )
        file = PartitionFile(partition.path, position.offset)
        return FileLogPartition(stream, file, self._alignment, self._context)


class FileLogPartition(StatefulSourcePartition[SourceBatch, Position]):
    """Reads one file. Never blocks; an empty batch means nothing to read now."""

    def __init__(
        self,
        stream: PartitionStream,
        file: PartitionFile,
        alignment: Alignment,
        context: RunContext,
    ) -> None:
        self._stream = stream
        self._file = file
        self._alignment = alignment
        self._context = context
        until_end = context.until_end
        self._until = None if until_end is None else until_end[stream.number]
        self._bytes_left = context.settings.epoch_bytes_max
        self._silent_since: float | None = None
        self._is_idle = False
        self._look_at = 0.0
        alignment.at(stream.number, stream.newest_us)

    def next_batch(self) -> Iterable[SourceBatch]:
        """At most one batch; raise StopIteration at the end, or when asked to stop."""
        if self._stream.failure is not None:
            raise self._stream.failure
        if self._context.stop.is_set() or (self._until is not None and self._is_idle):
            self._alignment.leave(self._stream.number)
            raise StopIteration()
        now = self._context.monotonic()
        if now < self._look_at or self._bytes_left <= 0:
            return []
        if self._is_idle:
            return self._look(now)
        if not self._alignment.may_read(self._stream.newest_us):
            return []
        chunk = self._file.read(self._context.settings.batch_bytes, self._until)
        if chunk is None:
            self._look_at = now + _POLL_SECONDS
            return self._nothing_new(now)
        self._silent_since = None
        self._bytes_left -= len(chunk.records)
        batch = self._stream.batch(chunk.records, chunk.offsets)
        self._alignment.at(self._stream.number, self._stream.newest_us)
        if not self._context.tally.events:
            self._context.tally.started_at = now
        self._context.tally.add(events=len(batch.ranks), bad=len(batch.dead))
        return [batch]

    def next_awake(self) -> datetime | None:
        """Always at once: a time here would slow all other sources down (see docs)."""
        return None

    def snapshot(self) -> Position:
        """Where to go on; also the begin of a new epoch's budget."""
        self._bytes_left = self._context.settings.epoch_bytes_max
        return Position(self._file.offset, self._stream.newest_us)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _look(self, now: float) -> Iterable[SourceBatch]:
        """Whether the silence is over; what there is will be read by a later call."""
        if not self._file.has_news():
            self._look_at = now + _POLL_SECONDS
            return []
        self._is_idle = False
        self._alignment.at(self._stream.number, self._stream.newest_us)
        self._look_at = now + _WAKE_SECONDS
        return [self._stream.awake()]

    def _nothing_new(self, now: float) -> Iterable[SourceBatch]:
        if self._silent_since is None:
            self._silent_since = now
        idle_at = self._silent_since + self._context.settings.idle_timeout_seconds
        if self._until is None and now < idle_at:
            return []
        self._is_idle = True
        self._silent_since = None
        self._alignment.leave(self._stream.number)
        return [self._stream.idle()]
