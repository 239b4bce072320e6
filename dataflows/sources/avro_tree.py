"""A writer's Avro schema as a tree for reading its records into the columns of a definition."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dataflows.sources import avro_wire as wire
from dataflows.sources.avro_schema import MICROSECONDS, AvroField, AvroRecord, AvroSchemaError

_LEAVES: Mapping[str, int] = {
    "null": wire.NULL,
    "boolean": wire.BOOLEAN,
    "int": wire.INT,
    "long": wire.LONG,
    "float": wire.FLOAT,
    "double": wire.DOUBLE,
    "bytes": wire.TEXT,
    "string": wire.TEXT,
}
# What a column of each kind can be read from: Avro's promotions; and since a column has 64 bits
# either way, the narrower of two numbers may also be read from the wider.
_READS: Mapping[str, tuple[str, ...]] = {
    "string": ("string", "bytes"),
    "enum": ("enum",),
    "int": ("int", "long"),
    "long": ("int", "long"),
    "float": ("int", "long", "float", "double"),
    "double": ("int", "long", "float", "double"),
    "boolean": ("boolean",),
}
# Nodes of a tree: a schema with more is taken for an attack.
NODES_MAX = 10_000


@dataclass
class TreeBuilder:
    """Makes the tree for reading a writer's records into columns.

    Attributes:
        writer: the schema that the records were written with.
    """

    writer: AvroRecord
    _nodes: list[list[int]] = field(default_factory=list)
    _links: list[int] = field(default_factory=list)
    _records: dict[str, int] = field(default_factory=dict)

    def tree(self, columns: tuple[AvroField, ...]) -> wire.Tree:
        """The tree; the number of a column is its place in ``columns``.

        Raises:
            AvroSchemaError: the writer's schema is too large.
        """
        slots = _slots([raw["name"] for raw in self.writer.raw_fields], columns)
        try:
            fields = [
                (self._node(raw["type"], columns[slot] if slot >= 0 else None), slot)
                for raw, slot in zip(self.writer.raw_fields, slots, strict=True)
            ]
        except RecursionError:
            raise AvroSchemaError("its Avro schema is nested too deeply") from None
        for node in self._nodes:
            if node[wire.OP] == wire.ARRAY:
                node[wire.SIZE] = int(self._has_no_bytes(self._links[node[wire.FIRST]], ()))
        return wire.Tree(
            nodes=np.array(self._nodes, np.int64).reshape(-1, wire.NODE_WIDTH),
            links=np.array(self._links, np.int64),
            fields=np.array(fields, np.int64).reshape(-1, 2),
        )

    def _node(self, schema: Any, column: AvroField | None) -> int:
        kind = self.writer.resolve(schema)
        if isinstance(kind, list):
            return self._parent(self._place(wire.UNION), kind, column)
        name = kind["type"]
        if name in _LEAVES:
            return self._leaf(kind, column)
        if name == "fixed":
            return self._place(wire.FIXED, kind["size"])
        if name == "enum":
            return self._enum(kind, column)
        if name == "array":
            return self._parent(self._place(wire.ARRAY), [kind["items"]], None)
        if name == "map":
            return self._parent(self._place(wire.MAP), [kind["values"]], None)
        # A record may hold itself.
        if kind["name"] not in self._records:
            node = self._records[kind["name"]] = self._place(wire.RECORD)
            self._parent(node, [part["type"] for part in kind["fields"]], None)
        return self._records[kind["name"]]

    def _place(self, op: int, size: int = 0, how: int = wire.NOT, factor: int = 1) -> int:
        """The number of a new node."""
        if len(self._nodes) >= NODES_MAX:
            raise AvroSchemaError(f"its Avro schema has more than {NODES_MAX} types")
        self._nodes.append([op, size, 0, how, factor])
        return len(self._nodes) - 1

    def _parent(self, node: int, parts: list[Any], column: AvroField | None) -> int:
        children = [self._node(part, column) for part in parts]
        self._nodes[node][wire.SIZE] = len(children)
        self._nodes[node][wire.FIRST] = len(self._links)
        self._links += children
        return node

    def _leaf(self, kind: Any, column: AvroField | None) -> int:
        op = _LEAVES[kind["type"]]
        if op == wire.NULL:
            return self._place(op, how=wire.AS_NULL)
        if column is None or kind["type"] not in _READS[column.kind]:
            return self._place(op)
        if op == wire.TEXT:
            return self._place(op, how=wire.AS_TEXT)
        if column.microseconds:
            # A time's unit is what the writer says; where it says nothing, the definition's.
            factor = MICROSECONDS.get(kind.get("logicalType", ""), column.microseconds)
            return self._place(op, how=wire.AS_DOUBLE, factor=factor)
        how = wire.AS_INTEGER if column.dtype == "int64" else wire.AS_DOUBLE
        return self._place(op, how=how)

    def _enum(self, kind: Any, column: AvroField | None) -> int:
        node = self._place(wire.ENUM, len(kind["symbols"]))
        if column is not None and column.kind == "enum":
            places = {symbol: place for place, symbol in enumerate(column.symbols)}
            other = places.get(column.other_symbol or "", -1)
            self._nodes[node][wire.FIRST] = len(self._links)
            self._nodes[node][wire.HOW] = wire.AS_SYMBOL
            self._links += [places.get(symbol, other) for symbol in kind["symbols"]]
        return node

    def _has_no_bytes(self, node: int, inside: tuple[int, ...]) -> bool:
        op, size, first = self._nodes[node][: wire.FIRST + 1]
        if op == wire.RECORD and node not in inside:
            parts = self._links[first : first + size]
            return all(self._has_no_bytes(part, (*inside, node)) for part in parts)
        return op == wire.NULL or (op == wire.FIXED and size == 0)


def _slots(names: list[str], columns: tuple[AvroField, ...]) -> list[int]:
    """The column that each of a writer's fields is read into; -1 for none."""
    slots = {column.name: slot for slot, column in enumerate(columns)}
    for slot, column in enumerate(columns):
        if column.name not in names:
            slots.update((alias, slot) for alias in column.aliases if alias not in slots)
    return [slots.get(name, -1) for name in names]
