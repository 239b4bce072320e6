"""The online store as a Bytewax sink: last values, written no later than the epoch's end."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from contracts.plan import Plan
from dataflows.batches import ShardOutput
from dataflows.flow.delivery import Delivery
from dataflows.flow.patience import patiently
from dataflows.flow.progress import ProgressFile
from dataflows.flow.run_context import RunContext
from dataflows.flow.telling import Telling
from dataflows.stores.online_writer import OnlineWriter
from dataflows.watermark import NOT_YET

# Between two words on the progress: each is a small file.
_TELL_SECONDS = 0.05

OpenWriter = Callable[[], OnlineWriter]


class OnlineSink(FixedPartitionedSink[ShardOutput, int]):
    """One partition per worker of all processes; a shard always goes to the same one."""

    def __init__(self, plan: Plan, open_writer: OpenWriter, context: RunContext) -> None:
        self._plan = plan
        self._open_writer = open_writer
        self._context = context

    def list_parts(self) -> list[str]:
        """A name for each worker of all processes."""
        return [str(number) for number in range(self._context.workers)]

    def part_fn(self, item_key: str) -> int:
        """The partition of a shard, whose number is the key."""
        return int(item_key)

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> OnlinePartition:
        """The writer of one worker. What it writes counts nowhere, so it resumes nothing."""
        return OnlinePartition(self._plan, self._open_writer(), self._context, int(for_part))


class OnlinePartition(StatefulSinkPartition[ShardOutput, int]):
    """One connection to the online store."""

    def __init__(self, plan: Plan, writer: OnlineWriter, context: RunContext, number: int) -> None:
        self._context = context
        self._writer = writer
        self._name = f"online store {number}"
        self._progress = ProgressFile(context.places.state, number, context)
        self._shards: set[int] = set()
        # Shard -> watermark of what the store has.
        self._written: Mapping[int, int] = {}
        for view in plan.views:
            writer.ensure_table(view)
        self._telling = Telling(self._tell, _TELL_SECONDS)
        self._delivery = Delivery(plan, writer, self._commit, self._note)
        context.on_epoch.append(self._telling.ask)

    def write_batch(self, values: list[ShardOutput]) -> None:
        """Take rows in; send them at once unless there is more to read, which may replace them."""
        for item in values:
            self._delivery.add(item)
            self._shards.add(item.shard)
        if not self._context.backlog:
            self._delivery.send()
        else:
            self._telling.ask()

    def snapshot(self) -> int:
        """Wait until all is written: an epoch that is over must not know more than the store."""
        self._delivery.finish()
        self._telling.ask()
        return 0

    def close(self) -> None:
        """End the thread and close the connection."""
        with self._context.noting_failure():
            self._delivery.close()
            self._writer.close()
            self._telling.close()

    def _commit(self) -> None:
        patiently(self._writer.commit, self._context, self._name, self._tell)

    def _note(self, watermarks: Mapping[int, int], rows: int) -> None:
        self._context.tally.add(online_rows=rows)
        self._written = watermarks
        self._telling.ask()

    def _tell(self) -> None:
        watermark_us = min(list(self._written.values()), default=NOT_YET)
        self._progress.write(len(self._shards), watermark_us)
