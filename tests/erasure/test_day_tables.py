"""Files of tables, and what the state keeps of them, without rows of who is forgotten."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataflows.erasure.parquet import count_rows, remove_rows
from dataflows.stores.day_files import US_PER_DAY
from dataflows.stores.day_table import DayTable, TableSpec
from tests.erasure.world import bytes_below

TIME = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema([("user", pa.string()), ("x", pa.int64()), ("at", TIME)])
NAMES = ("someone", "others")


def _spec(folder: Path) -> TableSpec:
    return TableSpec("views/v", folder / "v", SCHEMA, "at", ("user",))


def _batch(*rows: tuple[int, str, int]) -> pa.RecordBatch:
    """Rows of (day, user, number)."""
    days, users, numbers = zip(*rows, strict=True)
    times = pa.array([day * US_PER_DAY + n for day, n in zip(days, numbers, strict=True)])
    return pa.RecordBatch.from_arrays(
        [pa.array(users), pa.array(numbers), times.cast(TIME)], schema=SCHEMA
    )


def _is_someone(rows: pa.Table | pa.RecordBatch) -> npt.NDArray[np.bool_]:
    return np.array([name == "someone" for name in rows.column("user").to_pylist()], np.bool_)


def _stored(spec: TableSpec) -> dict[str, list[tuple[str, int]]]:
    found = {}
    for path in sorted(spec.path.glob("*.parquet")):
        table = pq.read_table(path, schema=SCHEMA).to_pydict()
        found[path.stem] = list(zip(table["user"], table["x"], strict=True))
    return found


@pytest.mark.parametrize("alone", [False, True])
def test_a_day_that_was_opened_again_is_restored_without_them(
    tmp_path: Path, *, alone: bool
) -> None:
    """The copy of a closed day, which a resumed run puts back, loses its rows as the file does."""
    spec, wal = _spec(tmp_path), tmp_path / "wal"
    table = DayTable(spec, wal)
    table.append(_batch((0, "someone", 1), *([] if alone else [(0, "others", 2)])))
    table.append(_batch((1, "others", 3)))
    table.advance(US_PER_DAY)
    handle = table.snapshot()
    table.append(_batch((0, "someone", 4), (0, "others", 5)))
    table.advance(US_PER_DAY)
    table.close()
    assert count_rows(spec, ["user"], _is_someone) == 2
    assert remove_rows(spec, ["user"], _is_someone, wal) == 2
    assert remove_rows(spec, ["user"], _is_someone, wal) == 0
    resumed = DayTable(spec, wal, handle)
    kept = {} if alone else {"1970-01-01": [("others", 2)]}
    assert _stored(spec) == kept
    resumed.append(_batch((0, "others", 5)))
    resumed.advance(2 * US_PER_DAY)
    resumed.close()
    days = _stored(spec)
    assert days["1970-01-01"] == [*kept.get("1970-01-01", []), ("others", 5)]
    assert days["1970-01-02"] == [("others", 3)]


def test_open_days_let_go_of_them_once(tmp_path: Path) -> None:
    """Rows of open days go from logs and files; a day of nobody else leaves nothing behind."""
    spec, wal = _spec(tmp_path), tmp_path / "wal"
    table = DayTable(spec, wal)
    table.append(_batch((3, "someone", 1), (3, "others", 2), (4, "someone", 3)))
    handle = table.snapshot()
    table.publish_open()
    assert handle.forgotten == ("", 0)
    remove_rows(spec, ["user"], _is_someone, wal)
    assert _stored(spec) == {"1970-01-04": [("others", 2)]}
    resumed = DayTable(spec, wal, handle)
    assert resumed.forgotten == ("", 0)
    resumed.forget(_is_someone, ("salt", 7))
    for _ in range(4):
        handle = resumed.snapshot()
    assert handle.forgotten == ("salt", 7)
    assert bytes_below(wal, b"someone") == []
    assert bytes_below(wal, b"others") != []
    again = DayTable(spec, wal, handle)
    assert again.forgotten == ("salt", 7)
    # Who comes back is somebody new.
    again.append(_batch((3, "someone", 8)))
    again.advance(9 * US_PER_DAY)
    again.close()
    assert _stored(spec) == {"1970-01-04": [("others", 2), ("someone", 8)]}
