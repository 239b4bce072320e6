"""How a dataflow is: what it says of itself, beside where the log ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from contracts.file_log import partition_files
from contracts.log import LogError
from contracts.settings import DataflowSettings
from dataflows.flow.progress import Progress, by_process, online_watermark_us, read_progress
from dataflows.flow.run_context import PartitionProgress
from dataflows.flow.state_lock import is_held
from dataflows.watermark import NOT_YET

# Somebody waits for the answer: a broker that is gone is told so soon.
_BROKER_SECONDS_MAX = 3.0

_Place = tuple[str, int]


@dataclass(frozen=True)
class PartitionStatus:
    """One partition.

    Attributes:
        topic: its topic.
        partition: its number.
        offset: the next one that the dataflow will read.
        end: where the partition ends now; None if that is not known.
        newest_us: the newest event time read; None before the first.
        is_idle: it was read to its end, and does not hold the watermark back.
    """

    topic: str
    partition: int
    offset: int
    end: int | None
    newest_us: int | None
    is_idle: bool

    @property
    def lag(self) -> int | None:
        """How much there is to read: bytes of a file, records of Kafka."""
        return None if self.end is None else max(0, self.end - self.offset)


@dataclass(frozen=True)
class FlowStatus:
    """A dataflow, all of its processes together.

    Attributes:
        is_running: whether a process holds the state folder.
        pids: of its processes, in the order of their numbers; none if none ever spoke.
        said_at_us: when the one that has been silent for longest spoke, microseconds since 1970
            UTC.
        waiting_for: what the flow stands still for; empty if for nothing.
        watermark_us: the online store holds all that happened before; None if not known yet.
        events: good records read.
        bad: records set aside as dead letters.
        late: rows that came after their partition's watermark.
        labels: predictions that got their label.
        lag_unit: ``records`` or ``bytes``.
        partitions: in order of topic and number.
        log_problem: why the log's ends are not known; empty if they are.
    """

    is_running: bool
    pids: list[int]
    said_at_us: int | None
    waiting_for: str
    watermark_us: int | None
    events: int
    bad: int
    late: int
    labels: int
    lag_unit: str
    partitions: list[PartitionStatus]
    log_problem: str

    @property
    def lag(self) -> int | None:
        """Of all partitions together; None if that of any is not known, or no partition is."""
        lags = [one.lag for one in self.partitions]
        return None if not lags or None in lags else sum(lag for lag in lags if lag is not None)


def flow_status(settings: DataflowSettings) -> FlowStatus:
    """The status of the dataflow with these settings. Changes nothing anywhere."""
    workers = _workers(settings.state_dir)
    processes = by_process(workers)
    read = {name: one for process in processes for name, one in process.partitions.items()}
    watermark_us = online_watermark_us(workers)
    problem = ""
    ends: dict[_Place, int] = {}
    places = [_place(name) for name in read]
    try:
        ends = _ends(settings, places)
    except LogError as error:
        problem = str(error)
    return FlowStatus(
        is_running=is_held(settings.state_dir),
        pids=[process.pid for process in processes],
        said_at_us=min((process.said_at_us for process in processes), default=None),
        waiting_for="; ".join(dict.fromkeys(p.waiting_for for p in processes if p.waiting_for)),
        watermark_us=None if watermark_us <= NOT_YET else watermark_us,
        events=sum(process.events for process in processes),
        bad=sum(process.bad for process in processes),
        late=sum(process.late for process in processes),
        labels=sum(process.labels for process in processes),
        lag_unit="bytes" if settings.log.folder is not None else "records",
        partitions=_partitions(read, ends),
        log_problem=problem,
    )


def _workers(state: Path) -> list[Progress]:
    try:
        return read_progress(state)
    except (FileNotFoundError, msgspec.DecodeError):
        # A run that begins removes the files of the one before.
        return []


def _partitions(
    read: Mapping[str, PartitionProgress], ends: Mapping[_Place, int]
) -> list[PartitionStatus]:
    found = []
    for name, one in read.items():
        topic, partition = _place(name)
        newest_us = None if one.newest_us <= NOT_YET else one.newest_us
        end = ends.get((topic, partition))
        found.append(PartitionStatus(topic, partition, one.offset, end, newest_us, one.is_idle))
    return sorted(found, key=lambda one: (one.topic, one.partition))


def _place(name: str) -> _Place:
    topic, _, partition = name.rpartition("/")
    return topic, int(partition)


def _ends(settings: DataflowSettings, places: list[_Place]) -> dict[_Place, int]:
    folder = settings.log.folder
    if folder is not None:
        return {
            (topic, number): path.stat().st_size
            for topic in {topic for topic, _ in places}
            for number, path in partition_files(folder, topic).items()
        }
    from dataflows.sources.kafka_topics import bounds

    briefly = settings.model_copy(
        update={
            "kafka_timeout_seconds": min(settings.kafka_timeout_seconds, _BROKER_SECONDS_MAX),
            "outage_seconds": 0.0,
        }
    )
    return {place: end for place, (_, end) in bounds(briefly, places).items()}
