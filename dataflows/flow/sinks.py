"""Where the flow's results go: online store, Parquet tables, model repository, dead letters."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from bytewax.outputs import (
    DynamicSink,
    FixedPartitionedSink,
    StatefulSinkPartition,
    StatelessSinkPartition,
)

from contracts.file_log import FileLogWriter
from contracts.plan import Plan
from dataflows.batches import DeadLetter, ShardOutput
from dataflows.flow.progress import ProgressFile
from dataflows.flow.run_context import RunContext
from dataflows.learning.records import NewVersion, RefusedVersion
from dataflows.stores.day_table import DayTable, Handle, TableSpec
from dataflows.stores.sqlite_writer import SqliteOnlineWriter
from dataflows.versions import VersionPublisher
from dataflows.watermark import NOT_YET

VERSIONS_UNDER_WAY_MAX = 64


@contextmanager
def noting_failure(failures: list[Exception]) -> Iterator[None]:
    """Keep an error for later: one raised while Bytewax closes a sink would abort the process."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - whatever it is, it is raised after the run
        failures.append(error)


class OnlineSink(DynamicSink[ShardOutput]):
    """Writes the last value of each entity of a batch, one transaction for all shards."""

    def __init__(self, plan: Plan, project: str, context: RunContext) -> None:
        self._plan = plan
        self._project = project
        self._context = context

    def build(self, step_id: str, worker_index: int, worker_count: int) -> OnlinePartition:
        """The writer of one worker."""
        return OnlinePartition(self._plan, self._project, self._context, worker_index)


class OnlinePartition(StatelessSinkPartition[ShardOutput]):
    """One worker's connection to the online store."""

    def __init__(self, plan: Plan, project: str, context: RunContext, worker_index: int) -> None:
        self._views = {view.name: view for view in plan.views}
        self._tally = context.tally
        self._failures = context.failures
        self._writer = SqliteOnlineWriter(context.places.online, project)
        for view in plan.views:
            self._writer.ensure_table(view)
        self._progress = ProgressFile(context.places.state, worker_index, context)
        self._shards: dict[int, int] = {}

    def write_batch(self, items: list[ShardOutput]) -> None:
        """Write and commit; then say how far the store is."""
        for item in items:
            for name, new in item.rows.items():
                slots = new.rows.slots
                # The last row of each entity: the first one when read from behind.
                _, from_behind = np.unique(slots[::-1], return_index=True)
                last = len(slots) - 1 - from_behind
                stamps_us, values = new.rows.stamps_us[last], new.rows.values[last]
                written = self._writer.write(self._views[name], new.keys, stamps_us, values)
                self._tally.add(online_rows=written)
            self._shards[item.shard] = item.watermark_us
        self._writer.commit()
        self._progress.write(len(self._shards), min(self._shards.values()))

    def close(self) -> None:
        """Close the connection."""
        with noting_failure(self._failures):
            self._writer.close()


@dataclass(frozen=True)
class TableRows:
    """Rows for one table from one producer (a shard, a model), and how far that producer is."""

    producer: int
    watermark_us: int
    batch: pa.RecordBatch | None


class TableSink(FixedPartitionedSink[TableRows, Handle]):
    """All Parquet tables; each is one partition, so each has one writer in the whole cluster."""

    def __init__(
        self, specs: Mapping[str, TableSpec], producers: Mapping[str, int], context: RunContext
    ) -> None:
        self._specs = dict(sorted(specs.items()))
        self._producers = producers
        self._context = context
        # Compressing Parquet and waiting for the disk let go of the interpreter: they cost the
        # flow's thread next to nothing. Two, so that one compresses while the other waits.
        self._writer = ThreadPoolExecutor(2, thread_name_prefix="parquet")

    def list_parts(self) -> list[str]:
        """Names of the tables."""
        return list(self._specs)

    def part_fn(self, item_key: str) -> int:
        """The table's place in the sorted list of names."""
        return list(self._specs).index(item_key)

    def build_part(
        self, step_id: str, for_part: str, resume_state: Handle | None
    ) -> TablePartition:
        """A table that goes on at ``resume_state``."""
        wal = self._context.places.state / "tables"
        table = DayTable(self._specs[for_part], wal, resume_state, self._writer)
        return TablePartition(table, self._producers[for_part], self._context)


class TablePartition(StatefulSinkPartition[TableRows, Handle]):
    """One Parquet table."""

    def __init__(self, table: DayTable, producers: int, context: RunContext) -> None:
        self._table = table
        self._missing = producers
        self._context = context
        self._watermarks: dict[int, int] = {}
        self._publish_at = context.monotonic() + context.settings.offline_publish_seconds

    def write_batch(self, values: list[TableRows]) -> None:
        """Append; close the days that all producers have passed."""
        for item in values:
            self._watermarks[item.producer] = item.watermark_us
            if item.batch is not None:
                self._table.append(item.batch)
                self._context.tally.add(offline_rows=item.batch.num_rows)
        if len(self._watermarks) == self._missing:
            watermark_us = min(self._watermarks.values())
            if watermark_us > NOT_YET:
                self._table.advance(watermark_us)

    def snapshot(self) -> Handle:
        """Make durable what was appended; now and then show the open days to readers too."""
        now = self._context.monotonic()
        if now >= self._publish_at:
            self._table.publish_open()
            self._publish_at = now + self._context.settings.offline_publish_seconds
        return self._table.snapshot()

    def close(self) -> None:
        """Show the open days to readers, and close."""
        with noting_failure(self._context.failures):
            self._table.publish_open()
            self._table.close()


