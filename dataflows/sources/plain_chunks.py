"""Chunks of plain JSON as columns: what a compiled loop reads of them, if it can read all."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from contracts.log import Chunk
from contracts.plan import Column, ColumnType
from dataflows.packed_columns import IntegerColumn, Integers, TextColumn, Texts
from dataflows.sources import plain_json
from dataflows.sources.columns import Decoded
from dataflows.sources.plain_fields import Bytes, Cells, Fields, Words
from dataflows.words import PADDING_BYTES

_KINDS: Mapping[ColumnType, int] = {
    "string": plain_json.TEXT,
    "int64": plain_json.INTEGER,
    "float64": plain_json.DOUBLE,
    "bool": plain_json.BOOLEAN,
    "timestamp": plain_json.TIME,
}
_OF_THREAD = threading.local()
# Of a time so many bytes are looked at, whatever stands there.
_TIME_BYTES_MAX = 40


class PlainChunks:
    """Reads chunks of a topic. Not safe for threads."""

    def __init__(self, columns: Sequence[Column], timestamp_field: str) -> None:
        self._columns = columns
        self._time = [column.name for column in columns].index(timestamp_field)
        names = [f'"{column.name}":'.encode() for column in columns]
        # A name with escapes may be written in several ways.
        self._can_be = len(names) <= plain_json.FIELDS_MAX and all(
            name.isascii() and name.isprintable() and not set(name) & set('"\\')
            for name in (column.name for column in columns)
        )
        words = max(map(len, names)) // 8 + 1
        bits = [b"\xff" * len(name) for name in names]
        self._fields = Fields(
            _as_words(names, words),
            _as_words(bits, words),
            np.array([len(name) for name in names]),
            np.array([_KINDS[column.dtype] for column in columns]),
            # A record without its time is none.
            np.array([c.nullable and place != self._time for place, c in enumerate(columns)]),
        )
        self._padding = 8 * words + PADDING_BYTES + _TIME_BYTES_MAX

    def read(self, chunk: Chunk) -> Decoded | None:
        """A chunk, which is not empty, if all of it is plain."""
        records, count = chunk.records, len(chunk.starts)
        if not self._can_be or not _is_utf8(records):
            return None
        ints = np.empty((len(self._columns), count), np.int64)
        cells = Cells(ints, ints.view(np.float64), np.empty_like(ints))
        if not plain_json.read_objects(
            _padded(records, self._padding), chunk.starts, len(records) - 1, self._fields, cells
        ):
            return None
        columns = {
            column.name: _column(records, column, place, cells)
            for place, column in enumerate(self._columns)
        }
        event_us = cells.doubles[self._time].astype(np.int64)
        return Decoded(np.arange(count), event_us, columns, [])


def _as_words(texts: Sequence[bytes], words: int) -> Words:
    padded = b"".join(text.ljust(8 * words, b"\0") for text in texts)
    return np.frombuffer(padded, np.uint64).reshape(len(texts), words).copy()


def _padded(records: bytes, padding: int) -> Bytes:
    """The records, and so many bytes behind them; good until the thread's next call."""
    size = len(records)
    memory: Bytes | None = getattr(_OF_THREAD, "memory", None)
    if memory is None or len(memory) < size + padding:
        memory = _OF_THREAD.memory = np.zeros(size + size // 4 + padding, np.uint8)
    memory[:size] = np.frombuffer(records, np.uint8)
    return memory


def _is_utf8(records: bytes) -> bool:
    if records.isascii():
        return True
    try:
        records.decode()
    except UnicodeDecodeError:
        return False
    return True


def _column(records: bytes, column: Column, place: int, cells: Cells) -> Any:
    sizes = cells.sizes[place]
    if column.dtype == "string":
        return Texts(TextColumn(records, cells.ints[place], sizes))
    if column.dtype == "int64":
        return Integers(IntegerColumn(cells.ints[place], sizes != plain_json.IS_NULL))
    numbers = cells.doubles[place]
    if column.dtype == "float64":
        for row in np.flatnonzero(sizes > plain_json.DONE).tolist():
            begin = int(cells.ints[place, row])
            numbers[row] = float(records[begin : begin + int(sizes[row])])
    return numbers
