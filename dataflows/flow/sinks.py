"""Where the flow's results go: Parquet tables and the model repository."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
from bytewax.outputs import (
    FixedPartitionedSink,
    StatefulSinkPartition,
)

from dataflows.erasure.tables import row_matcher
from dataflows.flow.run_context import RunContext
from dataflows.learning.records import NewVersion, RefusedVersion
from dataflows.stores.day_table import DayTable, Handle, TableSpec
from dataflows.versions import VersionPublisher
from dataflows.watermark import NOT_YET

VERSIONS_UNDER_WAY_MAX = 64
_EPOCHS_BACK = 4


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
        tombstones = self._context.tombstones
        if tombstones is not None:
            newer = tombstones.after(table.forgotten)
            if newer.tombstones:
                table.forget(row_matcher(self._specs[for_part], newer), tombstones.newest)
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
        with self._context.noting_failure():
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
        return VersionPartition(
            for_part, self._publisher, self._writer, self._context, resume_state or 0
        )


class VersionPartition(StatefulSinkPartition[NewVersions, int]):
    """Hands the versions of one model to the publisher, in order."""

    def __init__(
        self,
        model: str,
        publisher: VersionPublisher,
        writer: Executor,
        context: RunContext,
        published: int,
    ) -> None:
        self._model = model
        # Of the last epochs: the flow may be set back to one that was over before.
        self._of_epochs = deque([published], maxlen=_EPOCHS_BACK)
        self._publisher = publisher
        self._writer = writer
        self._tally = context.tally
        self._context = context
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
        if self._published != self._of_epochs[-1]:
            until = self._of_epochs[0]
            self._under_way.append(self._writer.submit(self._publisher.retain, self._model, until))
        self._of_epochs.append(self._published)
        return self._published

    def close(self) -> None:
        """Wait for what is under way."""
        with self._context.noting_failure():
            self._wait()

    def _wait(self) -> None:
        # Taken out first: what failed once must not fail again when the sink is closed.
        under_way, self._under_way = self._under_way, []
        for future in under_way:
            future.result()
