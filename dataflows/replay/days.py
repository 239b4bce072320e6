"""Folders of a table in which some days come from a replay and all others from the live one."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from dataflows.state_files import link_or_copy
from dataflows.stores.day_files import US_PER_DAY, day_number

_FIRST, _LAST = -(2**31), 2**31


@dataclass(frozen=True)
class Days:
    """Days counted from 1970-01-01: from ``first`` on, before ``end``."""

    first: int = _FIRST
    end: int = _LAST

    @property
    def is_every(self) -> bool:
        """Whether no day is left out."""
        return self == Days()

    @property
    def from_us(self) -> int:
        """Where they begin, microseconds since 1970 UTC."""
        return self.first * US_PER_DAY

    @property
    def to_us(self) -> int:
        """Where they end."""
        return self.end * US_PER_DAY


def day_of(time_us: int) -> int:
    """The day that a moment lies in."""
    return time_us // US_PER_DAY


def day_after(time_us: int) -> int:
    """The first day that begins at a moment or behind it."""
    return -(-time_us // US_PER_DAY)


def days_in(folder: Path) -> list[int]:
    """The days of a table that have a file, in order."""
    return sorted(day_number(path.stem) for path in folder.glob("????-??-??.parquet"))


def put_together(fresh: Path, live: Path, days: Days, out: Path) -> None:
    """Make ``out`` hold the files of these days from ``fresh``, of all others from ``live``.

    Files are linked, not copied, where the disk can do that: they are replaced, never changed.
    """
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    for folder, is_fresh in ((live, False), (fresh, True)):
        for path in sorted(folder.glob("????-??-??.parquet")):
            if (days.first <= day_number(path.stem) < days.end) == is_fresh:
                link_or_copy(path, out / path.name)
