"""Where two makings of one data set differ: days, rows, columns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dataflows.datasets.manifest import Day, Figures, Table
from dataflows.datasets.rows import TIME

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class DayDifference:
    """A day of a table whose rows are others now.

    Attributes:
        rows_then: as the data set was built.
        rows_now: as it comes out now.
        columns: name -> number of rows of one key and time in which it differs, the most first;
            empty if the rows as they were are not there to be looked at.
    """

    table: Table
    day: str
    rows_then: int
    rows_now: int
    columns: dict[str, int]


def changed_days(then: Figures, now: Figures) -> list[tuple[Table, str, int, int]]:
    """(table, day, rows then, rows now) of days whose rows differ, in order."""
    before = {(day.table, day.day): day for day in then.days}
    after = {(day.table, day.day): day for day in now.days}
    return [
        (*place, _rows(before.get(place)), _rows(after.get(place)))
        for place in sorted(before.keys() | after.keys())
        if before.get(place) != after.get(place)
    ]


def changed_columns(then: Path, now: Path, key: str) -> dict[str, int]:
    """Column -> rows in which it differs, among rows of the same key and time in two files.

    Of repeated rows of one key and time the first is held against the first, and so on. Columns
    that only one of the files has differ in all rows.
    """
    old, new = _table(then), _table(now)
    places_old, places_new = _pairs(old, new, key)
    found: dict[str, int] = {}
    for name in dict.fromkeys([*old.column_names, *new.column_names]):
        if name not in old.column_names or name not in new.column_names:
            found[name] = len(places_old)
            continue
        one, other = (t.column(name).take(p) for t, p in ((old, places_old), (new, places_new)))
        found[name] = _unequal(one, other)
    return {n: c for n, c in sorted(found.items(), key=lambda pair: (-pair[1], pair[0])) if c}


def _rows(day: Day | None) -> int:
    return 0 if day is None else day.rows


def _table(path: Path) -> pa.Table:
    with path.open("rb") as file:
        return pq.read_table(file)


def _pairs(old: pa.Table, new: pa.Table, key: str) -> tuple[Ints, Ints]:
    """Places of rows that belong together, in the one and in the other."""
    both = pa.concat_tables([t.select([key, TIME]) for t in (old, new)])
    keys = both.column(key).combine_chunks().dictionary_encode().indices.to_numpy()
    times = both.column(TIME).cast(pa.int64()).to_numpy()
    sides = np.repeat([0, 1], [old.num_rows, new.num_rows])
    order = np.lexsort((sides, keys, times))
    codes = np.column_stack([times, keys, sides])[order]
    is_first = np.ones(len(codes), dtype=bool)
    is_first[1:] = (codes[1:] != codes[:-1]).any(axis=1)
    starts = np.maximum.accumulate(np.where(is_first, np.arange(len(codes)), 0))
    repeats = np.arange(len(codes)) - starts
    by_pair = np.lexsort((codes[:, 2], repeats, codes[:, 1], codes[:, 0]))
    told = np.column_stack([codes[:, :2], repeats])[by_pair]
    is_pair = (told[1:] == told[:-1]).all(axis=1)
    first = order[by_pair[:-1][is_pair]]
    second = order[by_pair[1:][is_pair]]
    return first, second - old.num_rows


def _unequal(one: Any, other: Any) -> int:
    """Rows that differ; a null equals a null, and NaN equals NaN."""
    if one.type != other.type:
        return len(one)
    same = pc.equal(one, other)
    if pa.types.is_floating(one.type):
        same = pc.or_(same, pc.and_(pc.is_nan(one), pc.is_nan(other)))
    both_null = pc.and_(pc.is_null(one), pc.is_null(other))
    return len(one) - int(
        pc.sum(pc.if_else(both_null, True, pc.fill_null(same, False))).as_py() or 0
    )
