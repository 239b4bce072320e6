"""The log as a Bytewax source: assigned partitions, positions in Bytewax's own state."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from datetime import datetime
from types import MappingProxyType

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from contracts.log import Chunk, PartitionReader
from contracts.plan import Plan
from dataflows.batches import SourceBatch
from dataflows.flow.ahead import AheadReader, decode_crumbs, is_crumb
from dataflows.flow.room import check_epoch
from dataflows.flow.run_context import PartitionProgress, RunContext
from dataflows.flow.waiting import UNTOLD_SECONDS, kafka_to_answer, teller
from dataflows.sources.alignment import Alignment
from dataflows.sources.columns import Decoded
from dataflows.sources.partition import PartitionStream, Position
from dataflows.sources.plan_log import PlanLog
from dataflows.sources.schema_registry import SchemaRegistry
from dataflows.sources.transform import Function, transformations_of
from dataflows.watermark import NOT_YET

# Between two looks at a partition that had nothing new; looking costs some microseconds.
_POLL_SECONDS = 0.001
# After silence, from saying "awake" to the first batch. Records that belong together are written
# to several partitions one after another: all of them get the time to say that they hold the
# watermark back again, before the first of them moves it on.
_WAKE_SECONDS = 0.003
_NO_FUNCTIONS: Mapping[str, Function] = MappingProxyType({})


class LogSource(FixedPartitionedSource[SourceBatch, Position]):
    """All partitions of the log that the plan reads.

    ``functions`` holds by name those of the views that have one, see ``Repository.transforms``.
    """

    def __init__(
        self,
        plan: Plan,
        log: PlanLog,
        context: RunContext,
        functions: Mapping[str, Function] = _NO_FUNCTIONS,
    ) -> None:
        self._plan = plan
        self._functions = functions
        self._log = log
        self._partitions = {partition.name: partition for partition in log.partitions}
        self._context = context
        distance_us = int(context.settings.alignment_seconds * 1_000_000)
        self._alignment = Alignment(distance_us)
        self._registry = _registry(context)
        # Thread of a worker and topic -> the partitions that it reads.
        self._peers: dict[tuple[int, str], list[LogSourcePartition]] = {}

    def list_parts(self) -> list[str]:
        """Names of the partitions."""
        return list(self._partitions)

    def build_part(
        self, step_id: str, for_part: str, resume_state: Position | None
    ) -> LogSourcePartition:
        """A partition that goes on at ``resume_state``."""
        settings = self._context.settings
        partition = self._partitions[for_part]
        topic = self._plan.topic(partition.topic)
        stream = PartitionStream(
            topic,
            partition.number,
            partition.partition,
            NOT_YET if resume_state is None else resume_state.newest_us,
            settings.bad_record_share_max,
            settings.bad_record_window,
            self._registry,
            transformations_of(self._plan, topic, self._functions),
            NOT_YET if resume_state is None else resume_state.first_us,
        )
        offset = None if resume_state is None else resume_state.offset
        reader = self._log.open(partition, offset)
        peers = self._peers.setdefault((threading.get_ident(), topic.name), [])
        made = LogSourcePartition(for_part, stream, reader, self._alignment, self._context, peers)
        peers.append(made)
        return made


class LogSourcePartition(StatefulSourcePartition[SourceBatch, Position]):
    """Reads one partition. Never blocks; an empty batch means nothing to read now."""

    def __init__(
        self,
        name: str,
        stream: PartitionStream,
        reader: PartitionReader,
        alignment: Alignment,
        context: RunContext,
        peers: list[LogSourcePartition],
    ) -> None:
        """``peers`` are those partitions of the topic that the same thread reads."""
        self._name = name
        self._stream = stream
        self._reader = reader
        self._alignment = alignment
        self._context = context
        self._target = context.target
        self._until = None if self._target is None else self._target.offsets[stream.number]
        self._ahead = AheadReader(reader, context.settings.batch_bytes, self._until)
        self._peers = peers
        self._bytes_left = context.settings.epoch_bytes_max
        self._silent_since: float | None = None
        self._withheld_since: float | None = None
        self._is_idle = False
        self._is_there = False
        self._ends = self._target is not None and self._target.is_end
        self._look_at = 0.0
        self._snapshot_offset: int | None = None
        self._waits_for = teller(context, f"partition {name}")
        alignment.at(stream.number, stream.newest_us)
        self._tell()

    def next_batch(self) -> Iterable[SourceBatch]:
        """At most one batch; raise StopIteration at the end, or when asked to stop."""
        if self._stream.failure is not None:
            raise self._stream.failure
        if self._snapshot_offset is not None:
            # Bytewax asks for the next batch when the epoch before is durable, not earlier.
            self._reader.committed(self._snapshot_offset)
            self._snapshot_offset = None
        if self._ahead.is_ahead:
            return self._next(self._context.monotonic())
        if self._context.stop.is_set() or self._is_over():
            self._alignment.leave(self._stream.number)
            self._context.backlog.discard(self._stream.number)
            self._waits_for("")
            raise StopIteration()
        now = self._context.monotonic()
        if now < self._look_at or self._bytes_left <= 0:
            return []
        if self._is_idle:
            # What comes after the end is for others.
            return [] if self._ends else self._look(now)
        if not self._alignment.may_read(self._stream.newest_us):
            # Others are not to wait for what is not read now.
            self._context.backlog.discard(self._stream.number)
            return []
        return self._next(now)

    def next_awake(self) -> datetime | None:
        """Always at once: a time here would slow all other sources down (see docs)."""
        return None

    def snapshot(self) -> Position:
        """Where to go on; also the begin of a new epoch's budget."""
        self._bytes_left = self._context.settings.epoch_bytes_max
        self._snapshot_offset = self._ahead.offset
        for tell in self._context.on_epoch:
            tell()
        check_epoch(self._context.places.state, self._context.settings.shards)
        return Position(self._ahead.offset, self._stream.newest_us, self._stream.first_us)

    def close(self) -> None:
        """Let go of the partition."""
        if self in self._peers:
            self._peers.remove(self)
        self._reader.close()

    def _next(self, now: float) -> Iterable[SourceBatch]:
        """The batch that is next, if there is one."""
        taken = self._ahead.take()
        if taken is None:
            self._look_at = now + _POLL_SECONDS
            return self._nothing_new(now)
        chunk, decoded = taken
        if decoded is None and is_crumb(chunk):
            others = [
                peer._ahead
                for peer in self._peers
                if peer is not self and peer._may_read_ahead(now)
            ]
            decoded = decode_crumbs(chunk, others, self._stream.decode_together)
        return [self._batch(chunk, decoded, now)]

    def _may_read_ahead(self, now: float) -> bool:
        """Whether ``next_batch`` would read now if it were its turn."""
        return (
            not self._ahead.is_ahead
            and self._reader.has_news()
            and now >= self._look_at
            and self._bytes_left > 0
            and not self._is_idle
            and self._stream.failure is None
            and not self._is_over()
            and self._alignment.may_read(self._stream.newest_us)
        )

    def _batch(self, chunk: Chunk, decoded: Decoded | None, now: float) -> SourceBatch:
        """What a chunk holds, which counts as read from here on."""
        self._waits_for("")
        self._silent_since = self._withheld_since = None
        self._bytes_left -= len(chunk.records)
        batch = self._stream.batch(chunk, decoded)
        if self._context.span is not None:
            batch = self._context.span.of(batch)
        self._alignment.at(self._stream.number, self._stream.newest_us)
        # What is read in crumbs comes in live, even if the next crumb is there already.
        if is_crumb(chunk) or self._reader.is_at_end(self._until):
            self._context.backlog.discard(self._stream.number)
        else:
            self._context.backlog.add(self._stream.number)
        if not self._context.tally.events:
            self._context.tally.started_at = now
        self._context.tally.add(events=len(batch.ranks), bad=len(batch.dead))
        self._tell()
        return batch

    def _is_over(self) -> bool:
        """Whether this is where the run ends."""
        target = self._target
        return target is not None and self._is_there and target.is_over(is_idle=self._is_idle)

    def _look(self, now: float) -> Iterable[SourceBatch]:
        """Whether the silence is over; what there is will be read by a later call."""
        if not self._reader.has_news():
            self._look_at = now + _POLL_SECONDS
            self._tell_silence(now)
            return []
        self._waits_for("")
        self._is_idle = False
        self._tell()
        if not self._is_there:
            self._alignment.at(self._stream.number, self._stream.newest_us)
        self._look_at = now + _WAKE_SECONDS
        return [self._stream.awake()]

    def _tell_silence(self, now: float) -> None:
        """Say so if it is not that nothing was written: nobody answers, or it is withheld."""
        if not self._reader.has_withheld():
            self._withheld_since = None
        elif self._withheld_since is None:
            self._withheld_since = now
        what = ""
        if now - self._reader.known_at(now) > UNTOLD_SECONDS:
            what = kafka_to_answer(self._context.settings)
        elif self._withheld_since is not None and now - self._withheld_since > UNTOLD_SECONDS:
            what = f"an open transaction to end in {self._name}"
        self._waits_for(what)

    def _nothing_new(self, now: float) -> Iterable[SourceBatch]:
        self._tell_silence(now)
        self._context.backlog.discard(self._stream.number)
        if not self._reader.is_at_end(self._until):
            # Nothing has come, but nobody has said that there is nothing.
            self._silent_since = None
            return []
        target = self._target
        if target is not None and not self._is_there:
            self._is_there = True
            target.arrived(self._stream.number)
            if not target.is_end:
                # Nobody waits for what is not read here.
                self._alignment.leave(self._stream.number)
                return [self._stream.known_until(target.watermark_us)]
        if not self._ends and (self._reader.has_withheld() or not self._reader.is_at_end()):
            # Somebody is writing: what it is will be told when the transaction ends; or it is for
            # those who go on behind the target.
            self._silent_since = None
            return []
        if self._silent_since is None:
            self._silent_since = now
        idle_at = self._silent_since + self._context.settings.idle_timeout_seconds
        # Only silence that the log has confirmed counts, not that of a broker that has gone.
        if not self._ends and self._reader.known_at(now) < idle_at:
            return []
        self._is_idle = True
        self._silent_since = None
        self._alignment.leave(self._stream.number)
        self._tell()
        return [self._stream.idle()]

    def _tell(self) -> None:
        self._context.positions[self._name] = PartitionProgress(
            offset=self._ahead.offset,
            newest_us=self._stream.newest_us,
            is_idle=self._is_idle,
        )


def _registry(context: RunContext) -> SchemaRegistry | None:
    url = context.settings.schema_registry_url
    if not url:
        return None
    return SchemaRegistry(
        url,
        patience_seconds=context.settings.outage_seconds,
        wait=context.stop.wait,
        tell=teller(context, "schema registry"),
    )
