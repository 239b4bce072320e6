"""Runs a stream of updates and reads through a ``ViewState`` and through the oracle."""

from __future__ import annotations

import hashlib
import math
import pickle
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from contracts.feature_schema import ValueType
from contracts.plan import Aggregate, AggregateFunction, ColumnType, View
from dataflows.laps import PIECES, Laps
from dataflows.windows.inputs import Input, TextList, inputs_of
from dataflows.windows.view_state import Pending, Reads, Rows, ViewState
from tests.windows.oracle import Entity, Event, Value

# What may be done with the state between two advances: all of it, or what changed, perhaps with
# pieces of all, is stored, and the run may go on with what is loaded from all that is needed of it.
Storing = Literal["dump", "changes", "dump, load", "changes, load", "pieces", "pieces, load"]
Row = tuple[int, bytes, list[Value]]


@dataclass(frozen=True)
class Item:
    """An update (``values`` per column) or a read (``values`` is None) of one entity."""

    key: bytes
    event_us: int
    effective_us: int
    rank: int
    values: tuple[Value, ...] | None


@dataclass(frozen=True)
class Advance:
    """What one advance gave: rows as (stamp, entity, values) in its order, reads by rank."""

    rows: list[Row]
    reads: dict[int, list[Value]]


@dataclass(frozen=True)
class Output:
    """What all advances gave together: rows in no order, and reads by rank."""

    rows: list[Row]
    reads: dict[int, list[Value]]

    @property
    def text(self) -> str:
        """All of it to the last bit, the same for the same rows in any order."""
        return repr((sorted(self.rows, key=_place), sorted(self.reads.items())))


def view_of(
    *aggregates: Aggregate,
    ttl_us: int = 0,
    offline_path: str = "offline",
    exact_tiles_max: int = 0,
    distinct_bits: int = 8,
) -> View:
    """A view with these aggregates over any topic."""
    keys: tuple[tuple[str, ...], tuple[ValueType, ...]] = (("k",), ("string",))
    return View(
        "v", "t", *keys, aggregates, ttl_us, offline_path, exact_tiles_max, distinct_bits
    )  # fmt: skip


def feature(
    name: str,
    function: AggregateFunction,
    window_us: int = 0,
    hop_us: int = 0,
    column: str = "x",
    column_type: ColumnType = "float64",
) -> Aggregate:
    """One aggregate."""
    dtype: ValueType = "float64"
    if column_type == "string" and function in ("first", "last", "latest"):
        dtype = "string"
    return Aggregate(name, dtype, column, function, window_us, hop_us, column_type)


def columns_of(view: View) -> list[str]:
    """The columns in the order of their first use; an item has a value for each."""
    return list(dict.fromkeys(aggregate.column for aggregate in view.aggregates))


