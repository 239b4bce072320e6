"""Removes rows from the files of day tables, and from the copies that the state keeps of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from dataflows.stores.day_files import TableSpec, day_number, write_day

Bools = npt.NDArray[np.bool_]
# Which rows of a table, that has the given columns, are meant.
AreMeant = Callable[[pa.Table], Bools]


def count_rows(spec: TableSpec, columns: Iterable[str], are_meant: AreMeant) -> int:
    """How many rows of the table's files are meant."""
    return sum(int(_mask(path, columns, are_meant).sum()) for path in _days(spec))


def remove_rows(spec: TableSpec, columns: Iterable[str], are_meant: AreMeant, wal_dir: Path) -> int:
    """Rewrite the files without them, each in one step; how many there were.

    A day of which nothing is left has no file. Copies of closed days in ``wal_dir`` are rewritten
    too; logs of open days belong to who resumes the table (``DayTable.forget``).
    """
    wanted = list(columns)
    for temporary in spec.path.glob(".*.parquet.tmp"):
        temporary.unlink()
    count = 0
    for path in _days(spec):
        mask = _mask(path, wanted, are_meant)
        if not mask.any():
            continue
        count += int(mask.sum())
        with path.open("rb") as file:
            kept = pq.read_table(file, schema=spec.schema).filter(pa.array(~mask))
        if kept.num_rows:
            write_day(spec, day_number(path.stem), kept.to_batches())
        else:
            path.unlink()
    for base in sorted((wal_dir / spec.name).glob("*.base")):
        _remove_from_base(spec, base, wanted, are_meant)
    return count


def _remove_from_base(spec: TableSpec, base: Path, columns: list[str], are_meant: AreMeant) -> None:
    if not base.stat().st_size:
        return  # it says that there was no file
    mask = _mask(base, columns, are_meant)
    if not mask.any():
        return
    with base.open("rb") as file:
        kept = pq.read_table(file, schema=spec.schema).filter(pa.array(~mask))
    temporary = base.with_suffix(".tmp")
    if kept.num_rows:
        day = day_number(base.name.split(".")[0])
        beside = TableSpec(spec.name, base.parent, spec.schema, spec.time_column, spec.sort_columns)
        write_day(beside, day, kept.to_batches())
        beside.parquet_path(day).replace(base)
        return
    temporary.touch()
    temporary.replace(base)


def _days(spec: TableSpec) -> list[Path]:
    return sorted(spec.path.glob("????-??-??.parquet"))


def _mask(path: Path, columns: Iterable[str], are_meant: AreMeant) -> Bools:
    with path.open("rb") as file:
        return are_meant(pq.read_table(file, columns=list(columns)))
