"""How fast a log is read here: what a replay, or a run to the end, leaves behind."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec

from contracts.durable_files import replace_file
from contracts.plan import Plan

FORMAT: Final = 1
# Below this a run is mostly its own start.
EVENTS_MIN: Final = 10_000
SECONDS_MIN: Final = 1.0
# A rate over less than this share of the events of the one that is known says less than that one.
_SHARE_MIN = 0.1


@dataclass(frozen=True)
class Rate:
    """How fast a run was.

    Attributes:
        format: number of the file's layout.
        events: records read.
        seconds: that this took.
        views: how many it had.
        models: how many it had.
        workers: threads that ran the flow.
        at_us: when it ended, microseconds since 1970 UTC.
    """

    format: Literal[1]
    events: int
    seconds: float
    views: int
    models: int
    workers: int
    at_us: int

    @property
    def events_per_second(self) -> float:
        """Records read in a second."""
        return self.events / self.seconds


def rate_path(state: Path) -> Path:
    """Where the rate is kept: beside the state folder, which a replay replaces."""
    return state.with_name(state.name + ".rate.json")


def note_rate(
    state: Path,
    events: int,
    seconds: float,
    plan: Plan,
    workers: int = 1,
    wall_us: Callable[[], int] = lambda: time.time_ns() // 1000,
) -> None:
    """Note how fast a run read the log; nothing if it was too short to tell, or tells less.

    Args:
        state: the live state folder, whatever folder the run had.
        events: records that it read.
        seconds: from its first record to its end.
        plan: what it ran.
        workers: threads that ran it.
        wall_us: the time now.
    """
    if events < EVENTS_MIN or seconds < SECONDS_MIN:
        return
    known = known_rate(state)
    if known is not None and events < known.events * _SHARE_MIN:
        return
    rate = Rate(1, events, seconds, len(plan.views), len(plan.models), workers, wall_us())
    replace_file(rate_path(state), msgspec.json.encode(rate) + b"\n")


def known_rate(state: Path) -> Rate | None:
    """The rate that was noted for a live state folder; None if none was."""
    try:
        rate = msgspec.json.decode(rate_path(state).read_bytes(), type=Rate)
    except (OSError, msgspec.DecodeError):
        return None
    return rate if rate.seconds > 0 and rate.events > 0 else None