class Runner:
    """Hands items to a state, and stores and loads it.

    Attributes:
        stored: all that a load needs: a base, and the changes that followed it; or changes since
            which all pieces were told.
    """

    state: ViewState
    stored: tuple[bytes, ...]
    _laps: Laps

    def __init__(self, view: View) -> None:
        self.view, self.state, self.stored = view, ViewState(view), ()
        self._laps = Laps(0)

    @classmethod
    def resumed(cls, view: View, stored: tuple[bytes, ...]) -> Runner:
        """One that goes on from what was stored: a base, and the changes that followed."""
        runner = cls(view)
        base, *changes = [pickle.loads(part) for part in stored]
        runner.state, runner.stored = ViewState.load(view, base, changes), stored
        runner._laps = Laps.resumed([base, *changes], 0)
        return runner

    def hold(self, items: Sequence[Item]) -> None:
        """Let these wait for the watermark."""
        if items:
            self.state.hold(pending_of(self.state, self.view, items))

    def advance(self, watermark_us: int, updates_before_us: int | None = None) -> Advance:
        """Advance, up to but without updates of the watermark itself if not told otherwise."""
        before_us = watermark_us if updates_before_us is None else updates_before_us
        rows, reads = self.state.advance(watermark_us, before_us)
        order = list(zip(rows.stamps_us.tolist(), rows.slots.tolist(), strict=True))
        assert order == sorted(set(order))
        return Advance(self._rows(rows), self._reads(reads))

    def store(self, what: Storing) -> None:
        """Store the state as bytes; changes need something that they change."""
        if what.startswith("dump") or not self.stored:
            self.stored = (pickle.dumps(self.state.dump()),)
            self._laps = Laps(0)
        else:
            first = self._laps.saved["position"] % PIECES
            # Three stores to a lap.
            last = min(first + PIECES // 2 - 10, PIECES) if what.startswith("pieces") else first
            data = self.state.changes(range(first, last))
            needless = self._laps.go_on(range(first, last), 0)
            part = pickle.dumps({**data, "lap": self._laps.saved})
            self.stored = (*self.stored[needless:], part)
        if what.endswith("load"):
            resumed = Runner.resumed(self.view, self.stored)
            self.state, self._laps = resumed.state, resumed._laps

    def _rows(self, rows: Rows) -> list[Row]:
        columns = zip(rows.stamps_us.tolist(), rows.slots.tolist(), rows.values, strict=True)
        return [(stamp, self.state.keys[slot], self._plain(v)) for stamp, slot, v in columns]

    def _reads(self, reads: Reads) -> dict[int, list[Value]]:
        ranks = reads.ranks.tolist()
        assert len(set(ranks)) == len(ranks)
        return {rank: self._plain(v) for rank, v in zip(ranks, reads.values, strict=True)}

    def _plain(self, values: Any) -> list[Value]:
        found: list[Value] = []
        for aggregate, value in zip(self.view.aggregates, values.tolist(), strict=True):
            if math.isnan(value):
                found.append(None)
            elif aggregate.dtype == "string":
                assert value == int(value)
                found.append(self.state.texts[int(value)])
            else:
                found.append(value)
        return found


def advances(
    view: View,
    items: Sequence[Item],
    up_to_us: int,
    cuts: Sequence[int] = (),
    stored_at: Mapping[int, Storing] | None = None,
    silent_at: Collection[int] = (),
) -> list[Advance]:
    """What each advance gives over ``items`` (ascending by effective time).

    There is one before each position in ``cuts``, up to the item there, and one at the end.
    ``stored_at`` says after which of them the state is stored, and how; at those in ``silent_at``
    updates of the very last moment take effect too, as if nothing more was expected.
    """
    runner = Runner(view)
    found = []
    begin = 0
    for number, end in enumerate([*cuts, len(items)]):
        runner.hold(items[begin:end])
        begin = end
        watermark_us = up_to_us if end == len(items) else items[end].effective_us
        found.append(runner.advance(watermark_us, watermark_us + (number in silent_at)))
        what = (stored_at or {}).get(number)
        if what is not None:
            runner.store(what)
    assert runner.state.held == 0
    return found


def together(parts: Sequence[Advance]) -> Output:
    """All that these advances gave; no read was answered twice, no row given twice."""
    rows = [row for part in parts for row in part.rows]
    assert len({_place(row) for row in rows}) == len(rows)
    reads: dict[int, list[Value]] = {}
    for part in parts:
        assert reads.keys().isdisjoint(part.reads)
        reads |= part.reads
    return Output(rows, reads)


def run(
    view: View,
    items: Sequence[Item],
    up_to_us: int,
    cuts: Sequence[int] = (),
    stored_at: Mapping[int, Storing] | None = None,
) -> Output:
    """What ``advances`` gives, together."""
    return together(advances(view, items, up_to_us, cuts, stored_at))


def expected(view: View, items: Sequence[Item], up_to_us: int) -> Output:
    """What the oracle says of the same stream."""
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
    return Output(rows, reads)


def assert_equal(view: View, items: Sequence[Item], up_to_us: int, output: Output) -> None:
    """The rows, in any order, and the reads are those of the oracle."""
    wanted = expected(view, items, up_to_us)
    assert sorted(output.rows, key=_place) == sorted(wanted.rows, key=_place)
    assert output.reads == wanted.reads


def pending_of(state: ViewState, view: View, part: Sequence[Item]) -> Pending:
    """These items as a state holds them."""
    inputs, columns, texts = inputs_of(view), columns_of(view), TextList()
    values = np.full((len(part), len(inputs)), math.nan)
    for row, item in enumerate(part):
        if item.values is not None:
            values[row] = [_number(i, item.values[columns.index(i.column)], texts) for i in inputs]
    return Pending(
        state.slots([item.key for item in part]),
        np.array([item.effective_us for item in part], np.int64),
        np.array([item.rank for item in part], np.int64),
        np.array([item.values is not None for item in part]),
        np.array([item.event_us for item in part], np.int64),
        state.with_own_texts(texts, values),
    )


def hash_of(value: Value) -> float:
    """53 bits that stand for a value wherever it is met; equal numbers have the same."""
    assert isinstance(value, int | float | str)
    # A negative zero is a zero.
    named = value if isinstance(value, str) else repr(value + 0.0)
    return float(int.from_bytes(hashlib.blake2b(named.encode(), digest_size=8).digest()) >> 11)


def _number(wanted: Input, value: Value, texts: TextList) -> float:
    """What an input is to be of a value; strings get new places in ``texts``."""
    if value is None or value != value:
        return math.nan
    if wanted.kind == "text":
        assert isinstance(value, str)
        texts.texts.append(value)
        return float(len(texts.texts) - 1)
    if wanted.kind == "hash":
        return hash_of(value)
    if wanted.kind == "presence":
        return 1.0
    assert isinstance(value, int | float)
    return float(value)


def _place(row: Row) -> tuple[int, bytes]:
    return row[0], row[1]
