"""How a replay opens the log: from where it was asked to, and in a consumer group of its own."""

from __future__ import annotations

from contracts.log import PartitionReader
from contracts.plan import Plan
from contracts.settings import DataflowSettings
from dataflows.flow.engine import OpenLog
from dataflows.replay.job import Job, ReplayError
from dataflows.replay.options import EVERY, Offsets
from dataflows.sources.archive import survey
from dataflows.sources.archive_log import with_archive
from dataflows.sources.plan_log import LogPartition, PlanLog, open_log

_GROUP_SUFFIX = "-replay"


class LogFrom:
    """A log of which no partition is read from before an offset."""

    def __init__(self, log: PlanLog, begin: Offsets) -> None:
        """Raise ReplayError if the log has no such partition."""
        self._log = log
        self._begin = begin
        self.kind, self.partitions, self.topic_ids = log.kind, log.partitions, log.topic_ids
        names = {partition.name for partition in log.partitions}
        for name in begin.by_partition:
            if name not in names and name != EVERY:
                raise ReplayError(
                    f"--from names {name}, but the log has {', '.join(sorted(names))}"
                )

    def begins(self) -> dict[int, int]:
        """As ``PlanLog``."""
        return self._log.begins()

    def ends(self) -> dict[int, int]:
        """As ``PlanLog``."""
        return self._log.ends()

    def open(self, partition: LogPartition, offset: int | None) -> PartitionReader:
        """As ``PlanLog``; what is no more, or not yet, is not asked for."""
        first = self._begin.of(partition.name)
        if offset is None and first is not None:
            begin, end = self.begins()[partition.number], self.ends()[partition.number]
            offset = min(max(first, begin), end)
        return self._log.open(partition, offset)

    def settle(self) -> None:
        """As ``PlanLog``."""
        self._log.settle()

    def close(self) -> None:
        """As ``PlanLog``."""
        self._log.close()


def replay_log(job: Job, settings: DataflowSettings) -> OpenLog:
    """What opens the log for each pass of a replay; an archive is looked through here, once.

    Raises:
        LogError: the archive cannot be used.
    """
    archive = survey(settings, job.repository.plan) if settings.archive_url else None

    def opened(settings: DataflowSettings, plan: Plan) -> PlanLog:
        group = (settings.kafka_group or f"headwater-{plan.project}") + _GROUP_SUFFIX
        log = open_log(settings.model_copy(update={"kafka_group": group}), plan)
        try:
            if archive is not None:
                log = with_archive(log, archive, settings)
            begin = job.options.begin
            return LogFrom(log, begin) if isinstance(begin, Offsets) else log
        except BaseException:
            log.close()
            raise

    return opened
