"""Orders as a topic whose views have functions, and what comes of its records."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import numpy as np

from contracts.plan import Aggregate, Column, ColumnType, Plan, Topic, View
from dataflows.batches import SourceBatch, split_ranks
from dataflows.sources.partition import PartitionStream
from dataflows.sources.transform import transformations_of
from dataflows.watermark import NOT_YET
from tests.sources.chunks import chunk_of

TOPIC = Topic(
    "orders",
    (
        Column("shop", "string", True),
        Column("n", "int64", True),
        Column("x", "float64", True),
        Column("is_new", "bool", True),
        Column("seen_at", "timestamp", True),
        Column("at", "timestamp", False),
    ),
    "at",
    0,
    "shop",
)
BEGIN = datetime(2024, 2, 29, 23, 59, 59, 999_999, tzinfo=UTC)
Row = dict[str, Any]
Mode = Literal["python", "pandas"]


def view_of(mode: Mode, *columns: tuple[str, ColumnType], name: str = "v") -> View:
    """A view that needs the join key ``shop`` and these columns."""
    aggregates = tuple(
        Aggregate(column, "float64", column, "latest", 0, 0, kind) for column, kind in columns
    )
    return View(name, "orders", ("shop",), ("string",), aggregates, 0, "", transform=mode)


def stream_of(*views: tuple[View, Callable[[Any], Any]]) -> PartitionStream:
    """A partition of orders and the views' functions; it takes any number of bad records."""
    plan = Plan("p", (TOPIC,), tuple(view for view, _ in views), ())
    functions = {view.name: function for view, function in views}
    found = transformations_of(plan, TOPIC, functions)
    return PartitionStream(TOPIC, 0, 0, NOT_YET, 1.0, 10**6, None, found)


def records_of(rows: Sequence[Row]) -> list[bytes]:
    """A line for each row; the n-th happened n seconds after ``BEGIN``."""
    records = []
    for number, row in enumerate(rows):
        times = {"seen_at": _time_text(row.get("seen_at")), "at": _time_text(number * 10**6)}
        records.append(json.dumps({**row, **times}).encode())
    return records


def moment(after_us: int | None) -> datetime | None:
    """The time so many microseconds after ``BEGIN``."""
    return None if after_us is None else BEGIN + timedelta(microseconds=after_us)


def _time_text(after_us: int | None) -> str | None:
    time = moment(after_us)
    return None if time is None else time.isoformat(timespec="microseconds")


def batches_of(stream: PartitionStream, rows: Sequence[Row], size: int) -> list[SourceBatch]:
    """The rows in batches of some size; the offset of a row is its place among them."""
    records = records_of(rows)
    found = []
    for begin in range(0, len(rows), size):
        chunk = chunk_of(records[begin : begin + size])
        offsets = np.arange(begin, begin + len(chunk.offsets), dtype=np.int64)
        found.append(stream.batch(replace(chunk, offsets=offsets)))
    return found


def derived_of(batches: Sequence[SourceBatch], view: str, name: str) -> dict[int, Any]:
    """Offset -> the derived value, None for null."""
    values: dict[int, Any] = {}
    for batch in batches:
        offsets = split_ranks(batch.ranks)[1]
        if offsets:
            column = batch.derived[view][name]
            plain = column.tolist() if isinstance(column, np.ndarray) else column
            values.update(zip(offsets, map(_or_none, plain), strict=True))
    return values


def _or_none(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def dead_of(batches: Sequence[SourceBatch]) -> dict[int, str]:
    """Offset -> reason of the dead letters, which come in order."""
    letters = [letter for batch in batches for letter in batch.dead]
    assert [letter.offset for letter in letters] == sorted(letter.offset for letter in letters)
    return {letter.offset: letter.reason for letter in letters}
