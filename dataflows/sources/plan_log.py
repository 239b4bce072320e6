"""The log as the plan needs it: the partitions of its topics, where they end, and their readers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from contracts.file_log import PartitionFile, ensure_topic, partition_files
from contracts.log import LogError, PartitionReader
from contracts.plan import Plan
from contracts.settings import DataflowSettings

if TYPE_CHECKING:
    from dataflows.sources.kafka_log import KafkaLog


@dataclass(frozen=True)
class LogPartition:
    """One partition of the log and its number in the flow (order of topic, then partition)."""

    number: int
    topic: str
    partition: int

    @property
    def name(self) -> str:
        """Its name in Bytewax's recovery state."""
        return f"{self.topic}/{self.partition}"


class PlanLog(Protocol):
    """All partitions that a plan reads.

    Attributes:
        kind: what offsets mean: those of one kind of log say nothing in another.
        partitions: in order of topic, then partition.
        topic_ids: topic -> what tells it from another one of the same name, where the log has
            such a thing: offsets in the one say nothing in the other.
    """

    kind: str
    partitions: list[LogPartition]
    topic_ids: dict[str, str]

    def begins(self) -> dict[int, int]:
        """Partition number -> the offset of the oldest record that is kept."""
        ...

    def ends(self) -> dict[int, int]:
        """Partition number -> the offset that the next record will have."""
        ...

    def open(self, partition: LogPartition, offset: int | None) -> PartitionReader:
        """A reader from ``offset`` on, None being the oldest record; raise LogError."""
        ...

    def settle(self) -> None:
        """All that was read is durably done, to the last record; call it before ``close``."""
        ...

    def close(self) -> None:
        """Let go of everything, in bounded time."""
        ...


class FilePlanLog:
    """The file log."""

    kind = "file"

    def __init__(self, folder: Path, plan: Plan) -> None:
        """Look at ``folder``; topics that do not exist yet are made. Raise LogError."""
        self.topic_ids: dict[str, str] = {}
        self._paths: dict[tuple[str, int], Path] = {}
        for topic in plan.topics:
            if topic.format != "json" or topic.framing != "none":
                raise LogError(
                    f"topic {topic.name!r} holds {topic.format} with framing {topic.framing}, but "
                    "a log of files holds lines of JSON only: set HEADWATER_LOG_URL to kafka://..."
                )
            ensure_topic(folder, topic.name)
            for partition, path in partition_files(folder, topic.name).items():
                self._paths[topic.name, partition] = path
        self.partitions = _numbered(list(self._paths))

    def begins(self) -> dict[int, int]:
        """As ``PlanLog``: nothing is ever removed from a file."""
        return {p.number: 0 for p in self.partitions}

    def ends(self) -> dict[int, int]:
        """As ``PlanLog``."""
        return {p.number: self._path(p).stat().st_size for p in self.partitions}

    def open(self, partition: LogPartition, offset: int | None) -> PartitionReader:
        """As ``PlanLog``."""
        return PartitionFile(self._path(partition), offset or 0)

    def settle(self) -> None:
        """As ``PlanLog``: nobody watches files."""

    def close(self) -> None:
        """Nothing is held: each reader has its own file."""

    def _path(self, partition: LogPartition) -> Path:
        return self._paths[partition.topic, partition.partition]


class KafkaPlanLog:
    """Topics of Kafka; one consumer reads them all."""

    kind = "kafka"

    def __init__(
        self, settings: DataflowSettings, plan: Plan, is_stopping: Callable[[], bool]
    ) -> None:
        """Ask the brokers; topics that do not exist yet are made. Raise LogError.

        ``is_stopping`` ends the waiting for brokers that do not answer.
        """
        # kafka-python takes a moment to import, which the file log need not pay.
        from dataflows.sources import kafka_topics
        from dataflows.sources.kafka_log import KafkaLog

        self._settings = settings
        names = [topic.name for topic in plan.topics]
        found = kafka_topics.list_topics(settings, names, is_stopping)
        self.topic_ids = {name: topic.topic_id for name, topic in found.items() if topic.topic_id}
        places = [
            (topic.name, number) for topic in plan.topics for number in found[topic.name].partitions
        ]
        self.partitions = _numbered(places)
        self._bounds = kafka_topics.bounds(settings, places, is_stopping)
        group = settings.kafka_group or f"headwater-{plan.project}"
        self._log: KafkaLog = KafkaLog(settings, group)
        self._readers: list[PartitionReader] = []

    def begins(self) -> dict[int, int]:
        """As ``PlanLog``: as they were when the log was opened."""
        return {p.number: self._bounds[p.topic, p.partition][0] for p in self.partitions}

    def ends(self) -> dict[int, int]:
        """As ``PlanLog``: as they were when the log was opened."""
        return {p.number: self._bounds[p.topic, p.partition][1] for p in self.partitions}

    def open(self, partition: LogPartition, offset: int | None) -> PartitionReader:
        """As ``PlanLog``."""
        if offset is None:
            offset = self._bounds[partition.topic, partition.partition][0]
        reader = self._log.open(partition.topic, partition.partition, offset)
        self._readers.append(reader)
        return reader

    def settle(self) -> None:
        """As ``PlanLog``: close tells Kafka."""
        for reader in self._readers:
            reader.committed(reader.offset)

    def close(self) -> None:
        """Stop the consumer."""
        self._log.close()


def open_log(
    settings: DataflowSettings, plan: Plan, is_stopping: Callable[[], bool] = lambda: False
) -> PlanLog:
    """The log that the settings name.

    Raises:
        LogError: it cannot be had, or ``is_stopping`` said so while Kafka was waited for.
    """
    folder = settings.log.folder
    if folder is not None:
        return FilePlanLog(folder, plan)
    return KafkaPlanLog(settings, plan, is_stopping)


def _numbered(places: list[tuple[str, int]]) -> list[LogPartition]:
    ordered = enumerate(sorted(places))
    return [LogPartition(number, topic, partition) for number, (topic, partition) in ordered]
