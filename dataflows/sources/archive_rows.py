"""Typed columns of an archive become the JSON records that the decoder of their topic reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from contracts.log import LogError
from contracts.plan import Column, Topic

# JSON has no infinity: a record with this is bad, as it would be in any other form.
_INFINITE = msgspec.Raw(b"Infinity")
_MICROSECONDS = pa.timestamp("us")


class RowEncoder:
    """Writes rows as JSON objects with the fields of a topic. Not safe for threads.

    Attributes:
        columns: those that it reads, in order.
    """

    def __init__(self, topic: Topic, schema: pa.Schema, path: str) -> None:
        """Raise LogError if a column is missing or of a type that cannot become its field."""
        self._path = path
        self._fields = [column for column in topic.columns if column.name in schema.names]
        missing = [c.name for c in topic.columns if not c.nullable and c.name not in schema.names]
        if missing:
            raise LogError(
                f"archive: {path} has neither a column 'value' with the records of {topic.name!r} "
                f"nor their field {missing[0]!r}: write one or the other"
            )
        for column in self._fields:
            _check(column, schema.field(column.name), path)
        self.columns = [column.name for column in self._fields]
        attributes = [f"c{i}" for i in range(len(self._fields))]
        self._row: Any = msgspec.defstruct(
            "Row",
            [(attribute, Any) for attribute in attributes],
            gc=False,
            rename=dict(zip(attributes, self.columns, strict=True)),
        )
        self._encoder = msgspec.json.Encoder(decimal_format="number")

    def encode(self, batch: pa.RecordBatch) -> bytes:
        """One line for each row; raise LogError if a value cannot be written."""
        try:
            values = [_values(column, batch.column(column.name)) for column in self._fields]
        except (pa.ArrowInvalid, UnicodeDecodeError) as error:
            raise LogError(
                f"archive: {self._path} holds a value that no record can have ({error}); write "
                "the file anew"
            ) from error
        return self._encoder.encode_lines(list(map(self._row, *values)))


def has_fields(topic: Topic, schema: pa.Schema) -> bool:
    """Whether all fields that a record must have are columns."""
    return all(column.nullable or column.name in schema.names for column in topic.columns)


def is_text(kind: pa.DataType) -> bool:
    """Whether values are texts, in any of Arrow's forms."""
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def plain(kind: pa.DataType) -> pa.DataType:
    """The type of the values, where these are numbered."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _check(column: Column, field: pa.Field, path: str) -> None:
    kind = plain(field.type)
    types = pa.types
    if column.dtype == "string":
        fits, wanted = is_text(kind), "a string"
    elif column.dtype == "int64":
        is_whole = types.is_decimal(kind) and kind.scale <= 0
        fits, wanted = types.is_integer(kind) or is_whole, "an integer"
    elif column.dtype == "float64":
        fits = types.is_floating(kind) or types.is_integer(kind) or types.is_decimal(kind)
        wanted = "a number"
    elif column.dtype == "bool":
        fits, wanted = types.is_boolean(kind), "a boolean"
    else:
        has_zone = types.is_timestamp(kind) and kind.tz is not None
        fits, wanted = has_zone or is_text(kind), "a timestamp in UTC (or a text with a zone)"
    # A column of nothing but nulls may have no type.
    if not fits and not (types.is_null(kind) and column.nullable):
        raise LogError(
            f"archive: {path}: column {column.name!r} is {field.type}, but the field must be "
            f"{wanted}: write the file with that type"
        )


def _values(column: Column, array: pa.Array) -> Sequence[Any]:
    """Python values that JSON is written from; None is null."""
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    kind = array.type
    if pa.types.is_timestamp(kind):
        # In UTC without saying so, which needs no table of zones.
        moments = array.cast(pa.timestamp(kind.unit)).cast(_MICROSECONDS)
        texts = pc.binary_join_element_wise(moments.cast(pa.string()), "Z", "")
        return list(texts.to_pylist())
    values: list[Any] = array.to_pylist()
    if pa.types.is_floating(kind):
        infinite = pc.is_inf(array).fill_null(fill_value=False)
        for row in np.flatnonzero(infinite.to_numpy(zero_copy_only=False)).tolist():
            values[row] = _INFINITE
    return values
