"""Columns of what a compiled loop has read of JSON, and of what was left to another decoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from contracts.log import Chunk
from contracts.plan import Column, ColumnType
from dataflows.packed_columns import IntegerColumn, TextColumn, gathered
from dataflows.sources import json_scan, rfc3339
from dataflows.sources.columns import Decoded, Ints, record_ends

Bools = npt.NDArray[np.bool_]

_KINDS: Mapping[ColumnType, int] = {
    "string": json_scan.TEXT,
    "int64": json_scan.INTEGER,
    "float64": json_scan.DOUBLE,
    "bool": json_scan.BOOLEAN,
    # Read in a second step.
    "timestamp": json_scan.TEXT,
}


@dataclass(frozen=True)
class Plain:
    """What could be read of a chunk.

    Attributes:
        is_plain: bool[n], which records were read.
        event_us: int64, of those.
        columns: of those, as ``Decoded.columns``.
    """

    is_plain: Bools
    event_us: Ints
    columns: dict[str, Any]


class JsonScan:
    """Reads the plain objects of chunks."""

    def __init__(self, columns: Sequence[Column], timestamp_field: str) -> None:
        self._columns = columns
        self._time = [column.name for column in columns].index(timestamp_field)
        # A record without its time is not plain.
        self._fields = _make_fields(
            [
                (column.name, _KINDS[column.dtype], column.nullable and place != self._time)
                for place, column in enumerate(columns)
            ]
        )

    def read(self, chunk: Chunk) -> Plain:
        """All of a chunk that is plain."""
        data = np.frombuffer(chunk.records or b" ", np.uint8)
        cells = _empty_cells(len(self._columns), len(chunk.starts))
        is_plain = json_scan.read_objects(
            data, chunk.starts, record_ends(chunk), _highest(chunk.records), self._fields, cells
        )
        for place, column in enumerate(self._columns):
            if column.dtype == "timestamp":
                _read_times(data, cells, place, is_plain)
        if not is_plain.all():
            cells = _rows_of(cells, is_plain)
        columns = {
            column.name: _column(chunk.records, data, column, place, cells)
            for place, column in enumerate(self._columns)
        }
        return Plain(is_plain, cells.doubles[self._time].astype(np.int64), columns)


def merged(plain: Plain, others: Decoded) -> Decoded:
    """One batch of both, in its order; ``others.index`` are places in it."""
    index = np.concatenate([np.flatnonzero(plain.is_plain), others.index])
    order = np.argsort(index)
    columns = {
        name: _joined(column, others.columns[name])[order] for name, column in plain.columns.items()
    }
    event_us = np.concatenate([plain.event_us, others.event_us])
    return Decoded(index[order], event_us[order], columns, others.bad)


def _empty_cells(fields: int, records: int) -> json_scan.Cells:
    """json_scan.Cells to be filled."""
    ints = np.zeros((fields, records), np.int64)
    return json_scan.Cells(ints, ints.view(np.float64), np.zeros((fields, records), np.int64))


def _rows_of(cells: json_scan.Cells, rows: Bools) -> json_scan.Cells:
    """Those of some records."""
    ints = cells.ints[:, rows]
    return json_scan.Cells(ints, ints.view(np.float64), cells.sizes[:, rows])


def _make_fields(columns: list[tuple[str, int, bool]]) -> json_scan.Fields:
    """Fields of these names, kinds, and whether they may be null."""
    names = [name.encode() for name, _, _ in columns]
    return json_scan.Fields(
        np.frombuffer(b"".join(names) or b" ", np.uint8),
        np.cumsum([0] + [len(name) for name in names]),
        np.array([kind for _, kind, _ in columns], np.int64),
        np.array([may_be for _, _, may_be in columns], np.bool_),
    )


def _highest(records: bytes) -> int:
    if records.isascii():
        return json_scan.ASCII_BYTE
    try:
        records.decode()
    except UnicodeDecodeError:
        # Whoever is to blame is left to the other decoder, and so are some others.
        return json_scan.ASCII_BYTE
    return json_scan.ANY_BYTE


def _read_times(data: json_scan.Bytes, cells: json_scan.Cells, place: int, is_plain: Bools) -> None:
    """Put times into the place of their texts; one that is not plain makes its record so."""
    sizes, doubles = cells.sizes[place], cells.doubles[place]
    # Of what is not plain cells say nothing.
    is_there = is_plain & (sizes != json_scan.IS_NULL)
    times = rfc3339.times_us(data, cells.ints[place], np.where(is_there, sizes, 0))
    is_plain &= ~is_there | (times != rfc3339.NOT_PLAIN)
    doubles[:] = np.where(is_there, times, np.nan)
    sizes[:] = json_scan.DONE


def _column(
    records: bytes, data: json_scan.Bytes, column: Column, place: int, cells: json_scan.Cells
) -> Any:
    sizes = cells.sizes[place]
    if column.dtype == "string":
        return TextColumn(records, cells.ints[place], sizes)
    if column.dtype == "int64":
        return IntegerColumn(cells.ints[place], sizes != json_scan.IS_NULL)
    numbers = cells.doubles[place]
    long = np.flatnonzero(sizes > json_scan.DONE)
    if len(long):
        together, ends = gathered(data, cells.ints[place][long], sizes[long])
        texts = pa.Array.from_buffers(
            pa.large_string(), len(long), [None, pa.py_buffer(ends), pa.py_buffer(together)]
        )
        numbers[long] = np.asarray(texts.cast(pa.float64()))
    return numbers


def _joined(first: Any, second: Any) -> Any:
    if isinstance(first, TextColumn):
        return TextColumn.join([first, TextColumn.of(second)])
    if isinstance(first, IntegerColumn):
        return IntegerColumn.join([first, IntegerColumn.of(second)])
    return np.concatenate([first, second])
