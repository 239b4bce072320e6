"""Archive files of Parquet: with the bytes of each record, or with a column for each field."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from contracts.log import RECORD_BYTES_MAX, Chunk, LogError
from contracts.plan import Topic
from dataflows.sources.archive_rows import RowEncoder, has_fields, is_text, plain
from dataflows.sources.archive_store import ArchiveBytes

Ints = npt.NDArray[np.int64]

VALUE, OFFSET, TIMESTAMP = "value", "offset", "timestamp"
# What tools write beside the value of a record.
_ENVELOPE = {VALUE, OFFSET, TIMESTAMP, "key", "headers", "partition", "topic"}
# Rows that are decoded at once; more would be no faster.
ROWS_MAX = 16_384


@dataclass(frozen=True)
class Rows:
    """How many records a file has.

    Attributes:
        count: how many.
        has_offsets: whether the file says which offset each has.
        offsets: then of the first and of the last one, if there are any.
    """

    count: int
    has_offsets: bool = False
    offsets: tuple[int, int] | None = None


class ParquetRecords:
    """The records of one file. Not safe for threads."""

    def __init__(self, file: ArchiveBytes, path: str, topic: Topic) -> None:
        """Look at the end of the file; raise LogError if it does not hold records of ``topic``."""
        self._path = path
        try:
            self._file: Any = pq.ParquetFile(pa.PythonFile(file, "r"))
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(error) from error
        self._groups: Any = self._file.metadata
        schema: pa.Schema = self._file.schema_arrow
        self._encoder: RowEncoder | None = None
        self._offset = self._time = ""
        if _has_values(topic, schema):
            self._offset = OFFSET if OFFSET in schema.names else ""
            self._time = TIMESTAMP if TIMESTAMP in schema.names else ""
            self._check_envelope(schema)
            return
        if topic.format != "json" or topic.framing != "none":
            raise LogError(
                f"archive: {path} has columns, but {topic.name!r} holds {topic.format} with "
                f"framing {topic.framing}: write the bytes of each record into a column 'value'"
            )
        self._encoder = RowEncoder(topic, schema, path)

    def rows(self) -> Rows:
        """How many there are; raise LogError if the file cannot be read."""
        count = int(self._groups.num_rows)
        if not self._offset or not count:
            return Rows(count, has_offsets=bool(self._offset))
        filled = [
            i for i in range(self._groups.num_row_groups) if self._groups.row_group(i).num_rows
        ]
        first = self._offsets_of(filled[0])
        last = first if len(filled) == 1 else self._offsets_of(filled[-1])
        return Rows(count, has_offsets=True, offsets=(int(first[0]), int(last[-1])))

    def chunks(self, first: int, begin: int, piece_bytes: int) -> Iterator[Chunk]:
        """All records from offset ``begin`` on, if the first of all has offset ``first``.

        Chunks have about ``piece_bytes`` at the most, and fewer rows than ``ROWS_MAX``. Raise
        LogError if the file cannot be read on.
        """
        next_offset = first
        for number in range(self._groups.num_row_groups):
            behind = self._end_of(number, next_offset) if next_offset < begin else begin + 1
            if behind <= begin:
                next_offset = behind
                continue
            for batch in self._batches(number, piece_bytes):
                chunk = self._chunk(batch, next_offset)
                next_offset = chunk.next_offset
                skipped = int(np.searchsorted(chunk.offsets, begin))
                if skipped == len(chunk.starts):
                    continue
                yield self._chunk(batch.slice(skipped), begin) if skipped else chunk

    def _batches(self, number: int, piece_bytes: int) -> Iterator[pa.RecordBatch]:
        group = self._groups.row_group(number)
        row_bytes = max(int(group.total_byte_size) // max(int(group.num_rows), 1), 1)
        rows = max(1, min(ROWS_MAX, piece_bytes // row_bytes))
        columns = [name for name in (VALUE, self._offset, self._time) if name]
        if self._encoder is not None:
            columns = self._encoder.columns
        try:
            yield from self._file.iter_batches(
                rows, row_groups=[number], columns=columns, use_threads=False
            )
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(error) from error

    def _chunk(self, batch: pa.RecordBatch, offset: int) -> Chunk:
        """A batch as records, the first of which has ``offset`` if the file does not say."""
        if self._encoder is None:
            records, starts = _joined_values(batch.column(VALUE))
            self._check_sizes(starts, len(records))
        else:
            records = self._encoder.encode(batch)
            ends = np.flatnonzero(np.frombuffer(records, np.uint8) == ord("\n"))
            starts = np.append(0, ends[:-1] + 1) if len(ends) else ends
        if self._offset:
            offsets = self._integers(batch.column(self._offset), self._offset)
            if (offsets[0] < offset) or (np.diff(offsets) < 1).any():
                raise LogError(
                    f"archive: {self._path}: its offsets do not rise after {offset - 1}; write "
                    "the file anew, sorted by offset"
                )
        else:
            offsets = np.arange(offset, offset + batch.num_rows, dtype=np.int64)
        times_ms = None
        if self._time:
            column = batch.column(self._time)
            if pa.types.is_timestamp(column.type):
                column = column.cast(pa.timestamp("ms"), safe=False)
            times_ms = self._integers(column, self._time)
        return Chunk(records, starts.astype(np.int64), offsets, int(offsets[-1]) + 1, times_ms)

    def _end_of(self, number: int, offset: int) -> int:
        """The offset behind a group that begins at ``offset``."""
        count = int(self._groups.row_group(number).num_rows)
        if not self._offset or not count:
            return offset + count
        return int(self._offsets_of(number)[-1]) + 1

    def _offsets_of(self, number: int) -> Ints:
        try:
            table = self._file.read_row_group(number, columns=[self._offset], use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(error) from error
        return self._integers(table.column(self._offset).combine_chunks(), self._offset)

    def _integers(self, column: pa.Array, name: str) -> Ints:
        if column.null_count:
            raise LogError(f"archive: {self._path}: a value of column {name!r} is missing")
        integers: Ints = column.cast(pa.int64()).to_numpy(zero_copy_only=False)
        return integers

    def _check_envelope(self, schema: pa.Schema) -> None:
        for name, may_be_time in ((self._offset, False), (self._time, True)):
            if not name:
                continue
            kind = schema.field(name).type
            if not (pa.types.is_integer(kind) or (may_be_time and pa.types.is_timestamp(kind))):
                raise LogError(
                    f"archive: {self._path}: column {name!r} beside 'value' is {kind}; write "
                    "it as int64, or leave it out"
                )

    def _check_sizes(self, starts: Ints, size: int) -> None:
        if len(starts) and int(np.diff(starts, append=size).max()) > RECORD_BYTES_MAX + 1:
            raise LogError(
                f"archive: {self._path} has a record of more than {RECORD_BYTES_MAX} bytes, which "
                "no topic of Kafka has: write the file anew"
            )

    def _damaged(self, error: Exception) -> LogError:
        return LogError(
            f"archive: {self._path} is no whole Parquet file ({' '.join(str(error).split())[:200]})"
            "; put a whole copy in its place and start again"
        )


def _has_values(topic: Topic, schema: pa.Schema) -> bool:
    """Whether records stand in the column ``value`` as they were written."""
    if VALUE not in schema.names or not _is_bytes(plain(schema.field(VALUE).type)):
        return False
    return not has_fields(topic, schema) or set(schema.names) <= _ENVELOPE


def _is_bytes(kind: pa.DataType) -> bool:
    types = pa.types
    is_binary = types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)
    return bool(is_binary or is_text(kind))


def _joined_values(column: pa.Array) -> tuple[bytes, Ints]:
    """All values with a newline behind each, and where each begins; null is an empty record."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    # With 64 bits for places: the texts of a batch may take more than 2 GB.
    values = column.cast(pa.large_binary()).fill_null(b"")
    kind = pa.large_binary()
    lines = pc.binary_join_element_wise(values, pa.scalar(b"", kind), pa.scalar(b"\n", kind))
    places = np.frombuffer(lines.buffers()[1], np.int64)[lines.offset :][: len(lines) + 1]
    data = lines.buffers()[2]
    records = b"" if data is None else data.slice(places[0], places[-1] - places[0]).to_pybytes()
    return records, places[:-1] - places[0]
