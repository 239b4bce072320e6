"""The log, read once from its beginning, as rows of the entities that are asked for.

The very parts of the dataflow do it, in one thread and without stores: partitions, router, shard.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from contracts.log import PartitionReader
from contracts.plan import Plan
from contracts.settings import DataflowSettings
from dataflows.batches import KeyedRows, ShardInput, SourceBatch, ViewRows
from dataflows.routing import ShardRouter
from dataflows.shard import Shard
from dataflows.sources.partition import PartitionStream
from dataflows.sources.plan_log import PlanLog
from dataflows.sources.transform import Function, transformations_of
from dataflows.verify.reading import Progress, Tell, registry_of, wait_on
from dataflows.watermark import NOT_YET
from dataflows.windows.inputs import KeyList

# One of them may be late; hardly all are.
_FIRST_RECORDS = 10
_Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class NewRows:
    """Rows that took effect, by view, and the moment up to which all is known."""

    watermark_us: int
    rows: Mapping[str, ViewRows]


@dataclass
class _Partition:
    reader: PartitionReader
    stream: PartitionStream
    begin: int
    until: int
    is_over: bool = False


class LogRows:
    """Reads all partitions of a plan's log side by side, as far as they reached at the beginning.

    Attributes:
        events: good records so far.
        watermark_us: as in the dataflow; at the end of the log the newest event time of all.
        gone_us: topic -> the event time from which its log is whole; for topics whose beginning is
            no longer kept. Known once all of their partitions have been read a bit.
    """

    def __init__(
        self,
        log: PlanLog,
        plan: Plan,
        functions: Mapping[str, Function],
        settings: DataflowSettings,
        asked: Mapping[str, Collection[bytes]],
        tell: Tell,
    ) -> None:
        """Open all partitions.

        Args:
            log: of the whole plan.
            plan: all of it: a record that some view's function fails at counts for no view.
            functions: of its views.
            settings: of the dataflow.
            asked: view -> keys of the entities whose rows are wanted.
            tell: is told how far it is.

        Raises:
            LogError: a partition cannot be read.
        """
        self._settings = settings
        self._tell = tell
        self.events = 0
        self.watermark_us = NOT_YET
        self.gone_us: dict[str, int] = {}
        # A table is what makes a view give all its rows; nobody writes it.
        views = tuple(replace(view, offline_path="-") for view in plan.views if view.name in asked)
        chosen = replace(plan, views=views, models=())
        self._router = ShardRouter(chosen, 1)
        self._shard = Shard(chosen, 0, len(log.partitions))
        self._asked = _Asked(asked)
        begins, ends = log.begins(), log.ends()
        registry = registry_of(settings)
        self._partitions: list[_Partition] = []
        for place in log.partitions:
            topic = plan.topic(place.topic)
            stream = PartitionStream(
                topic,
                place.number,
                place.partition,
                NOT_YET,
                1.0,
                settings.bad_record_window,
                registry,
                transformations_of(plan, topic, functions),
            )
            reader, number = log.open(place, None), place.number
            self._partitions.append(_Partition(reader, stream, begins[number], ends[number]))

    def __iter__(self) -> Iterator[NewRows]:
        """What takes effect, in order of time; raise LogError."""
        for batch in self._batches():
            ((_, item),) = self._router.route(batch)
            output = self._shard.on_batch([self._asked.only(item)])
            if output is not None:
                self.watermark_us = output.watermark_us
                yield NewRows(output.watermark_us, output.rows)

    def close(self) -> None:
        """Let go of the partitions."""
        for partition in self._partitions:
            partition.reader.close()

    def _batches(self) -> Iterator[SourceBatch]:
        distance_us = int(self._settings.alignment_seconds * 1_000_000)
        waits_since: float | None = None
        while True:
            open_ones = [one for one in self._partitions if not one.is_over]
            if not open_ones:
                return
            # The slowest goes first, so that little lies in memory until the watermark comes.
            open_ones.sort(key=lambda one: one.stream.newest_us)
            last_us = open_ones[0].stream.newest_us + distance_us
            batch = self._next([one for one in open_ones if one.stream.newest_us <= last_us])
            if batch is None:
                waits_since = wait_on(waits_since, self._settings)
                continue
            waits_since = None
            yield batch

    def _next(self, partitions: Sequence[_Partition]) -> SourceBatch | None:
        """What one of them has, or that it is over; None if there is nothing just now."""
        for partition in partitions:
            chunk = partition.reader.read(self._settings.batch_bytes, partition.until)
            if chunk is None:
                if not partition.reader.is_at_end(partition.until):
                    continue
                partition.is_over = True
                return partition.stream.idle()
            is_first = partition.stream.newest_us == NOT_YET
            batch = partition.stream.batch(chunk)
            if is_first and partition.begin > 0 and len(batch.event_us):
                topic = partition.stream.topic
                # What is gone may be as much later as records may be out of order.
                whole_us = int(batch.event_us[:_FIRST_RECORDS].max()) + topic.watermark_delay_us
                self.gone_us[topic.name] = max(whole_us, self.gone_us.get(topic.name, whole_us))
            self.events += len(batch.ranks)
            self._say()
            return batch
        return None

    def _say(self) -> None:
        done = sum(one.reader.offset - one.begin for one in self._partitions)
        total = sum(one.until - one.begin for one in self._partitions)
        self._tell(Progress(done, total, self.events, self.watermark_us))


class _Asked:
    """Leaves out all rows of entities that nobody asked for: an entity's state is its own."""

    def __init__(self, asked: Mapping[str, Collection[bytes]]) -> None:
        self._asked = {view: frozenset(keys) for view, keys in asked.items()}
        # View -> the list that its rows' codes index, and which places in it were asked for.
        self._known: dict[str, tuple[KeyList, _Bools]] = {}

    def only(self, item: ShardInput) -> ShardInput:
        """What is left of a shard's news; without reads, which nobody waits for."""
        updates = {}
        for view, rows in item.updates.items():
            part = np.flatnonzero(self._mask(view, rows.keys)[rows.codes])
            if len(part):
                updates[view] = _part(rows, part)
        return replace(item, updates=updates, reads={})

    def _mask(self, view: str, keys: KeyList) -> _Bools:
        known = self._known.get(view)
        mask = np.empty(0, np.bool_) if known is None or known[0] is not keys else known[1]
        if len(mask) < len(keys.keys):
            asked = self._asked[view]
            new = [key in asked for key in keys.keys[len(mask) :]]
            mask = np.concatenate([mask, np.array(new, np.bool_)])
            self._known[view] = (keys, mask)
        return mask


def _part(rows: KeyedRows, part: npt.NDArray[np.intp]) -> KeyedRows:
    if len(part) == len(rows.codes):
        return rows
    return replace(
        rows,
        codes=rows.codes[part],
        effective_us=rows.effective_us[part],
        ranks=rows.ranks[part],
        event_us=rows.event_us[part],
        values=rows.values[part],
    )
