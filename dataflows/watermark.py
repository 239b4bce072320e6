"""How far event time has come, from what each partition says of itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

NOT_YET = -(2**62)


@dataclass(frozen=True)
class PartitionClock:
    """What a partition says with every batch.

    Attributes:
        partition: its number in the flow (0 .. partitions - 1).
        watermark_us: no later record of it takes effect before this.
        newest_us: the newest event time it has brought; ``NOT_YET`` before the first.
        is_idle: it was read to its end and has been silent (or is over): it holds nobody back.
    """

    partition: int
    watermark_us: int
    newest_us: int
    is_idle: bool


class WatermarkTable:
    """The watermark over all partitions of a flow; it never goes back.

    Attributes:
        watermark_us: nothing that comes takes effect before this.
    """

    def __init__(self, partitions: int) -> None:
        self._clocks = [PartitionClock(i, NOT_YET, NOT_YET, False) for i in range(partitions)]
        self.watermark_us = NOT_YET

    @property
    def is_idle(self) -> bool:
        """Whether every partition was read to its end.

        The watermark then is the newest event time, and even what happened at that very moment may
        take effect: nobody is expected to add anything.
        """
        return all(clock.is_idle for clock in self._clocks)

    def update(self, clock: PartitionClock) -> None:
        """Take in what one partition says."""
        self.update_all([clock])

    def update_all(self, clocks: Iterable[PartitionClock]) -> None:
        """As ``update`` of one after another."""
        for clock in clocks:
            before = self._clocks[clock.partition]
            is_on = (
                clock.watermark_us >= before.watermark_us and clock.newest_us >= before.newest_us
            )
            if clock.is_idle != before.is_idle or not is_on:
                # As long as all only move on, the last look sees the most; this may hold them back.
                self._look()
            self._clocks[clock.partition] = clock
        self._look()

    def _look(self) -> None:
        busy = [c.watermark_us for c in self._clocks if not c.is_idle]
        now_us = min(busy) if busy else max(c.newest_us for c in self._clocks)
        self.watermark_us = max(self.watermark_us, now_us)

    def join(self, other: WatermarkTable) -> None:
        """Take in what another table knows of the same partitions; what is farther on counts."""
        for mine, theirs in zip(self._clocks, other._clocks, strict=True):
            if theirs.watermark_us > mine.watermark_us:
                self._clocks[mine.partition] = theirs
        self.watermark_us = max(self.watermark_us, other.watermark_us)

    def reopen(self) -> None:
        """After a restart: nobody is idle until it says so again."""
        self._clocks = [replace(clock, is_idle=False) for clock in self._clocks]
