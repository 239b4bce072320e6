"""Partitions that no broker answers for: gone for a while, gone for too long, or deleted."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from contracts.settings import DataflowSettings
from dataflows.sources.kafka_errors import not_answering, vanished
from dataflows.sources.kafka_partition import KafkaPartition
from dataflows.sources.kafka_topics import missing

# A partition that gets no answer for so long is looked for in the metadata, again and again.
MISSING_SECONDS = 5.0


class SilenceWatch:
    """Sees to it that waiting for a partition ends."""

    def __init__(self, settings: DataflowSettings, monotonic: Callable[[], float]) -> None:
        self._settings = settings
        self._monotonic = monotonic
        self._looked_at = float("-inf")
        self._missing: set[tuple[str, int]] = set()

    def look(self, reading: Iterable[KafkaPartition]) -> None:
        """To be called after every poll, with the partitions that are fetched.

        Raises:
            LogError: one has had no answer for ``outage_seconds``, or does not exist any more.
        """
        now = self._monotonic()
        silent = []
        for partition in reading:
            seconds = now - partition.answered_at
            if seconds > self._settings.outage_seconds:
                raise not_answering(self._settings, seconds, f"for {partition.name}")
            if seconds > MISSING_SECONDS:
                silent.append(partition)
        if silent and now - self._looked_at > MISSING_SECONDS:
            self._look_for(silent)

    def _look_for(self, silent: list[KafkaPartition]) -> None:
        found = missing(self._settings, [(part.topic, part.partition) for part in silent])
        # A broker that has just come back may not know everything yet: it must say so twice.
        for topic, partition in sorted(found & self._missing):
            raise vanished(f"{topic}/{partition}")
        self._missing = found
        self._looked_at = self._monotonic()
