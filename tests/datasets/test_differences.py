"""Differences between two makings of a day, against a loop over the rows."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflows.datasets.differences import changed_columns
from dataflows.datasets.rows import TIME

Row = tuple[str, int, float | None, bool | None]
SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        (TIME, pa.timestamp("us", "UTC")),
        ("x", pa.float64()),
        ("b", pa.bool_()),
    ]
)
ROWS = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.integers(0, 2),
        st.sampled_from([0.0, 1.0, math.nan, None]),
        st.sampled_from([True, False, None]),
    ),
    max_size=8,
)


def write(path: Path, rows: list[Row]) -> Path:
    """A file of rows."""
    columns = zip(*rows, strict=True) if rows else [[]] * 4
    arrays = [pa.array(list(values), f.type) for values, f in zip(columns, SCHEMA, strict=True)]
    pq.write_table(pa.table(arrays, schema=SCHEMA), path)
    return path


def by_place(rows: list[Row]) -> dict[tuple[int, str, int], Row]:
    """Rows by (time, key, how many of these came before)."""
    seen: Counter[tuple[int, str]] = Counter()
    found = {}
    for row in rows:
        place = (row[1], row[0])
        found[*place, seen[place]] = row
        seen[place] += 1
    return found


@given(ROWS, ROWS)
def test_columns_as_a_loop_finds_them(
    tmp_path_factory: pytest.TempPathFactory, one: list[Row], other: list[Row]
) -> None:
    """Rows of one key and time are held against each other in their order; NaN equals NaN."""
    folder = tmp_path_factory.mktemp("differences")
    expected: Counter[str] = Counter()
    then, now = by_place(one), by_place(other)
    for place in then.keys() & now.keys():
        for name, old, new in zip(SCHEMA.names, then[place], now[place], strict=True):
            expected[name] += repr(old) != repr(new)
    found = changed_columns(write(folder / "a", one), write(folder / "b", other), "key")
    assert found == {name: count for name, count in expected.items() if count}


def test_columns_that_are_new_or_gone(tmp_path: Path) -> None:
    """A column that one of them lacks, or of another type, differs in every row of both."""
    old = write(tmp_path / "old", [("a", 0, 1.0, True), ("b", 1, 1.0, True)])
    table = pq.read_table(old)
    changed = table.drop_columns(["b"]).append_column("c", pa.array(["y", "z"]))
    place = changed.schema.get_field_index("x")
    pq.write_table(changed.set_column(place, "x", pa.array([1, 1])), tmp_path / "new")
    assert changed_columns(old, tmp_path / "new", "key") == {"b": 2, "c": 2, "x": 2}
