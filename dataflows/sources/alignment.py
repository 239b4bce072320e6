"""Keeps the partitions of a process near each other in event time while history is read."""

from __future__ import annotations


class Alignment:
    """Partitions wait for the slowest one that still has something to read.

    Without this, a small topic would be read years ahead of a large one and lie in memory until
    the watermark comes. Threads may share it: it only replaces integers in a dict.
    """

    def __init__(self, distance_us: int) -> None:
        self._distance_us = distance_us
        self._newest_us: dict[int, int] = {}

    def at(self, partition: int, newest_us: int) -> None:
        """This partition has come to ``newest_us`` and has more to read."""
        self._newest_us[partition] = newest_us

    def leave(self, partition: int) -> None:
        """This partition has nothing to read now: nobody waits for it."""
        self._newest_us.pop(partition, None)

    def may_read(self, newest_us: int) -> bool:
        """Whether one that has come to ``newest_us`` is near enough to the slowest."""
        slowest_us = min(list(self._newest_us.values()), default=newest_us)
        return newest_us <= slowest_us + self._distance_us
