"""The prediction log and the topics of labels, read side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from contracts.log import Chunk, PartitionReader
from contracts.plan import Plan, Topic
from contracts.settings import DataflowSettings
from dataflows.batches import SourceBatch
from dataflows.served.state import EvaluatorError
from dataflows.sources.partition import PartitionStream
from dataflows.sources.plan_log import LogPartition, PlanLog, open_log
from dataflows.sources.schema_registry import SchemaRegistry
from dataflows.watermark import NOT_YET

Position = tuple[int, int, bool]
"""Next offset, newest event time, and whether there was nothing more just then."""


@dataclass(frozen=True)
class Ahead:
    """How far labels may be read ahead of predictions in event time, and the other way round."""

    labels_us: int
    predictions_us: int


@dataclass
class _Partition:
    place: LogPartition
    reader: PartitionReader
    stream: PartitionStream | None  # None for the prediction log
    newest_us: int
    until: int | None
    is_at_end: bool  # as the last read left it
    silent_since: float | None = None  # by the monotonic clock; None while there is more

    def read(self, bytes_max: int) -> Chunk | None:
        chunk = self.reader.read(bytes_max, self.until)
        self.is_at_end = chunk is None and self.reader.is_at_end(self.until)
        if not self.is_at_end:
            self.silent_since = None
        elif self.silent_since is None:
            self.silent_since = time.monotonic()
        return chunk

    def is_idle(self, idle_seconds: float) -> bool:
        """Whether nothing is to be expected of it: over, or at its end for so long."""
        if self.until is not None:
            return self.is_at_end
        since = self.silent_since
        return since is not None and time.monotonic() - since >= idle_seconds


class EvaluatorLog:
    """Partitions that are read from where a run ended. Not safe for threads.

    Attributes:
        is_behind: whether the last read found so much that there is more to be expected at once.
    """

    def __init__(
        self,
        settings: DataflowSettings,
        plan: Plan,
        positions: Mapping[str, Position],
        ahead: Ahead,
        wait: Callable[[float], bool],
        *,
        until_end: bool,
    ) -> None:
        """Open all; a partition without a position is read from its oldest record on.

        Raises:
            EvaluatorError: there is no prediction log, or its topic is one of the repository's.
            LogError: the log cannot be read.
        """
        topic = settings.prediction_topic
        self._log = _open(settings, plan, topic)
        self._ahead = ahead
        self._idle_seconds = settings.idle_timeout_seconds
        self.is_behind = False
        registry = None
        if settings.schema_registry_url:
            registry = SchemaRegistry(
                settings.schema_registry_url,
                patience_seconds=settings.outage_seconds,
                wait=wait,
                tell=lambda _: None,
            )
        ends = self._log.ends() if until_end else None
        self._partitions: list[_Partition] = []
        try:
            for place in self._log.partitions:
                offset, newest_us, is_at_end = positions.get(place.name, (None, NOT_YET, False))
                stream = None
                if place.topic != topic:
                    stream = PartitionStream(
                        plan.topic(place.topic),
                        place.number,
                        place.partition,
                        newest_us,
                        1.0,
                        settings.bad_record_window,
                        registry,
                    )
                until = None if ends is None else ends[place.number]
                reader = self._log.open(place, offset)
                self._partitions.append(
                    _Partition(place, reader, stream, newest_us, until, is_at_end)
                )
        except BaseException:
            self._log.close()
            raise

    @property
    def identity(self) -> dict[str, str]:
        """What the positions are of."""
        return {"kind": self._log.kind, **self._log.topic_ids}

    @property
    def positions(self) -> dict[str, Position]:
        """Partition -> where it was read to."""
        return {p.place.name: (p.reader.offset, p.newest_us, p.is_at_end) for p in self._partitions}

    @property
    def is_over(self) -> bool:
        """Whether all was read that there was at the beginning, or that there is."""
        return all(partition.is_at_end for partition in self._partitions)

    def clock_us(self, topic: str) -> int:
        """Event time before which all labels of a topic are known, but for late ones.

        As in the dataflow, a partition that was read to its end and is silent for a while holds
        nobody back.
        """
        own = [p for p in self._partitions if p.place.topic == topic and p.stream is not None]
        behind = [p for p in own if not p.is_idle(self._idle_seconds)]
        clocks = [p.stream.clock().watermark_us for p in behind or own if p.stream is not None]
        return (min if behind else max)(clocks, default=NOT_YET)

    def read(self, bytes_max: int) -> tuple[list[Chunk], list[SourceBatch]]:
        """About as much of each partition: records of the prediction log, and labels.

        Raises:
            LogError: a partition cannot be read on.
        """
        chunks: list[Chunk] = []
        batches: list[SourceBatch] = []
        self.is_behind = False
        for partition in self._partitions:
            if not self._may_read(partition):
                continue
            chunk = partition.read(bytes_max)
            if chunk is None:
                continue
            self.is_behind |= len(chunk.records) >= bytes_max // 2
            if partition.stream is None:
                chunks.append(chunk)
                continue
            batches.append(partition.stream.batch(chunk))
            partition.newest_us = partition.stream.newest_us
        return chunks, batches

    def told_prediction_times(self, times_us: Iterable[int]) -> None:
        """Moments of the predictions that were read last."""
        moments = list(times_us)
        if not moments:
            return
        # Callers name the moment, so that a single one says little.
        middle_us = int(np.median(moments))
        for partition in self._partitions:
            if partition.stream is None:
                partition.newest_us = middle_us

    def committed(self) -> None:
        """All that was read is in the state: for those who watch the lag."""
        for partition in self._partitions:
            partition.reader.committed(partition.reader.offset)

    def close(self) -> None:
        """Let go of the log."""
        for partition in self._partitions:
            partition.reader.close()
        self._log.close()

    def _may_read(self, partition: _Partition) -> bool:
        is_label = partition.stream is not None
        others = [
            other.newest_us
            for other in self._partitions
            if (other.stream is not None) != is_label and not other.is_at_end
        ]
        if NOT_YET in others or not others or partition.newest_us == NOT_YET:
            # Whoever has not begun yet is told by the first records of both.
            return partition.newest_us == NOT_YET or not others
        ahead_us = self._ahead.labels_us if is_label else self._ahead.predictions_us
        return partition.newest_us <= min(others) + ahead_us


def _open(settings: DataflowSettings, plan: Plan, topic: str) -> PlanLog:
    if not topic:
        raise EvaluatorError(
            "there is no prediction log to evaluate: HEADWATER_PREDICTION_TOPIC is none"
        )
    if any(one.name == topic for one in plan.topics):
        raise EvaluatorError(
            f"HEADWATER_PREDICTION_TOPIC is {topic!r}, which is also a topic in definitions.py: "
            "give the prediction log a topic of its own"
        )
    labels = {model.label_topic for model in plan.models}
    predictions = Topic(topic, (), "event_timestamp", 0, "request_id")
    topics = (*(one for one in plan.topics if one.name in labels), predictions)
    group = settings.kafka_group or f"headwater-{plan.project}"
    # Offsets of the dataflow are another matter than ours.
    own = settings.model_copy(update={"kafka_group": f"{group}-evaluator"})
    return open_log(own, replace(plan, topics=topics, views=(), models=()))
