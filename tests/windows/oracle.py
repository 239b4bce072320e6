"""A slow, obvious computation of DESIGN section 5: every answer from scratch over all events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from contracts.plan import Aggregate, View

Value = float | None


@dataclass(frozen=True)
class Event:
    """One update of one entity; ``order`` breaks ties of effective time."""

    event_us: int
    effective_us: int
    order: int
    values: Mapping[str, Value]


class Entity:
    """All that ever happened to one entity of a view."""

    def __init__(self, view: View, events: Sequence[Event]) -> None:
        self._view = view
        self._events = sorted(events, key=lambda e: (e.effective_us, e.order))

    def read(self, time_us: int) -> list[Value]:
        """What a read at ``time_us`` returns, the view's ttl considered."""
        ages = [time_us - stamp for stamp in self.stamps(time_us)]
        if not ages or (self._view.ttl_us and min(ages) > self._view.ttl_us):
            return [None] * len(self._view.aggregates)
        return self.values(time_us)

    def values(self, time_us: int) -> list[Value]:
        """The features at ``time_us``, however old they are."""
        known = [event for event in self._events if event.effective_us < time_us]
        return [_feature(aggregate, known, time_us) for aggregate in self._view.aggregates]

    def stamps(self, up_to_us: int) -> list[int]:
        """All moments up to and including ``up_to_us`` that give the stores a row, ascending."""
        found = set()
        for event in self._events:
            found.add(event.effective_us + 1)
            for aggregate in self._view.aggregates:
                if aggregate.window_us and event.values[aggregate.column] is not None:
                    tile = event.event_us // aggregate.hop_us
                    leaves_us = tile * aggregate.hop_us + aggregate.window_us
                    if leaves_us > event.effective_us:
                        found.add(leaves_us)
        return sorted(stamp for stamp in found if stamp <= up_to_us)

    def rows(self, up_to_us: int) -> list[tuple[int, list[Value]]]:
        """(stamp, values) of every row that the stores get."""
        return [(stamp, self.values(stamp)) for stamp in self.stamps(up_to_us)]


def _feature(aggregate: Aggregate, known: Sequence[Event], time_us: int) -> Value:
    """``known`` are the events in effect, in order of effect."""
    inside = [event for event in known if _is_inside(aggregate, event, time_us)]
    name = aggregate.column
    if aggregate.function == "latest":
        return _newest(inside).values[name] if inside else None
    inside = [event for event in inside if event.values[name] is not None]
    numbers = [Fraction(value) for e in inside if (value := e.values[name]) is not None]
    if aggregate.function == "count":
        return float(len(numbers))
    if not numbers:
        return None
    match aggregate.function:
        case "sum":
            return float(sum(numbers))
        case "mean":
            return float(sum(numbers) / len(numbers))
        case "min":
            return float(min(numbers))
        case "max":
            return float(max(numbers))
        case _:
            return _newest(inside).values[name]


def _is_inside(aggregate: Aggregate, event: Event, time_us: int) -> bool:
    if not aggregate.window_us:
        return True
    hop_us = aggregate.hop_us
    k = time_us // hop_us
    return k - aggregate.window_us // hop_us < event.event_us // hop_us <= k


def _newest(events: Sequence[Event]) -> Event:
    """The latest by event time; of equal ones the last in order."""
    newest = events[0]
    for event in events[1:]:
        if event.event_us >= newest.event_us:
            newest = event
    return newest
