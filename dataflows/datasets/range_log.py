"""A log that begins and ends where a data set does, whatever was written or removed since."""

from __future__ import annotations

from contracts.log import PartitionReader
from dataflows.datasets.errors import DatasetError
from dataflows.datasets.manifest import LogRange, PartitionRange
from dataflows.sources.plan_log import LogPartition, PlanLog

_OTHER_LOG = "HEADWATER_LOG_URL names another log, or its topics were made anew"


class RangeLog:
    """All partitions of a log within a range; a ``PlanLog``.

    Attributes:
        kind: as of the log itself.
        partitions: as of the log itself, with those that were added since.
        topic_ids: as of the log itself.
        range: what of the log this is.
    """

    def __init__(self, log: PlanLog, wanted: LogRange | None) -> None:
        """Take all that ``log`` holds now, or the range that is wanted.

        Raises:
            DatasetError: the log does not hold that range any more, or is another one.
        """
        self._log = log
        self.kind = log.kind
        self.partitions = log.partitions
        self.topic_ids = log.topic_ids
        begins, ends = log.begins(), log.ends()
        if wanted is None:
            self._bounds = {p.number: (begins[p.number], ends[p.number]) for p in self.partitions}
            self.range = self._whole()
            return
        self.range = wanted
        _check_same_log(log, wanted)
        there = {partition.name: partition for partition in log.partitions}
        # Partitions that were added since hold nothing of the data set.
        self._bounds = {p.number: (begins[p.number],) * 2 for p in self.partitions}
        for one in wanted.partitions:
            if one.name not in there:
                raise DatasetError(f"the log has no partition {one.name} any more; {_OTHER_LOG}")
            number = there[one.name].number
            _check_held(one, begins[number], ends[number])
            self._bounds[number] = (one.first, one.end)

    def begins(self) -> dict[int, int]:
        """As ``PlanLog``."""
        return {number: first for number, (first, _) in self._bounds.items()}

    def ends(self) -> dict[int, int]:
        """As ``PlanLog``."""
        return {number: end for number, (_, end) in self._bounds.items()}

    def open(self, partition: LogPartition, offset: int | None) -> PartitionReader:
        """As ``PlanLog``, None being where the range begins."""
        first, _ = self._bounds[partition.number]
        return self._log.open(partition, first if offset is None else offset)

    def settle(self) -> None:
        """As ``PlanLog``: nobody is told how far a data set has come."""

    def close(self) -> None:
        """As ``PlanLog``."""
        self._log.close()

    def _whole(self) -> LogRange:
        partitions = tuple(
            PartitionRange(p.topic, p.partition, *self._bounds[p.number]) for p in self.partitions
        )
        return LogRange(self.kind, partitions, dict(self.topic_ids))


def _check_same_log(log: PlanLog, wanted: LogRange) -> None:
    if log.kind != wanted.kind:
        raise DatasetError(
            f"the data set is made of a log of kind {wanted.kind}, but HEADWATER_LOG_URL names one "
            f"of kind {log.kind}; point it back"
        )
    now = log.topic_ids
    anew = [name for name, known in wanted.topic_ids.items() if now.get(name, known) != known]
    if anew:
        raise DatasetError(
            f"topic {min(anew)!r} was made anew since the data set was built, or HEADWATER_LOG_URL "
            "names another cluster: offsets mean other records there; point it back"
        )


def _check_held(wanted: PartitionRange, begin: int, end: int) -> None:
    if begin > wanted.first:
        raise DatasetError(
            f"the log holds {wanted.name} from offset {begin} on only, the data set begins at "
            f"{wanted.first}: what is before is past the topic's retention. It can only be "
            "made again from a copy or an archive of the log that has it"
        )
    if end < wanted.end:
        raise DatasetError(
            f"{wanted.name} ends at offset {end}, the data set at {wanted.end}: it was cut, or "
            f"{_OTHER_LOG}"
        )
