"""Avro records to columns: what does not fit is set aside with a reason, record by record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from contracts.log import Chunk
from contracts.plan import Column, Topic
from dataflows.sources import avro_wire as wire
from dataflows.sources.avro_schema import AvroField, AvroRecord, AvroSchemaError
from dataflows.sources.avro_tree import TreeBuilder
from dataflows.sources.columns import (
    BadColumnError,
    BadRecord,
    Decoded,
    Ints,
    check_event_times,
    check_numbers,
    convert,
    parse_times,
    record_ends,
    sift,
)
from dataflows.sources.schema_registry import SchemaRegistry, UnusableSchemaError

_REASONS: Mapping[int, str] = {
    wire.CUT: "ends within field {!r}",
    wire.LONG_NUMBER: "field {!r}: a number has more than 64 bits",
    wire.NO_BRANCH: "field {!r}: its union has no such branch",
    wire.NO_SYMBOL: "field {!r}: its enum has no such symbol",
    wire.NO_BOOLEAN: "field {!r}: a boolean is 0 or 1",
    wire.NO_SIZE: "field {!r}: a size is negative",
    wire.TOO_DEEP: "field {!r} is nested too deeply",
    wire.OTHER_TYPE: "field {!r} was written as another type than definitions.py has",
    wire.LEFT_OVER: "goes on behind its last field",
}


class AvroDecoder:
    """Decodes Avro's binary encoding, records of one schema. Not safe for threads.

    Args:
        topic: whose records are decoded; its ``schema`` is the reader's.
        writer_schema: the schema, as JSON, that the records were written with.

    Raises:
        AvroSchemaError: the writer's schema is none, or cannot be read as the topic's.
    """

    def __init__(self, topic: Topic, writer_schema: str) -> None:
        reader, writer = AvroRecord(topic.schema), AvroRecord(writer_schema)
        if writer.short_name not in reader.names:
            raise AvroSchemaError(
                f"its Avro schema is of the record {writer.name!r}, not of {reader.name!r}"
            )
        fields = {field.name: field for field in reader.columns()}
        self._topic = topic
        self._fields = tuple(fields[column.name] for column in topic.columns)
        self._names = [str(raw["name"]) for raw in writer.raw_fields]
        self._tree = TreeBuilder(writer).tree(self._fields)
        slots = self._tree.fields[:, 1].tolist()
        self._constants = {
            slot: _default(field) for slot, field in enumerate(self._fields) if slot not in slots
        }

    def decode(self, chunk: Chunk) -> Decoded:
        """Decode a chunk of records."""
        data = np.frombuffer(chunk.records, np.uint8)
        ends = record_ends(chunk)
        cells = wire.empty_cells(len(self._fields), len(ends))
        faults, places = wire.read_records(data, chunk.starts, ends, self._tree, cells)
        bad = {
            row: _REASONS[int(faults[row])].format(self._names[places[row]])
            if ends[row] > chunk.starts[row]
            else "empty record"
            for row in np.flatnonzero(faults).tolist()
        }
        good = np.flatnonzero(faults == 0)

        try:
            event_us, columns = self._columns(chunk.records, cells, good)
        except BadColumnError:
            found = self._bad_rows(chunk.records, cells, good)
            bad |= found
            good = np.array([row for row in good.tolist() if row not in found], np.int64)
            event_us, columns = self._columns(chunk.records, cells, good)
        records = [BadRecord(row, chunk.record(row), bad[row]) for row in sorted(bad)]
        return Decoded(good, event_us, columns, records)

    def _bad_rows(self, records: bytes, cells: wire.Cells, rows: Ints) -> dict[int, str]:
        """Those of the rows that do not make columns: row -> reason."""
        found = sift(len(rows), lambda a, b: self._columns(records, cells, rows[a:b]))
        return {int(rows[place]): reason for place, reason in found.items()}

    def _columns(
        self, records: bytes, cells: wire.Cells, rows: Ints
    ) -> tuple[Ints, dict[str, Any]]:
        """Event times and columns of these rows; raise BadColumnError."""
        columns = {}
        for slot, column in enumerate(self._topic.columns):
            if slot in self._constants:
                columns[column.name] = _constant(column, self._constants[slot], len(rows))
                continue
            nulls = np.flatnonzero(cells.ints[slot, rows, wire.EXTRA] == wire.IS_NULL)
            if len(nulls) and not column.nullable:
                raise BadColumnError(f"{column.name} is null")
            if self._fields[slot].kind in ("string", "enum"):
                columns[column.name] = self._texts(records, cells.ints[slot, rows], slot, nulls)
            elif column.dtype == "int64":
                integers = cells.ints[slot, rows, wire.VALUE].tolist()
                columns[column.name] = _with_nulls(integers, nulls)
            else:
                numbers = cells.doubles[slot, rows, wire.VALUE]
                numbers[nulls] = np.nan
                check_numbers(column, numbers)
                columns[column.name] = numbers
        name = self._topic.timestamp_field
        return check_event_times(name, columns[name]), columns

    def _texts(self, records: bytes, cells: Ints, slot: int, nulls: Ints) -> Any:
        column, symbols = self._topic.columns[slot], self._fields[slot].symbols
        values: list[Any]
        if symbols:
            values = [symbols[place] for place in cells[:, wire.VALUE].tolist()]
        else:
            cells[nulls] = 0
            begins = cells[:, wire.VALUE]
            ends = (begins + cells[:, wire.EXTRA]).tolist()
            try:
                values = [
                    records[begin:end].decode()
                    for begin, end in zip(begins.tolist(), ends, strict=True)
                ]
            except UnicodeDecodeError as error:
                raise BadColumnError(f"{column.name} is not UTF-8: {error}") from error
        _with_nulls(values, nulls)
        return parse_times(column.name, values) if column.dtype == "timestamp" else values


@dataclass(frozen=True)
class AvroDecoders:
    """Decoders for what a registry knows the schemas of."""

    topic: Topic
    registry: SchemaRegistry

    def decoder(self, number: int) -> AvroDecoder:
        """The decoder of records with that schema.

        Raises:
            UnusableSchemaError: there is no such schema, or none that can be read as the topic's.
            LogError: the registry cannot be asked.
        """
        try:
            return AvroDecoder(self.topic, self.registry.avro_schema(number))
        except AvroSchemaError as error:
            raise UnusableSchemaError(f"schema {number}: {error}") from error


def _with_nulls(values: list[Any], nulls: Ints) -> list[Any]:
    for place in nulls.tolist():
        values[place] = None
    return values


def _default(field: AvroField) -> Any:
    """What stands in the rows of a writer that does not have the field."""
    if not field.default:
        raise AvroSchemaError(
            f"its Avro schema has no field {field.name!r}, which has no default in definitions.py"
        )
    value = field.default[0]
    if value is None or field.kind in ("string", "enum"):
        return value
    return value * field.microseconds if field.microseconds else value


def _constant(column: Column, value: Any, count: int) -> Any:
    """A column of ``count`` rows that all hold ``value``; raise BadColumnError."""
    if value is None and not column.nullable:
        raise BadColumnError(f"{column.name} is null")
    if column.dtype == "timestamp" and not isinstance(value, str):
        return np.full(count, np.nan if value is None else value)
    return convert(column, [value] * count)
