"""Where each number of a view's state stands: a row of doubles and a row of marks per entity.

A *group* is a distinct (column, window): its ring of tiles holds the statistics that the view's
functions on it need. All groups of an entity lie one behind the other in one row, so that an event
touches neighbouring memory and a snapshot copies whole rows. The marks are the newest tile of each
window, then one bit for each tile of each group, set if the tile holds anything: most tiles of most
entities are empty, and only those that are not need be looked at.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from contracts.plan import Aggregate, View
from dataflows.windows.kernel import (
    COUNT,
    GROUP_WIDTH,
    LAST,
    LAST_STAT,
    LAST_TIME_STAT,
    LATEST,
    MAX,
    MAX_STAT,
    MEAN,
    MIN,
    MIN_STAT,
    N_STAT,
    SUM,
    SUM_STAT,
)

Ints = npt.NDArray[np.int64]

FUNCTION_CODES = {
    "count": COUNT,
    "sum": SUM,
    "mean": MEAN,
    "min": MIN,
    "max": MAX,
    "last": LAST,
    "latest": LATEST,
}

_WORD_BITS = 64

_STATS_NEEDED = {
    "count": (N_STAT,),
    "sum": (N_STAT, SUM_STAT),
    "mean": (N_STAT, SUM_STAT),
    "min": (N_STAT, MIN_STAT),
    "max": (N_STAT, MAX_STAT),
    "last": (N_STAT, LAST_STAT, LAST_TIME_STAT),
    "latest": (N_STAT, LAST_STAT, LAST_TIME_STAT),
}


@dataclass(frozen=True)
class Layout:
    """The shape of a view's state.

    Attributes:
        columns: distinct input columns, in the order in which events bring their values.
        windows: int64[W, 2], (tiles in the ring, hop in microseconds); (1, 0) is no window.
        groups: int64[G, 12], see the ``GROUP_*`` and ``*_STAT`` constants; -1 is "not held".
        features: int64[F, 2], (group, function code), in the order of the view's aggregates.
        width: doubles per entity.
        marks: integers per entity.
    """

    columns: tuple[str, ...]
    windows: Ints
    groups: Ints
    features: Ints
    width: int
    marks: int


def make_layout(view: View) -> Layout:
    """The layout of a view; depends on its aggregates only."""
    columns = tuple(dict.fromkeys(a.column for a in view.aggregates))
    windows = list(dict.fromkeys(_window(a) for a in view.aggregates))
    group_stats: dict[tuple[str, tuple[int, int], bool], set[int]] = {}
    for aggregate in view.aggregates:
        stats = group_stats.setdefault(_group(aggregate), set())
        stats.update(_STATS_NEEDED[aggregate.function])
    rows: list[list[int]] = []
    base, word = 0, len(windows)
    for (column, window, is_latest), stats in group_stats.items():
        held = sorted(stats)
        offsets = [held.index(stat) if stat in stats else -1 for stat in range(6)]
        rows.append(
            [
                columns.index(column),
                windows.index(window),
                base,
                word,
                is_latest,
                *offsets,
                len(held),
            ]
        )
        base += len(held) * window[0]
        word += -(-window[0] // _WORD_BITS)
    order = list(group_stats)
    features = [[order.index(_group(a)), FUNCTION_CODES[a.function]] for a in view.aggregates]
    return Layout(
        columns=columns,
        windows=np.array(windows, dtype=np.int64).reshape(-1, 2),
        groups=np.array(rows, dtype=np.int64).reshape(-1, GROUP_WIDTH + 1),
        features=np.array(features, dtype=np.int64).reshape(-1, 2),
        width=base,
        marks=word,
    )


def _window(aggregate: Aggregate) -> tuple[int, int]:
    if aggregate.window_us == 0:
        return (1, 0)
    return (aggregate.window_us // aggregate.hop_us, aggregate.hop_us)


def _group(aggregate: Aggregate) -> tuple[str, tuple[int, int], bool]:
    return (aggregate.column, _window(aggregate), aggregate.function == "latest")
