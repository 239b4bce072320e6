"""The rows of a data set as they lie in its folder: described day by day, and whether they stay."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dataflows.datasets.errors import DatasetError
from dataflows.datasets.manifest import TABLES, Day, Figures, Table
from dataflows.stores.digest import digest_parquet

TIME = "event_timestamp"


class _Times(NamedTuple):
    """The first and the last prediction, int64 microseconds."""

    first_us: int | None
    last_us: int | None


def figures(rows: Path) -> Figures:
    """Describe the rows that lie in the folder of a data set.

    Raises:
        DatasetError: a file cannot be read.
    """
    days: list[Day] = []
    labelled = 0
    times = _Times(None, None)
    for table, path in _all_files(rows):
        try:
            days.append(
                Day(table, path.stem, pq.read_metadata(path).num_rows, digest_parquet(path))
            )
            if table == "examples":
                times = _widened(times, path)
            else:
                (column,) = _columns(path, "label")
                labelled += len(column) - column.null_count
        except (OSError, ValueError, pa.ArrowException) as error:
            raise DatasetError(f"{path} cannot be read ({error})") from error
    return Figures(
        rows=sum(day.rows for day in days if day.table == "examples"),
        labelled=labelled,
        first_us=times.first_us,
        last_us=times.last_us,
        days=tuple(days),
        digest=_digest(days),
    )


def damaged_days(rows: Path, wanted: Figures) -> tuple[str, ...]:
    """Files (``TABLE/DAY``) that are gone, new, or not what they were when they were written."""
    known = {(day.table, day.day): day for day in wanted.days}
    found: dict[tuple[Table, str], Day | None] = {}
    for table, path in _all_files(rows):
        try:
            count, digest = pq.read_metadata(path).num_rows, digest_parquet(path)
            found[table, path.stem] = Day(table, path.stem, count, digest)
        except (OSError, ValueError, pa.ArrowException):
            found[table, path.stem] = None
    every = sorted(known.keys() | found.keys())
    return tuple("/".join(place) for place in every if known.get(place) != found.get(place))


def _digest(days: list[Day]) -> str:
    """Of all rows, by table and day: a row has its day by what it holds."""
    text = "".join(f"{day.table} {day.day} {day.rows} {day.digest}\n" for day in days)
    return hashlib.sha256(text.encode()).hexdigest()


def _widened(times: _Times, path: Path) -> _Times:
    (column,) = _columns(path, TIME)
    both = pc.min_max(column.cast(pa.int64())).as_py()
    first = both["min"] if times.first_us is None else min(times.first_us, both["min"])
    last = both["max"] if times.last_us is None else max(times.last_us, both["max"])
    return _Times(first, last)


def _columns(path: Path, *names: str) -> Iterator[pa.ChunkedArray]:
    with path.open("rb") as file:
        table = pq.read_table(file, columns=list(names))
    return iter([table.column(name) for name in names])


def _all_files(rows: Path) -> Iterator[tuple[Table, Path]]:
    for table in TABLES:
        for path in day_files(rows / table):
            yield table, path


def day_files(folder: Path) -> list[Path]:
    """The files of a table's days, in order; the folder need not exist."""
    return sorted(folder.glob("*.parquet"))
