"""How far event time has come, from what each partition says of itself."""

from __future__ import annotations

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
    """The watermark over all partitions of a flow; it never goes back."""

    def __init__(self, partitions: int) -> None:
        self._clocks = [PartitionClock(i, NOT_YET, NOT_YET, False) for i in range(partitions)]
        self.watermark_us = NOT_YET

    def update(self, clock: PartitionClock) -> int:
        """Take in what one partition says; return the watermark."""
        self._clocks[clock.partition] = clock
        busy = [c.watermark_us for c in self._clocks if not c.is_idle]
        if busy:
            now_us = min(busy)
        else:
            # Nobody is expected to add anything: even what happened last may take effect.
            newest_us = max(c.newest_us for c in self._clocks)
            now_us = newest_us + 1 if newest_us > NOT_YET else NOT_YET
        self.watermark_us = max(self.watermark_us, now_us)
        return self.watermark_us

    def reopen(self) -> None:
        """After a restart: nobody is idle until it says so again."""
        self._clocks = [replace(clock, is_idle=False) for clock in self._clocks]

    @property
    def is_over(self) -> bool:
        """Whether every partition was read to its end."""
        return all(clock.is_idle for clock in self._clocks)
