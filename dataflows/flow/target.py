"""Where a run ends: at the end of a log as it was at some moment, or as if it were cut there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from dataflows.sources.plan_log import PlanLog
from dataflows.watermark import NOT_YET


class Target(Protocol):
    """Where a run ends.

    Attributes:
        offsets: partition number -> the offset to stop at.
        is_end: whether nothing comes behind it: then the last moment takes effect too, and
            learners publish what they learned last.
        watermark_us: what comes after it takes effect no earlier, as is known from elsewhere;
            ``NOT_YET`` if nothing is known.
    """

    offsets: Mapping[int, int]
    is_end: bool
    watermark_us: int

    def arrived(self, partition: int) -> None:
        """This partition has been read to its offset; any thread may say so."""
        ...

    def is_over(self, *, is_idle: bool) -> bool:
        """Whether a partition that is at its offset, and idle or not yet, may end."""
        ...


class LogEnd:
    """The end of the log: each partition ends once it has become idle there."""

    is_end = True
    watermark_us = NOT_YET

    def __init__(self, offsets: Mapping[int, int]) -> None:
        self.offsets = offsets

    def arrived(self, partition: int) -> None:
        """Nobody waits for others."""

    def is_over(self, *, is_idle: bool) -> bool:
        """As ``Target``."""
        return is_idle


class Cut:
    """A place in the log where a run stops as at a signal, for another to go on from there.

    A partition that is there early waits for the others. What comes behind its offset must not be
    late, so it is idle only if it is silent, as in a run without an end. Who knows how far the
    watermark came at this cut before says so, and nobody holds years in memory for the sake of a
    partition that was silent then. For one process.
    """

    is_end = False

    def __init__(self, offsets: Mapping[int, int], watermark_us: int = NOT_YET) -> None:
        self.offsets = offsets
        self.watermark_us = watermark_us
        self._on_their_way = set(offsets)

    def arrived(self, partition: int) -> None:
        """As ``Target``."""
        self._on_their_way.discard(partition)

    def is_over(self, *, is_idle: bool) -> bool:
        """As ``Target``."""
        return not self._on_their_way


TargetOf = Callable[[PlanLog], Target | None]


def never(log: PlanLog) -> Target | None:
    """Follow the log until a signal comes."""
    return None


def log_end(log: PlanLog) -> Target | None:
    """The end of the log as it is now."""
    return LogEnd(log.ends())


def cut_at_end(log: PlanLog) -> Target | None:
    """A cut where the log ends now."""
    return Cut(log.ends())
