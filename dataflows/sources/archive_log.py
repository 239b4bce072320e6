"""The log of a replay: what Kafka no longer keeps out of an archive, then Kafka itself."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from contracts.log import Chunk, LogError, PartitionReader
from contracts.plan import Plan
from contracts.settings import DataflowSettings
from dataflows.sources.archive import Archive, ArchivedFile, listing
from dataflows.sources.archive_patience import Patience, warn
from dataflows.sources.archive_reader import ArchivedPartition, ReadingThreads
from dataflows.sources.archive_store import ArchiveStore
from dataflows.sources.plan_log import LogPartition, PlanLog

_log = logging.getLogger(__name__)


class ArchivedLog:
    """A ``PlanLog`` that begins in an archive; offsets are Kafka's throughout.

    Attributes:
        kind: as of the log behind it, like all that offsets mean.
        partitions: as of the log behind it.
        topic_ids: as of the log behind it.
        notes: what people should know of the archive, one line each.
        tell: called with what is waited for while the archive is gone, and with an empty text
            when that is over; any thread may.
    """

    def __init__(self, log: PlanLog, archive: Archive, settings: DataflowSettings) -> None:
        """Take over ``log``; raise LogError if the archive is not one of it."""
        self.kind = log.kind
        self.partitions = log.partitions
        self.topic_ids = log.topic_ids
        self.tell: Callable[[str], None] = warn
        self._log = log
        self._settings = settings
        self._files = archive.files
        self._closing = threading.Event()
        self._threads = ReadingThreads()
        patience = Patience(
            settings.outage_seconds, self._closing.wait, lambda what: self.tell(what)
        )
        self._store = ArchiveStore(archive.url, patience)
        self._begins, self._ends = log.begins(), log.ends()
        places = {(p.topic, p.partition) for p in log.partitions}
        for topic, number in archive.files:
            if (topic, number) not in places:
                raise LogError(
                    f"archive: it has records of {topic}/{number}, but Kafka has no such "
                    "partition: the topic was made anew with fewer; make it with as many as before"
                )
        gaps = map(self._note_of_gap, self.partitions)
        self.notes = (*archive.notes, *filter(None, gaps))

    def begins(self) -> dict[int, int]:
        """As ``PlanLog``: of the archive where it goes back further."""
        return {p.number: self._begin(p) for p in self.partitions}

    def ends(self) -> dict[int, int]:
        """As ``PlanLog``."""
        return self._log.ends()

    def check(self) -> None:
        """Raise LogError if Kafka does not go on where the archive ends, in any partition."""
        for partition in self.partitions:
            self._check(partition)

    def open(self, partition: LogPartition, offset: int | None) -> PartitionReader:
        """As ``PlanLog``; raise LogError too if records are missing behind ``offset``."""
        note = self._note_of_gap(partition)
        if offset is None and note:
            _log.warning("archive: %s", note)
        files = self._needed(partition)
        if not files or (offset is not None and offset >= files[-1].end):
            return self._log.open(partition, offset)
        self._check(partition)
        first = files[0].first
        if offset is None:
            offset = first
        if offset < first:
            raise LogError(
                f"{partition.name}: we have read to offset {offset}, but the archive begins with "
                f"{first}: put back the files before it, or begin anew with "
                "`headwater replay --drop`"
            )
        return ArchivedPartition(
            offset,
            self._pieces(files, offset),
            self._settings.batch_bytes,
            self._threads,
            lambda: self._log.open(partition, files[-1].end),
        )

    def settle(self) -> None:
        """As ``PlanLog``."""
        self._log.settle()

    def close(self) -> None:
        """As ``PlanLog``."""
        self._closing.set()
        self._threads.close()
        self._log.close()

    def _pieces(self, files: Sequence[ArchivedFile], offset: int) -> Iterator[Chunk]:
        for file in files:
            if file.end > offset:
                yield from file.chunks(
                    self._store, max(offset, file.first), self._settings.batch_bytes
                )

    def _needed(self, partition: LogPartition) -> tuple[ArchivedFile, ...]:
        """The files of a partition; none if Kafka still has all that they hold."""
        files = self._files.get((partition.topic, partition.partition), ())
        if files and self._begins[partition.number] <= files[0].first:
            return ()
        return files

    def _begin(self, partition: LogPartition) -> int:
        files = self._needed(partition)
        return files[0].first if files else self._begins[partition.number]

    def _check(self, partition: LogPartition) -> None:
        files = self._files.get((partition.topic, partition.partition), ())
        if not files:
            return
        begin, end = self._begins[partition.number], self._ends[partition.number]
        last = files[-1]
        if begin > last.end:
            raise LogError(
                f"archive: {partition.name} ends with offset {last.end - 1} in {last.stored.path}, "
                f"but Kafka keeps it from {begin} on only: {begin - last.end} offsets are missing; "
                "put their files into the archive"
            )
        if end < last.end:
            raise LogError(
                f"archive: {partition.name} has records up to offset {last.end - 1} in "
                f"{last.stored.path}, but in Kafka the next one to be written is {end}: the topic "
                "was made anew or has lost its end; an archive is good for its own topic only"
            )

    def _note_of_gap(self, partition: LogPartition) -> str:
        """What is missing before the oldest record; empty if nothing is."""
        begin = self._begin(partition)
        if not begin:
            return ""
        if (partition.topic, partition.partition) in self._files:
            return f"{partition.name}: neither archive nor Kafka has records before {begin}"
        return f"{partition.name} is not in the archive, and Kafka keeps it from {begin} on"


def with_archive(log: PlanLog, archive: Archive, settings: DataflowSettings) -> ArchivedLog:
    """The log with the archive before it; whoever closes it closes ``log``.

    Raises:
        LogError: the archive cannot be one of this log.
    """
    if log.kind != "kafka":
        raise LogError(
            "HEADWATER_ARCHIVE_URL goes with a log in Kafka only: offsets of a log of files are "
            "byte positions, so nothing can go on where an archive ends; files are kept for ever, "
            "so unset it"
        )
    return ArchivedLog(log, archive, settings)


def check_first_run(
    log: PlanLog,
    settings: DataflowSettings,
    plan: Plan,
    wait: Callable[[float], bool | None] = time.sleep,
) -> None:
    """For a run without state: raise LogError if it would leave out what the archive has.

    Only names of files are looked at, and only if Kafka has let go of records. ``wait`` as of
    ``Patience``.
    """
    lost = {(p.topic, p.partition): log.begins()[p.number] for p in log.partitions}
    if not settings.archive_url or log.kind != "kafka" or not any(lost.values()):
        return
    store = ArchiveStore(settings.archive_url, Patience(settings.outage_seconds, wait))
    for place, files in listing(store, plan).files.items():
        if files[0].name.first < lost.get(place, 0):
            raise LogError(
                f"{place[0]}/{place[1]}: Kafka keeps it from offset {lost[place]} on only, but the "
                f"archive has it from {files[0].name.first} on: run `headwater replay` first, "
                "which reads the archive, or unset HEADWATER_ARCHIVE_URL to begin without it"
            )
