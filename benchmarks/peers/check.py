"""Whether an engine computed what it says: its results against a computation from scratch.

Engines differ in what a window is and in when they say something, so there are several kinds of
result. Each is a Parquet file ``KIND.parquet`` in the folder that the engine was told to keep its
results in. ``card`` is a string as in the events, times are whole microseconds since 1970 UTC, the
features are ``workload.FEATURES``; sum and max of nothing are null or NaN.

``at_end``: ``card`` and the features, one row for each card that had an event: windows by hops
(``docs/semantics.md``) at the time of the last event of all.

``each_event_hops``: ``card``, ``time_us`` and the features, one row for each event, that event
included: windows by hops at its time.

``each_event_open``, ``each_event_closed``: the same, but a window is exactly the time before the
event: ``(t - length, t]`` and ``[t - length, t]``.

``each_window``: ``card``, ``window`` ("10m", ...), ``start_us``, ``count``, ``sum``, ``max``, one
row for each window ``[start, start + length)`` that held an event; starts are multiples of the hop.

``parsed``: ``card``, ``time_us`` and ``amount`` of each event.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.peers.workload import FEATURES, FUNCTIONS, WINDOWS, Events, Floats, Ints

SECOND_US = 1_000_000
_NAME_BEGINS_AT = len("card-")


class WrongResultsError(Exception):
    """An engine's results are not what they should be; the message says where."""


def check(kind: str, folder: Path, events: Events) -> int:
    """Compare all values of one kind; how many there were.

    Raises:
        WrongResultsError: rows are missing, too many, or have another value.
    """
    return KINDS[kind](pq.read_table(folder / f"{kind}.parquet"), events)


def _at_end(found: pa.Table, events: Events) -> int:
    cards = np.unique(events.cards)
    place = np.searchsorted(cards, events.cards)
    columns: list[Floats] = []
    for length, hop in WINDOWS.values():
        hop_us = hop * SECOND_US
        newest_tile = int(events.times_us[-1]) // hop_us
        inside = events.times_us // hop_us > newest_tile - length // hop
        columns += _grouped(place[inside], events.amounts[inside], len(cards))
    return _compare([cards], columns, [_numbers(found)], _floats(found, FEATURES))


def _grouped(groups: Ints, amounts: Floats, count: int) -> list[Floats]:
    """Count, sum and maximum of the amounts of each group."""
    counts = np.bincount(groups, minlength=count).astype(np.float64)
    sums = np.bincount(groups, amounts, count)
    largest = np.full(count, -np.inf)
    np.maximum.at(largest, groups, amounts)
    sums[counts == 0] = largest[counts == 0] = np.nan
    return [counts, sums, largest]


def _each_event(oldest_us: Callable[[Ints, int, int], Ints]) -> Callable[[pa.Table, Events], int]:
    """The check of windows that reach from ``oldest_us(times, length, hop)`` up to each event."""

    def check_rows(found: pa.Table, events: Events) -> int:
        order = np.lexsort((events.times_us, events.cards))
        cards, times_us = events.cards[order], events.times_us[order]
        columns: list[Floats] = []
        for length, hop in WINDOWS.values():
            begin_us = oldest_us(times_us, length * SECOND_US, hop * SECOND_US)
            columns += _looking_back(cards, times_us, events.amounts[order], begin_us)
        mine = [_numbers(found), _ints(found, "time_us")]
        return _compare([cards, times_us], columns, mine, _floats(found, FEATURES))

    return check_rows


def _looking_back(cards: Ints, times_us: Ints, amounts: Floats, begin_us: Ints) -> list[Floats]:
    """For each event, in order of card and time: look at the ones before it, one by one."""
    counts, sums, largest = np.ones(len(cards)), amounts.copy(), amounts.copy()
    for back in range(1, len(cards)):
        is_inside = (cards[back:] == cards[:-back]) & (times_us[:-back] >= begin_us[back:])
        if not is_inside.any():
            break
        now = np.flatnonzero(is_inside) + back
        counts[now] += 1
        sums[now] += amounts[now - back]
        largest[now] = np.maximum(largest[now], amounts[now - back])
    return [counts, sums, largest]


