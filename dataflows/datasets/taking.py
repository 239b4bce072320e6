"""Takes the rows of a data set out of the tables that a run of its model has written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from contracts.plan import ModelPlan
from dataflows.datasets.manifest import Bounds
from dataflows.datasets.rows import TIME, day_files
from dataflows.stores.day_files import day_number, write_day
from dataflows.stores.day_table import TableSpec
from dataflows.tables import examples_table, outcomes_table


def take_rows(model: ModelPlan, made: Path, rows: Path, bounds: Bounds) -> None:
    """Move the predictions within bounds, and their labels, to the folder of a data set.

    Args:
        model: whose they are.
        made: folder with the model's folder, as the dataflow writes it.
        rows: where ``examples`` and ``outcomes`` are to lie.
        bounds: when the predictions were made; labels of these are taken whenever they came.
    """
    for table in (examples_table(model, made), outcomes_table(model, made)):
        target = rows / table.path.name
        target.mkdir(parents=True)
        for path in day_files(table.path):
            if bounds == Bounds():
                path.rename(target / path.name)
            else:
                _take(table, path, target, bounds)


def _take(table: TableSpec, path: Path, target: Path, bounds: Bounds) -> None:
    with path.open("rb") as file:
        found = pq.read_table(file, schema=table.schema)
    kept = found.filter(_within(bounds))
    if not kept.num_rows:
        return
    if kept.num_rows == found.num_rows:
        path.rename(target / path.name)
        return
    there = TableSpec(table.name, target, table.schema, table.time_column, table.sort_columns)
    write_day(there, day_number(path.stem), kept.to_batches())


def _within(bounds: Bounds) -> Any:
    wanted: Any = pc.scalar(True)
    if bounds.from_us is not None:
        wanted = wanted & (pc.field(TIME) >= _stamp(bounds.from_us))
    if bounds.to_us is not None:
        wanted = wanted & (pc.field(TIME) < _stamp(bounds.to_us))
    return wanted


def _stamp(time_us: int) -> Any:
    return pa.scalar(time_us, pa.int64()).cast(pa.timestamp("us", tz="UTC"))
