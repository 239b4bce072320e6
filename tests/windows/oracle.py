"""A slow, obvious computation of DESIGN section 5: every answer from scratch over all events."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from contracts.plan import Aggregate, View
from tests.windows.near import Near

Value = float | str | Near | None
FOREVER_US = 2**62


@dataclass(frozen=True)
class Event:
    """One update of one entity; ``order`` breaks ties of effective time."""

    event_us: int
    effective_us: int
    order: int
    values: Mapping[str, Value]


@dataclass(frozen=True)
class Tile:
    """Events that a window takes in and lets go together; ``leaves_us`` is when it lets them go."""

    time: int
    leaves_us: int
    events: tuple[Event, ...]


class Entity:
    """All that ever happened to one entity of a view."""

    def __init__(self, view: View, events: Sequence[Event]) -> None:
        self._view = view
        self._events = sorted(events, key=lambda e: (e.effective_us, e.order))
        # (column, window) -> what is in an exact window after each event.
        self._moments: dict[tuple[str, int], list[list[Tile]]] = {}
        if view.exact_tiles_max:
            for a in view.aggregates:
                if a.window_us:
                    moments = _moments(a, self._events, view.exact_tiles_max)
                    self._moments[a.column, a.window_us] = moments
        self._stamps = self._all_stamps()

    def read(self, time_us: int) -> list[Value]:
        """What a read at ``time_us`` returns, the view's ttl considered."""
        ages = [time_us - stamp for stamp in self.stamps(time_us)]
        if not ages or (self._view.ttl_us and min(ages) > self._view.ttl_us):
            return [None] * len(self._view.aggregates)
        return self.values(time_us)

    def values(self, time_us: int) -> list[Value]:
        """The features at ``time_us``, however old they are."""
        return [self._feature(aggregate, time_us) for aggregate in self._view.aggregates]

    def stamps(self, up_to_us: int) -> list[int]:
        """All moments up to and including ``up_to_us`` that give the stores a row, ascending."""
        return [stamp for stamp in self._stamps if stamp <= up_to_us]

    def rows(self, up_to_us: int) -> list[tuple[int, list[Value]]]:
        """(stamp, values) of every row that the stores get."""
        return [(stamp, self.values(stamp)) for stamp in self.stamps(up_to_us)]

    def _all_stamps(self) -> list[int]:
        found = {event.effective_us + 1 for event in self._events}
        for aggregate in self._view.aggregates:
            moments = self._moments.get((aggregate.column, aggregate.window_us))
            if moments is not None:
                nexts = [event.effective_us + 1 for event in self._events] + [FOREVER_US]
                for tiles, next_us in zip(moments, nexts[1:], strict=True):
                    # One that is still there then may yet become a part of another.
                    found |= {tile.leaves_us for tile in tiles if tile.leaves_us < next_us}
            elif aggregate.window_us:
                for event in self._events:
                    start_us = _tile_of(aggregate, event.event_us) * aggregate.hop_us
                    leaves_us = start_us + aggregate.window_us
                    if event.values[aggregate.column] is not None:
                        found |= {leaves_us} if leaves_us > event.effective_us else set()
        return sorted(found)

    def _feature(self, aggregate: Aggregate, time_us: int) -> Value:
        known = [event for event in self._events if event.effective_us < time_us]
        if aggregate.function == "latest":
            return _newest(known).values[aggregate.column] if known else None
        moments = self._moments.get((aggregate.column, aggregate.window_us))
        if moments is not None:
            tiles = moments[len(known) - 1] if known else []
            tiles = [tile for tile in tiles if tile.leaves_us > time_us]
        else:
            tiles = _tiles(aggregate, known, time_us)
        if aggregate.function == "count_distinct":
            return _distinct(tiles, aggregate.column, 2**self._view.distinct_bits)
        return _value(aggregate, [event for tile in tiles for event in tile.events])


def _tiles(aggregate: Aggregate, known: Sequence[Event], time_us: int) -> list[Tile]:
    """What is in the window at ``time_us``: tiles of events that are not null, oldest first."""
    found: dict[int, list[Event]] = {}
    for event in known:
        if event.values[aggregate.column] is not None and _is_inside(aggregate, event, time_us):
            found.setdefault(_tile_of(aggregate, event.event_us), []).append(event)
    hop_us, window_us = aggregate.hop_us, aggregate.window_us
    return [Tile(i, i * hop_us + window_us, tuple(own)) for i, own in sorted(found.items())]


