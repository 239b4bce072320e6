"""Random views and streams for them, full of ties, boundaries, late events, nulls and silence."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

from hypothesis import strategies as st

from contracts.plan import Aggregate, AggregateFunction, ColumnType, View
from tests.windows.oracle import Value
from tests.windows.stream import Item, Storing, columns_of, feature, view_of

ANY: list[AggregateFunction] = ["count", "first", "last", "count_distinct"]
NUMERIC: list[AggregateFunction] = [*ANY, "sum", "mean", "min", "max", "var", "std"]
FUNCTIONS: dict[ColumnType, list[AggregateFunction]] = {
    "float64": NUMERIC,
    "int64": NUMERIC,
    "bool": [*ANY, "min", "max"],
    "string": ANY,
}
COLUMNS: dict[str, ColumnType] = {"x": "float64", "i": "int64", "b": "bool", "s": "string"}
# Drawing is what takes most of a test's time: one draw does for what could be several, and no
# strategy is made more than once.
VALUES: dict[str, st.SearchStrategy[Value]] = {
    "x": st.sampled_from([*[None] * 5, *(float(n) for n in sorted(range(-9, 10), key=abs))]),
    "i": st.sampled_from([*[None] * 20, *sorted(range(-40, 41), key=abs)]),
    "b": st.sampled_from([None, None, False, True]),
    "s": st.sampled_from([*[None] * 7, "", "a", "b", "ab", "é", "\x00", "日本"]),
}
# A few microseconds a tile, so that boundaries and ties are everywhere.
HOPPING = [(0, 0), (1, 1), (4, 1), (5, 5), (10, 5), (12, 3), (30, 10), (28, 7), (140, 2), (60, 20)]
EXACT = [(0, 0), (1, 1), (4, 1), (5, 1), (12, 1), (30, 1), (100, 1)]
WINDOWS = {False: st.sampled_from(HOPPING), True: st.sampled_from(EXACT)}
# Each column as often as it stands here, whatever can be made of it.
AGGREGATED = st.sampled_from(
    [
        (column, function)
        for column in "xxisb"
        for function in FUNCTIONS[COLUMNS[column]]
        for _ in range(60 // len(FUNCTIONS[COLUMNS[column]]))
    ]
)
MANNERS = st.sampled_from(
    list(
        product(
            # How far from a boundary, if at one.
            [None, None, -1, 0, 1],
            # How late.
            [0, 0, 0, 1, 5, 9, 40],
            [b"a", b"a", b"a", b"b", b"c"],
            # A silence that lets everything decay.
            [0, 0, 0, 0, 300],
        )
    )
)
STORING: list[Storing] = [
    *("dump", "dump, load"),
    *("changes", "changes", "changes, load"),
    *("pieces", "pieces", "pieces", "pieces, load"),
]


@dataclass(frozen=True)
class Stream:
    """A view, items in order of effect, and a moment after all of them."""

    view: View
    items: list[Item]
    up_to_us: int


@st.composite
def views(draw: Any) -> View:
    """A view: exact or hopping, with history or served only, any functions of any columns."""
    exact_tiles_max = draw(st.sampled_from([0, 0, 0, 2, 3, 5, 1024]))
    windows = WINDOWS[exact_tiles_max > 0]
    aggregates: list[Aggregate] = []
    for number in range(draw(st.integers(0, 5))):
        column, function = draw(AGGREGATED)
        window_us, hop_us = draw(windows)
        name = f"f{number}"
        aggregates.append(feature(name, function, window_us, hop_us, column, COLUMNS[column]))
    # A view without aggregations gives the latest row.
    latest = [feature(c, "latest", column=c, column_type=COLUMNS[c]) for c in "xsb"]
    return view_of(
        *aggregates or latest,
        ttl_us=draw(st.sampled_from([0, 0, 3, 20])),
        exact_tiles_max=exact_tiles_max,
        distinct_bits=draw(st.sampled_from([4, 4, 5, 8])),
    )


@cache
def _rows(columns: tuple[str, ...]) -> st.SearchStrategy[Any]:
    """Place, manner, and values of an update to these columns or None: a third of all are reads."""
    values = st.tuples(*(VALUES[column] for column in columns))
    return st.tuples(st.integers(1, 60), MANNERS, st.one_of(st.none(), values, values))


@st.composite
def streams(draw: Any, of: st.SearchStrategy[View] | None = None) -> Stream:
    """A view and what happens to three of its entities."""
    view = draw(views() if of is None else of)
    boundaries = [hop for a in view.aggregates for hop in (a.hop_us, a.window_us) if hop] or [10]
    base_us = draw(st.sampled_from([0, 1_356_998_400_000_000]))
    rows = _rows(tuple(columns_of(view)))
    items = []
    # Left to itself a list is short, and a window has hardly ever two values.
    size = draw(st.integers(1, 25))
    for rank, (place, (offset_us, late_us, key, silence_us), row) in enumerate(
        draw(st.lists(rows, min_size=size, max_size=size))
    ):
        hop_us = boundaries[place % len(boundaries)]
        event_us = place if offset_us is None else (1 + place % 8) * hop_us + offset_us
        event_us += base_us + silence_us
        items.append(Item(key, event_us, event_us + late_us, rank, row))
    if draw(st.booleans()):
        items.reverse()
    items.sort(key=lambda item: item.effective_us)
    return Stream(view, items, items[-1].effective_us + 1 + draw(st.sampled_from([0, 1, 7, 400])))


@dataclass(frozen=True)
class Handling:
    """Where a stream is cut, and what is stored after which advances."""

    cuts: list[int]
    stored_at: dict[int, Storing]


def handlings(stream: Stream) -> st.SearchStrategy[Handling]:
    """Any cuts of a stream, with any storing and loading after any of the advances."""
    places = st.sets(st.integers(0, len(stream.items))).map(sorted)
    return places.flatmap(
        lambda cuts: st.builds(
            Handling,
            st.just(cuts),
            st.dictionaries(st.integers(0, len(cuts)), st.sampled_from(STORING)),
        )
    )
