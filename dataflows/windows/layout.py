"""Where each number of a view's state stands: a row of doubles and a row of marks per entity.

A *group* is a distinct (input, window): its tiles hold the statistics that the view's functions on
it need. The rings of all groups of an entity lie one behind the other in one row, so that an event
touches neighbouring memory. The marks are the newest tile of each window, then one bit for each
tile of each ring, set if the tile holds anything: most tiles of most entities are empty, and only
those that are not need be looked at. Groups of an exact window have a list of tiles and no ring.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from contracts.plan import Aggregate, AggregateFunction, View
from dataflows.windows import tiles
from dataflows.windows.distinct import set_width
from dataflows.windows.inputs import Input, input_of, inputs_of

Ints = npt.NDArray[np.int64]

FUNCTION_CODES: dict[AggregateFunction, int] = {
    "count": tiles.COUNT,
    "sum": tiles.SUM,
    "mean": tiles.MEAN,
    "min": tiles.MIN,
    "max": tiles.MAX,
    "var": tiles.VAR,
    "std": tiles.STD,
    "first": tiles.FIRST,
    "last": tiles.LAST,
    "count_distinct": tiles.DISTINCT,
    "latest": tiles.LATEST,
}

_WORD_BITS = 64
_SPREAD = (tiles.MEAN_STAT, tiles.M2_STAT)
_LAST = (tiles.LAST_STAT, tiles.LAST_TIME_STAT)
_TEXT_STATS = (tiles.FIRST_STAT, tiles.LAST_STAT)
# Besides the count, which all have.
_STATS_NEEDED: dict[AggregateFunction, tuple[int, ...]] = {
    "count": (),
    "sum": (tiles.SUM_STAT,),
    "mean": (tiles.SUM_STAT,),
    "min": (tiles.MIN_STAT,),
    "max": (tiles.MAX_STAT,),
    "var": _SPREAD,
    "std": _SPREAD,
    "first": (tiles.FIRST_STAT, tiles.FIRST_TIME_STAT),
    "last": _LAST,
    "count_distinct": (tiles.SET_STAT,),
    "latest": _LAST,
}

_Window = tuple[int, int]
_Group = tuple[Input, _Window, bool]


@dataclass(frozen=True)
class Layout:
    """The shape of a view's state.

    Attributes:
        windows: int64[W, 2], (tiles in the window, hop in microseconds); (1, 0) is no window.
        groups: int64[G, 18], see the ``GROUP_*`` and ``*_STAT`` constants; -1 is "not held", as a
            list or as a ring too.
        features: int64[F, 3], (group, function code, place among the view's aggregates), by group.
        texts: int64[G, statistics], 1 where a tile of the group has the place of a text.
        width: doubles per entity.
        marks: integers per entity.
        lists: lists per entity; -1 if there are none, and no group has a rare statistic.
        place_width: doubles of a tile in a list, its number included.
    """

    windows: Ints
    groups: Ints
    features: Ints
    texts: Ints
    width: int
    marks: int
    lists: int
    place_width: int


def make_layout(view: View) -> Layout:
    """The layout of a view; depends on its aggregates and on how it counts and tells apart."""
    columns = inputs_of(view)
    windows = list(dict.fromkeys(_window(a) for a in view.aggregates))
    stats_of: dict[_Group, set[int]] = {}
    for aggregate in view.aggregates:
        stats = stats_of.setdefault(_group(aggregate), {tiles.N_STAT})
        stats.update(_STATS_NEEDED[aggregate.function])
    rows: list[list[int]] = []
    base, word, lists, place_width = 0, len(windows), 0, 1
    for (column, window, is_latest), stats in stats_of.items():
        offsets, width = _offsets(stats, view)
        is_list = view.exact_tiles_max > 0 and window[1] > 0
        places = (-1, -1, lists) if is_list else (base, word, -1)
        place = (columns.index(column), windows.index(window))
        rows.append([*place, *places, int(is_latest), width, *offsets])
        if is_list:
            lists += 1
            place_width = max(place_width, width + 1)
        else:
            base += width * window[0]
            word += -(-window[0] // _WORD_BITS)
    has_rare = any(max(stats) >= tiles.FIRST_STAT for stats in stats_of.values())
    order = list(stats_of)
    features = sorted(
        (order.index(_group(a)), FUNCTION_CODES[a.function], place)
        for place, a in enumerate(view.aggregates)
    )
    return Layout(
        windows=np.array(windows, dtype=np.int64).reshape(-1, 2),
        groups=np.array(rows, dtype=np.int64).reshape(-1, tiles.OFFSETS + tiles.STATS),
        features=np.array(features, dtype=np.int64).reshape(-1, 3),
        texts=np.array([_texts(*one) for one in stats_of.items()], dtype=np.int64),
        width=base,
        marks=word,
        lists=lists if lists or has_rare else -1,
        place_width=place_width,
    )


def _offsets(stats: set[int], view: View) -> tuple[list[int], int]:
    """(place of each statistic in a tile or -1, doubles of a tile)."""
    held = sorted(stats)
    offsets = [held.index(stat) if stat in stats else -1 for stat in range(tiles.STATS)]
    # A set stands last, and is longer than one.
    wider = set_width(view.distinct_bits) - 1 if tiles.SET_STAT in stats else 0
    return offsets, len(held) + wider


def _texts(group: _Group, stats: set[int]) -> list[int]:
    is_text = group[0].kind == "text"
    return [int(is_text and stat in stats and stat in _TEXT_STATS) for stat in range(tiles.STATS)]


def _window(aggregate: Aggregate) -> _Window:
    if aggregate.window_us == 0:
        return (1, 0)
    return (aggregate.window_us // aggregate.hop_us, aggregate.hop_us)


def _group(aggregate: Aggregate) -> _Group:
    return (input_of(aggregate), _window(aggregate), aggregate.function == "latest")