@dataclass(frozen=True)
class NewVersions:
    """What a model's learner published or refused to; ``offsets`` as in ``Manifest``."""

    model: str
    versions: list[NewVersion]
    refused: list[RefusedVersion]
    offsets: Mapping[str, int]


class VersionSink(FixedPartitionedSink[NewVersions, int]):
    """Publishes new model versions; publishing one twice is publishing it once.

    Making files durable is waiting for the disk, so it happens beside the flow; an epoch ends only
    when all of its versions are there.
    """

    def __init__(self, publisher: VersionPublisher, models: list[str], context: RunContext) -> None:
        self._publisher = publisher
        self._models = models
        self._context = context
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="versions")

    def list_parts(self) -> list[str]:
        """Names of the models."""
        return self._models

    def part_fn(self, item_key: str) -> int:
        """The model's place in the sorted list of names."""
        return self._models.index(item_key)

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> VersionPartition:
        """The publisher of one model."""
        if resume_state is not None:
            # What was published after the epoch that is resumed comes again, perhaps otherwise.
            self._publisher.withdraw_after(for_part, resume_state)
        return VersionPartition(self._publisher, self._writer, self._context, resume_state or 0)


class VersionPartition(StatefulSinkPartition[NewVersions, int]):
    """Hands the versions of one model to the publisher, in order."""

    def __init__(
        self,
        publisher: VersionPublisher,
        writer: Executor,
        context: RunContext,
        published: int,
    ) -> None:
        self._publisher = publisher
        self._writer = writer
        self._tally = context.tally
        self._failures = context.failures
        self._published = published
        self._under_way: list[Future[None]] = []

    def write_batch(self, values: list[NewVersions]) -> None:
        """Begin to publish; raise ModelRepositoryError if a number is taken by another model."""
        for item in values:
            for version in item.versions:
                self._under_way.append(
                    self._writer.submit(self._publisher.publish, item.model, version, item.offsets)
                )
                self._published = version.version
                self._tally.add(versions=1)
            self._tally.refused += [f"{item.model}: {r.reason}" for r in item.refused]
        if len(self._under_way) > VERSIONS_UNDER_WAY_MAX:
            self._wait()

    def snapshot(self) -> int:
        """The newest version, once it is in the repository."""
        self._wait()
        return self._published

    def close(self) -> None:
        """Wait for what is under way."""
        with noting_failure(self._failures):
            self._wait()

    def _wait(self) -> None:
        # Taken out first: what failed once must not fail again when the sink is closed.
        under_way, self._under_way = self._under_way, []
        for future in under_way:
            future.result()


class DeadLetterSink(FixedPartitionedSink[DeadLetter, int]):
    """Appends bad records to ``TOPIC.dlq``; one partition per topic."""

    def __init__(self, plan: Plan, context: RunContext) -> None:
        self._topics = [topic.name for topic in plan.topics]
        self._context = context

    def list_parts(self) -> list[str]:
        """Names of the topics."""
        return self._topics

    def part_fn(self, item_key: str) -> int:
        """The topic's place in the sorted list of names."""
        return self._topics.index(item_key)

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> DeadLetterPart:
        """The dead letters of one topic."""
        folder = self._context.settings.log.folder
        assert folder is not None, "only the file log is built with this sink"
        return DeadLetterPart(FileLogWriter(folder, f"{for_part}.dlq"))


class DeadLetterPart(StatefulSinkPartition[DeadLetter, int]):
    """Appends what is not there yet: crashes and replays bring letters again."""

    def __init__(self, writer: FileLogWriter) -> None:
        self._writer = writer
        self._written = 0
        self._known = {origin for line in writer.lines() if (origin := _origin(line)) is not None}

    def write_batch(self, values: list[DeadLetter]) -> None:
        """Append those that are not there yet."""
        lines = [(str(letter.partition), _as_json(letter)) for letter in values]
        new = [(key, line) for key, line in lines if _origin(line) not in self._known]
        self._known.update(origin for _, line in new if (origin := _origin(line)) is not None)
        self._written += self._writer.append(new)

    def snapshot(self) -> int:
        """How many this process has written; what counts stands in the topic itself."""
        return self._written

    def close(self) -> None:
        """Close the topic."""
        self._writer.close()


def _origin(line: bytes) -> int | None:
    """A number for the record that a letter is about; None for a line that is no letter."""
    try:
        letter = json.loads(line)
        record = letter.get("record", letter.get("record_base64"))
        return hash((letter["partition"], letter["offset"], record))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _as_json(letter: DeadLetter) -> bytes:
    content: dict[str, str | int] = {
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "reason": letter.reason,
    }
    try:
        content["record"] = letter.record.decode()
    except UnicodeDecodeError:
        content["record_base64"] = b64encode(letter.record).decode()
    return json.dumps(content).encode()