def _tile_of(aggregate: Aggregate, time_us: int) -> int:
    return time_us // aggregate.hop_us if aggregate.window_us else 0


def _is_inside(aggregate: Aggregate, event: Event, time_us: int) -> bool:
    if not aggregate.window_us:
        return True
    k = _tile_of(aggregate, time_us)
    tiles = aggregate.window_us // aggregate.hop_us
    return k - tiles < _tile_of(aggregate, event.event_us) <= k


def _moments(aggregate: Aggregate, events: Sequence[Event], most: int) -> list[list[Tile]]:
    """The tiles of a microsecond as each event leaves them, at most ``most`` of them.

    Only here does it matter what happened in between: once neighbours are one they stay so.
    """
    tiles: list[Tile] = []
    found = []
    for event in events:
        tiles = [tile for tile in tiles if tile.leaves_us > event.effective_us + 1]
        leaves_us = event.event_us + aggregate.window_us
        if event.values[aggregate.column] is not None and leaves_us > event.effective_us + 1:
            same = [tile.events for tile in tiles if tile.time == event.event_us]
            own = Tile(event.event_us, leaves_us, (*(same[0] if same else ()), event))
            tiles = [tile for tile in tiles if tile.time != event.event_us]
            tiles = sorted([*tiles, own], key=lambda tile: tile.time)
        if len(tiles) > most:
            gaps = [later.time - tile.time for tile, later in pairwise(tiles)]
            at = gaps.index(min(gaps))
            older, later = tiles[at : at + 2]
            both = Tile(later.time, later.leaves_us, older.events + later.events)
            tiles = [*tiles[:at], both, *tiles[at + 2 :]]
        found.append(tiles)
    return found


def _value(aggregate: Aggregate, inside: Sequence[Event]) -> Value:
    """Any other function of the events in the window, none of which is null."""
    values = [event.values[aggregate.column] for event in inside]
    if aggregate.function == "count":
        return float(len(values))
    if not values:
        return None
    if aggregate.function == "first":
        return _oldest(inside).values[aggregate.column]
    if aggregate.function == "last":
        return _newest(inside).values[aggregate.column]
    numbers = [Fraction(value) for value in values if isinstance(value, int | float)]
    match aggregate.function:
        case "sum":
            return float(sum(numbers))
        case "mean":
            return float(sum(numbers) / len(numbers))
        case "min":
            return float(min(numbers))
        case "max":
            return float(max(numbers))
        case "var":
            return _spread(numbers)
        case "std":
            var = _spread(numbers)
            std = math.sqrt(var.value)
            return Near(std, math.sqrt(var.value + var.within) - std)
    raise AssertionError(aggregate.function)


def _spread(numbers: Sequence[Fraction]) -> Near:
    """The variance of a population; equal numbers have none at all."""
    mean = sum(numbers) / len(numbers)
    var = sum((number - mean) ** 2 for number in numbers) / len(numbers)
    # What Chan, Golub and LeVeque prove of these formulas: no worse than the numbers themselves
    # are told apart in doubles. A sum of squares loses the square of that.
    size = math.sqrt(sum(number**2 for number in numbers) / len(numbers))
    rounding = 4 * len(numbers) * sys.float_info.epsilon * size * math.sqrt(var)
    return Near(float(var), 1e-9 * float(var) + rounding)


def _distinct(tiles: Sequence[Tile], column: str, registers: int) -> Value:
    """Exact while each tile, and all together, have few; else within five standard errors."""
    sets = [{event.values[column] for event in tile.events} for tile in tiles]
    count = float(len(set().union(*sets)))
    if all(len(values) <= registers // 8 for values in sets) and count <= registers:
        return count
    # A count is a whole number.
    return Near(count, 0.5 + 5 * 1.04 / math.sqrt(registers) * count)


def _oldest(events: Sequence[Event]) -> Event:
    """The earliest by event time; of equal ones the first in order."""
    return min(events, key=lambda event: event.event_us)


def _newest(events: Sequence[Event]) -> Event:
    """The latest by event time; of equal ones the last in order."""
    newest = events[0]
    for event in events[1:]:
        if event.event_us >= newest.event_us:
            newest = event
    return newest