def _each_window(found: pa.Table, events: Events) -> int:
    known = set(pc.unique(found["window"]).to_pylist())
    if not known <= WINDOWS.keys():
        raise WrongResultsError(f"windows {sorted(known)}, not {sorted(WINDOWS)}")
    compared = 0
    for window, (length, hop) in WINDOWS.items():
        hop_us, each = hop * SECOND_US, length // hop
        tiles = np.concatenate([events.times_us // hop_us - back for back in range(each)])
        cards, amounts = np.tile(events.cards, each), np.tile(events.amounts, each)
        order = np.lexsort((tiles, cards))
        cards, tiles, amounts = cards[order], tiles[order], amounts[order]
        is_first = np.ones(len(cards), np.bool_)
        is_first[1:] = (np.diff(cards) != 0) | (np.diff(tiles) != 0)
        begin = np.flatnonzero(is_first)
        columns = [
            np.diff(begin, append=len(cards)).astype(np.float64),
            np.add.reduceat(amounts, begin),
            np.maximum.reduceat(amounts, begin),
        ]
        mine = found.filter(pc.equal(found["window"], window))
        keys = [_numbers(mine), _ints(mine, "start_us")]
        wanted = [cards[begin], tiles[begin] * hop_us]
        compared += _compare(wanted, columns, keys, _floats(mine, FUNCTIONS))
    return compared


def _parsed(found: pa.Table, events: Events) -> int:
    mine = [_numbers(found), _ints(found, "time_us")]
    wanted = [events.cards, events.times_us]
    return _compare(wanted, [events.amounts], mine, _floats(found, ["amount"]))


def _compare(
    wanted_keys: Sequence[Ints],
    wanted: Sequence[Floats],
    found_keys: Sequence[Ints],
    found: Sequence[Floats],
) -> int:
    """How many values were compared; both sides may come in any order."""
    if len(wanted_keys[0]) != len(found_keys[0]):
        raise WrongResultsError(f"{len(found_keys[0]):,} rows, not {len(wanted_keys[0]):,}")
    wanted_order = np.lexsort(tuple(reversed(wanted_keys)))
    found_order = np.lexsort(tuple(reversed(found_keys)))
    columns = zip([*wanted_keys, *wanted], [*found_keys, *found], strict=True)
    for number, (right, mine) in enumerate(columns):
        right, mine = right[wanted_order], mine[found_order]
        is_equal = (right == mine) | (np.isnan(right) & np.isnan(mine))
        if not is_equal.all():
            place = int(np.argmin(is_equal))
            keys = [int(key[wanted_order][place]) for key in wanted_keys]
            raise WrongResultsError(
                f"column {number} of the row {keys} is {mine[place]}, not {right[place]}; "
                f"{int((~is_equal).sum()):,} rows differ there"
            )
    return len(wanted) * len(wanted_order)


def _numbers(table: pa.Table) -> Ints:
    """The numbers of the cards."""
    digits = pc.utf8_slice_codeunits(table["card"], _NAME_BEGINS_AT)
    numbers: Ints = pc.cast(digits, pa.int64()).to_numpy()
    return numbers


def _ints(table: pa.Table, name: str) -> Ints:
    column: Ints = pc.cast(table[name], pa.int64()).to_numpy()
    return column


def _floats(table: pa.Table, names: Sequence[str]) -> list[Floats]:
    return [pc.cast(table[name], pa.float64()).to_numpy() for name in names]


def _hops(times_us: Ints, length_us: int, hop_us: int) -> Ints:
    return (times_us // hop_us + 1) * hop_us - length_us


KINDS: dict[str, Callable[[pa.Table, Events], int]] = {
    "at_end": _at_end,
    "each_event_hops": _each_event(_hops),
    "each_event_open": _each_event(lambda times_us, length_us, _: times_us - length_us + 1),
    "each_event_closed": _each_event(lambda times_us, length_us, _: times_us - length_us),
    "each_window": _each_window,
    "parsed": _parsed,
}
