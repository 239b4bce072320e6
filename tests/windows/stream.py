"""Runs a stream of updates and reads through a ``ViewState`` and through the oracle."""

from __future__ import annotations

import math
import pickle
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from contracts.plan import Aggregate, AggregateFunction, View
from dataflows.windows.view_state import Pending, ViewState
from tests.windows.oracle import Entity, Event, Value


@dataclass(frozen=True)
class Item:
    """An update (``values`` per column) or a read (``values`` is None) of one entity."""

    key: bytes
    event_us: int
    effective_us: int
    rank: int
    values: tuple[Value, ...] | None


@dataclass(frozen=True)
class Output:
    """Rows as (stamp, entity, values), reads as rank -> values, and the bytes of both."""

    rows: list[tuple[int, bytes, list[Value]]]
    reads: dict[int, list[Value]]
    raw_rows: bytes
    raw_reads: bytes


def view_of(*aggregates: Aggregate, ttl_us: int = 0, offline_path: str = "offline") -> View:
    """A view with these aggregates over any topic."""
    return View("v", "t", ("k",), ("string",), aggregates, ttl_us, offline_path)


def feature(
    name: str,
    function: AggregateFunction,
    window_us: int = 0,
    hop_us: int = 0,
    column: str = "x",
) -> Aggregate:
    """One aggregate."""
    return Aggregate(name, "float64", column, function, window_us, hop_us)


def columns_of(view: View) -> list[str]:
    """The input columns in the order of their first use."""
    return list(dict.fromkeys(aggregate.column for aggregate in view.aggregates))


def run(
    view: View,
    items: Sequence[Item],
    up_to_us: int,
    cuts: Sequence[int] = (),
    reload_at: frozenset[int] = frozenset(),
) -> Output:
    """Run ``items`` (ascending by effective time), advancing before each position in ``cuts``.

    ``reload_at`` names the cuts at which the state is dumped, pickled and loaded.
    """
    state = ViewState(view)
    rows: list[tuple[int, bytes, list[Value]]] = []
    reads: dict[int, list[Value]] = {}
    raw = [b"", b"", b"", b"", b""]
    begin = 0
    for number, end in enumerate([*cuts, len(items)]):
        part = items[begin:end]
        if part:
            state.hold(pending_of(state, view, part))
        begin = end
        watermark_us = up_to_us if end == len(items) else items[end].effective_us
        new, seen = state.advance(watermark_us, watermark_us)
        for slot, stamp, values in zip(new.slots, new.stamps_us, new.values, strict=True):
            rows.append((int(stamp), state.keys[slot], _values(values)))
        for rank, values in zip(seen.ranks.tolist(), seen.values, strict=True):
            assert rank not in reads
            reads[rank] = _values(values)
        for i, array in enumerate((new.slots, new.stamps_us, new.values, seen.ranks, seen.values)):
            raw[i] += array.tobytes()
        if number in reload_at:
            state = ViewState.load(view, pickle.loads(pickle.dumps(state.dump())))
    assert state.held == 0
    return Output(rows, reads, b"|".join(raw[:3]), b"|".join(raw[3:]))


def expected(view: View, items: Sequence[Item], up_to_us: int) -> Output:
    """What the oracle says of the same stream; without bytes."""
    columns = columns_of(view)
    entities = {
        key: Entity(
            view,
            [
                Event(i.event_us, i.effective_us, i.rank, dict(zip(columns, i.values, strict=True)))
                for i in items
                if i.key == key and i.values is not None
            ],
        )
        for key in {item.key for item in items}
    }
    rows = [(stamp, key, v) for key, e in entities.items() for stamp, v in e.rows(up_to_us)]
    reads = {i.rank: entities[i.key].read(i.effective_us) for i in items if i.values is None}
    return Output(rows, reads, b"", b"")


def assert_equal(view: View, items: Sequence[Item], up_to_us: int, output: Output) -> None:
    """The rows, in any order, and the reads are those of the oracle."""
    wanted = expected(view, items, up_to_us)
    assert sorted(output.rows, key=_place) == sorted(wanted.rows, key=_place)
    assert output.reads == wanted.reads


def _place(row: tuple[int, bytes, list[Value]]) -> tuple[int, bytes]:
    return row[0], row[1]


def _values(row: Sequence[float]) -> list[Value]:
    return [None if math.isnan(value) else float(value) for value in row]


def pending_of(state: ViewState, view: View, part: Sequence[Item]) -> Pending:
    """These items as a state holds them."""
    width = len(columns_of(view))
    values = [[math.nan if v is None else v for v in i.values or ()] or [0.0] * width for i in part]
    return Pending(
        state.slots([item.key for item in part]),
        np.array([item.effective_us for item in part], np.int64),
        np.array([item.rank for item in part], np.int64),
        np.array([item.values is not None for item in part]),
        np.array([item.event_us for item in part], np.int64),
        np.array(values, np.float64).reshape(len(part), width),
    )
