"""How much there is to read in a log, and whether it still begins where it began for the state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from contracts.file_log import partition_files
from contracts.log import LogError
from contracts.plan import Plan
from contracts.settings import DataflowSettings

# Of a file so much is looked at to learn how long its records are.
SAMPLE_BYTES: Final = 64 * 1024
# Somebody waits for the answer: a broker that is gone is told so soon.
_BROKER_SECONDS_MAX: Final = 3.0


@dataclass(frozen=True)
class PartitionExtent:
    """One partition.

    Attributes:
        name: ``TOPIC/PARTITION``.
        begin: offset of the oldest record that is kept.
        end: offset that the next record will have.
        records: how many there are; of a file, about.
    """

    name: str
    begin: int
    end: int
    records: int


@dataclass(frozen=True)
class LogExtent:
    """All partitions of some topics.

    Attributes:
        kind: ``file`` or ``kafka``.
        partitions: in order of their names.
        problem: why the log could not be looked at; empty if it could.
    """

    kind: Literal["file", "kafka"]
    partitions: tuple[PartitionExtent, ...]
    problem: str = ""

    @property
    def records(self) -> int | None:
        """Of all partitions together; None if the log could not be looked at."""
        return None if self.problem else sum(one.records for one in self.partitions)

    @property
    def is_estimated(self) -> bool:
        """Whether records were not counted but told from the length of the first ones."""
        return self.kind == "file" and any(one.end > SAMPLE_BYTES for one in self.partitions)


def log_extent(settings: DataflowSettings, plan: Plan) -> LogExtent:
    """Look at the log, and at names in its archive; nothing is changed there.

    Topics that are missing are not made.
    """
    folder = settings.log.folder
    kind: Literal["file", "kafka"] = "kafka" if folder is None else "file"
    try:
        if folder is not None:
            return LogExtent(kind, _files(folder, plan))
        return LogExtent(kind, _brokers(settings, plan))
    except (LogError, OSError) as error:
        return LogExtent(kind, (), " ".join(str(error).split()))


def lost_beginnings(extent: LogExtent, begins: Mapping[str, int]) -> tuple[str, ...]:
    """Partitions whose oldest records of ``begins`` are no longer there, in words."""
    return tuple(
        f"{one.name} begins at offset {one.begin:,} now, at {begins[one.name]:,} when the state "
        "was made"
        for one in extent.partitions
        if one.begin > begins.get(one.name, one.begin)
    )


def _files(folder: Path, plan: Plan) -> tuple[PartitionExtent, ...]:
    found = []
    for topic in plan.topics:
        for number, path in partition_files(folder, topic.name).items():
            size = path.stat().st_size
            name = f"{topic.name}/{number}"
            found.append(PartitionExtent(name, 0, size, _records(path, size)))
    return tuple(found)


def _records(path: Path, size: int) -> int:
    """Records in a file, by the mean length of the first ones."""
    sample = _head(path)
    whole = sample.rfind(b"\n") + 1
    if not whole:
        return 1 if size > len(sample) else 0
    lines = sample.count(b"\n")
    return lines if whole == size else round(size * lines / whole)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(SAMPLE_BYTES)


def _brokers(settings: DataflowSettings, plan: Plan) -> tuple[PartitionExtent, ...]:
    # kafka-python takes a moment to import, which the file log need not pay.
    from dataflows.sources.kafka_topics import bounds, existing_topics

    briefly = settings.model_copy(
        update={
            "kafka_timeout_seconds": min(settings.kafka_timeout_seconds, _BROKER_SECONDS_MAX),
            "outage_seconds": 0.0,
        }
    )
    there = existing_topics(briefly, [topic.name for topic in plan.topics])
    places = [(name, number) for name, topic in there.items() for number in topic.partitions]
    archived = _archived(settings, plan)
    found = []
    for (topic, number), (first, end) in sorted(bounds(briefly, places).items()):
        begin = min(first, archived.get((topic, number), first))
        found.append(PartitionExtent(f"{topic}/{number}", begin, end, end - begin))
    return tuple(found)


def _archived(settings: DataflowSettings, plan: Plan) -> dict[tuple[str, int], int]:
    """Offset of the first archived record of each partition, by the names of files."""
    if not settings.archive_url:
        return {}
    from dataflows.sources.archive import listing
    from dataflows.sources.archive_patience import Patience
    from dataflows.sources.archive_store import ArchiveStore

    store = ArchiveStore(settings.archive_url, Patience(_BROKER_SECONDS_MAX))
    files = listing(store, plan).files
    return {place: of_place[0].name.first for place, of_place in files.items()}
