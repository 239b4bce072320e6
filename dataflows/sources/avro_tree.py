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
    _nodes: list[tuple[int, int, int, bool, float]] = field(default_factory=list)
    _children: list[int] = field(default_factory=list)
    _symbols: list[int] = field(default_factory=list)
    _records: dict[str, int] = field(default_factory=dict)

    def tree(self, columns: tuple[AvroField, ...]) -> wire.Tree:
        """The tree; the number of a column is its place in ``columns``.

        Raises:
            AvroSchemaError: the writer's schema is too large.
        """
        slots = _slots([raw["name"] for raw in self.writer.raw_fields], columns)
        try:
            fields = [
                self._node(raw["type"], columns[slot] if slot >= 0 else None)
                for raw, slot in zip(self.writer.raw_fields, slots, strict=True)
            ]
        except RecursionError:
            raise AvroSchemaError("its Avro schema is nested too deeply") from None
        for node, (op, _, first, fits, scale) in enumerate(self._nodes):
            if op == wire.ARRAY:
                is_empty = self._has_no_bytes(self._children[first], ())
                self._nodes[node] = (op, int(is_empty), first, fits, scale)
        return self._arrays(fields, slots)

    def _arrays(self, fields: list[int], slots: list[int]) -> wire.Tree:
        columns_of_nodes = list(zip(*self._nodes, strict=True)) or [()] * 5
        op, size, first, fits, scale = columns_of_nodes
        return wire.Tree(
            op=np.array(op, np.int64),
            size=np.array(size, np.int64),
            first=np.array(first, np.int64),
            fits=np.array(fits, np.bool_),
            scale=np.array(scale, np.float64),
            children=np.array(self._children, np.int64),
            symbols=np.array(self._symbols, np.int64),
            fields=np.array(fields, np.int64),
            slots=np.array(slots, np.int64),
        )

    def _node(self, schema: Any, column: AvroField | None) -> int:
        kind = self.writer.resolve(schema)
        if isinstance(kind, list):
            return self._parent(wire.UNION, self._place(), kind, column)
        name = kind["type"]
        if name in _LEAVES:
            fits = name == "null" or (column is not None and name in _READS[column.kind])
            return self._add(self._place(), _LEAVES[name], fits=fits, scale=_scale(kind, column))
        if name == "fixed":
            return self._add(self._place(), wire.FIXED, size=kind["size"])
        if name == "enum":
            return self._enum(kind, column)
        if name == "array":
            return self._parent(wire.ARRAY, self._place(), [kind["items"]], None)
        if name == "map":
            return self._parent(wire.MAP, self._place(), [kind["values"]], None)
        # A record may hold itself.
        if kind["name"] not in self._records:
            self._records[kind["name"]] = self._place()
            parts = [part["type"] for part in kind["fields"]]
            self._parent(wire.RECORD, self._records[kind["name"]], parts, None)
        return self._records[kind["name"]]

    def _place(self) -> int:
        """The number of a new node."""
        if len(self._nodes) >= NODES_MAX:
            raise AvroSchemaError(f"its Avro schema has more than {NODES_MAX} types")
        self._nodes.append((wire.RECORD, 0, 0, False, 1.0))
        return len(self._nodes) - 1

    def _add(
        self,
        node: int,
        op: int,
        *,
        size: int = 0,
        first: int = 0,
        fits: bool = False,
        scale: float = 1.0,
    ) -> int:
        self._nodes[node] = (op, size, first, fits, scale)
        return node

    def _parent(self, op: int, node: int, parts: list[Any], column: AvroField | None) -> int:
        children = [self._node(part, column) for part in parts]
        first = len(self._children)
        self._children += children
        return self._add(node, op, size=len(children), first=first)

    def _has_no_bytes(self, node: int, inside: tuple[int, ...]) -> bool:
        op, size, first, _, _ = self._nodes[node]
        if op == wire.RECORD and node not in inside:
            parts = self._children[first : first + size]
            return all(self._has_no_bytes(part, (*inside, node)) for part in parts)
        return op == wire.NULL or (op == wire.FIXED and size == 0)

    def _enum(self, kind: Any, column: AvroField | None) -> int:
        first = len(self._symbols)
        node = self._place()
        if column is None or column.kind != "enum":
            return self._add(node, wire.ENUM, size=len(kind["symbols"]))
        places = {symbol: place for place, symbol in enumerate(column.symbols)}
        other = places.get(column.other_symbol or "", -1)
        self._symbols += [places.get(symbol, other) for symbol in kind["symbols"]]
        return self._add(node, wire.ENUM, size=len(kind["symbols"]), first=first, fits=True)


def _slots(names: list[str], columns: tuple[AvroField, ...]) -> list[int]:
    """The column that each of a writer's fields is read into; -1 for none."""
    slots = {column.name: slot for slot, column in enumerate(columns)}
    for slot, column in enumerate(columns):
        if column.name not in names:
            slots.update((alias, slot) for alias in column.aliases if alias not in slots)
    return [slots.get(name, -1) for name in names]


def _scale(kind: Any, column: AvroField | None) -> float:
    """Microseconds in the unit of a time: as the writer says, else as the definition does."""
    if column is None or not column.microseconds:
        return 1.0
    return MICROSECONDS.get(kind.get("logicalType", ""), column.microseconds)
