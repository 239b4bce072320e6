"""What a replay is asked for, and whether that can be had."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from contracts.plan import Plan
from dataflows.changes.definitions import window_us
from dataflows.replay.selection import Selection

Result = Literal["online", "offline", "examples"]

_OFFSET = re.compile(r"(?P<partition>[^=,]+/\d+)=(?P<offset>\d+)")
# Of a number alone: it is meant for all partitions.
EVERY = "*"


class OptionsError(Exception):
    """What was asked for cannot be had; the message says what to ask for instead."""


@dataclass(frozen=True)
class Moment:
    """An event time, microseconds since 1970 UTC."""

    us: int


@dataclass(frozen=True)
class Offsets:
    """Offsets by ``TOPIC/PARTITION``, or one for all under ``EVERY``."""

    by_partition: Mapping[str, int]

    def of(self, partition: str) -> int | None:
        """The offset of a partition; None if there is none for it."""
        return self.by_partition.get(partition, self.by_partition.get(EVERY))


Place = Moment | Offsets | None


@dataclass(frozen=True)
class ReplayOptions:
    """What to rebuild.

    Attributes:
        views: names; together with ``models`` empty for everything.
        models: names.
        results: what is put in place while state stays as it is; empty for all, and the state.
        begin: where in the log; None for the earliest record.
        end: where to stop; None for the end.
    """

    views: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    results: tuple[Result, ...] = ()
    begin: Place = None
    end: Place = None

    @property
    def is_whole(self) -> bool:
        """Whether it is all there is, from the beginning to the end."""
        return not (self.views or self.models or self.results or self.begin or self.end)


def parse_place(option: str, text: str) -> Place:
    """A point in the log as people write it.

    Args:
        option: name of the option, for errors.
        text: ``earliest``, an ISO 8601 time (UTC if it names no zone), a number, which is the
            offset in each partition, or ``TOPIC/PARTITION=OFFSET,...``.

    Raises:
        OptionsError: it is nothing of these.
    """
    if text in ("", "earliest"):
        return None
    if text.isdecimal():
        return Offsets({EVERY: int(text)})
    parts = [_OFFSET.fullmatch(part.strip()) for part in text.split(",")]
    found = [(part["partition"].strip(), int(part["offset"])) for part in parts if part]
    if len(found) == len(parts):
        return Offsets(dict(found))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise OptionsError(
            f"{option} {text!r} is no point in the log: give a time as 2026-01-31T12:00:00Z, "
            "TOPIC/PARTITION=OFFSET,... or a number for all partitions"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return Moment(round(moment.timestamp() * 1_000_000))


def check_options(options: ReplayOptions, plan: Plan, selection: Selection) -> None:
    """See that what is selected can be rebuilt from there, and put in place.

    Raises:
        OptionsError: it cannot.
    """
    views = [plan.view(name) for name in selection.views]
    if options.begin is not None:
        endless = [view.name for view in views if window_us(view) is None]
        if selection.models:
            raise OptionsError(
                f"model {selection.models[0]!r} learns from its first example on: leave --from "
                "away, or name views that no model reads with --views"
            )
        if endless:
            raise OptionsError(
                f"view {endless[0]!r} has a feature over the whole history: leave --from away, or "
                "name other views with --views"
            )
    if isinstance(options.begin, Offsets) and options.results != ("offline",):
        raise OptionsError(
            "--from with offsets does not say whether windows are whole by the end: name "
            "--offline too, or give a time"
        )
    if options.end is not None and (not options.results or "online" in options.results):
        raise OptionsError(
            "--to leaves what is current alone: name what is to be put in place with --offline or "
            "--examples"
        )
    if "examples" in options.results and not selection.models:
        raise OptionsError("--examples needs a model: none reads what --views names")
    if options.results == ("offline",) and not any(view.offline_path for view in views):
        raise OptionsError("none of these views has an offline table: --offline has nothing to do")
