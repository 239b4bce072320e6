"""Avro schemas: what a record's schema says, and the columns that it gives."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastavro.schema import SchemaParseException, parse_schema

from contracts.plan import ColumnType

_NOT_PARSED = (
    SchemaParseException,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RecursionError,
)
_PRIMITIVES = {"null", "boolean", "int", "long", "float", "double", "bytes", "string"}
_TYPES = {*_PRIMITIVES, "fixed", "enum", "record", "error", "array", "map"}
_COLUMN_TYPES: Mapping[str, ColumnType] = {
    "string": "string",
    "enum": "string",
    "int": "int64",
    "long": "int64",
    "float": "float64",
    "double": "float64",
    "boolean": "bool",
}
# What a number of each logical type counts.
MICROSECONDS: Mapping[str, int] = {"timestamp-millis": 1_000, "timestamp-micros": 1}


class AvroSchemaError(ValueError):
    """A schema cannot be read, or not as the one of the definition."""


@dataclass(frozen=True)
class AvroField:
    """A field of the definition's schema that can be a column.

    Attributes:
        kind: ``string``, ``enum``, ``int``, ``long``, ``float``, ``double`` or ``boolean``.
        dtype: type of the column.
        nullable: whether null is among its types.
        aliases: other names that a writer may have for it.
        microseconds: of a time, how many its unit has; 0 for all else.
        symbols: of an enum.
        other_symbol: the symbol that stands for those that are unknown; None for none.
        default: value where the writer has no such field; absent if there is none.
    """

    name: str
    kind: str
    dtype: ColumnType
    nullable: bool
    aliases: tuple[str, ...]
    microseconds: int
    symbols: tuple[str, ...]
    other_symbol: str | None
    default: tuple[Any, ...]


class AvroRecord:
    """A record's schema, parsed.

    Args:
        schema_json: the schema.

    Raises:
        AvroSchemaError: it is none, or not of a record.
    """

    def __init__(self, schema_json: str) -> None:
        try:
            self.json = json.loads(schema_json)
        except (ValueError, RecursionError) as error:
            raise AvroSchemaError(f"its Avro schema is not JSON: {error}") from error
        self._named: dict[str, Any] = {}
        try:
            parsed = parse_schema(self.json, self._named)
        except _NOT_PARSED as error:
            what = f"{type(error).__name__}: {error}"
            raise AvroSchemaError(f"its Avro schema is not valid: {what}") from error
        if not isinstance(parsed, dict) or parsed.get("type") != "record":
            raise AvroSchemaError("its Avro schema must be that of a record")
        self.name = str(parsed["name"])
        self.short_name = _last(self.name)
        self.names = {self.short_name, *map(_last, parsed.get("aliases", ()))}
        self.raw_fields: list[dict[str, Any]] = parsed["fields"]

    def resolve(self, schema: Any) -> Any:
        """A type without the indirections: a list for a union, else an object with ``type``."""
        while not isinstance(schema, list):
            if isinstance(schema, str):
                if schema in _PRIMITIVES:
                    return {"type": schema}
                schema = self._named[schema]
            elif isinstance(schema["type"], str) and schema["type"] in _TYPES:
                return schema
            else:
                schema = schema["type"]
        return schema

    def columns(self) -> tuple[AvroField, ...]:
        """The fields that can be columns; nested types, bytes and mixed unions are left out."""
        found = (self._column(raw) for raw in self.raw_fields)
        return tuple(one for one in found if one is not None)

    def _column(self, raw: dict[str, Any]) -> AvroField | None:
        kind = self.resolve(raw["type"])
        branches = [self.resolve(one) for one in kind] if isinstance(kind, list) else [kind]
        values = [one for one in branches if one["type"] != "null"]
        if len(values) != 1 or values[0]["type"] not in _COLUMN_TYPES:
            return None
        value = values[0]
        logical = value.get("logicalType", "")
        microseconds = MICROSECONDS.get(logical, 0) if value["type"] == "long" else 0
        return AvroField(
            name=raw["name"],
            kind=value["type"],
            dtype="timestamp" if microseconds else _COLUMN_TYPES[value["type"]],
            nullable=len(branches) > 1,
            aliases=tuple(raw.get("aliases", ())),
            microseconds=microseconds,
            symbols=tuple(value.get("symbols", ())),
            other_symbol=value.get("default") if value["type"] == "enum" else None,
            default=(raw["default"],) if "default" in raw else (),
        )


def canonical_json(schema: Any) -> str:
    """One text for one schema, whatever its white space and the order of its attributes."""
    return json.dumps(schema, sort_keys=True, separators=(",", ":"))


def _last(name: str) -> str:
    return name.rpartition(".")[2]
