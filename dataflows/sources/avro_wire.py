"""Avro's binary encoding, read straight into columns by a loop that numba compiles.

Every read is checked against the record's end, every count against what can be there, and nested
types are walked with a stack of our own: no bytes can make it read astray or run on.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

NULL, BOOLEAN, INT, LONG, FLOAT, DOUBLE, TEXT, FIXED, ENUM, UNION, RECORD, ARRAY, MAP = range(13)

# Faults, as negative positions.
CUT, LEFT_OVER, LONG_NUMBER, NO_BRANCH, NO_SYMBOL, NO_BOOLEAN, NO_SIZE, TOO_DEEP, OTHER_TYPE = (
    range(-9, 0)
)
STACK_MAX = 256


class Tree(NamedTuple):
    """The types of a schema as numbered nodes; children are ranges of ``children``.

    Attributes:
        op: int64[nodes], what stands in the record.
        size: int64[nodes], bytes of a FIXED, symbols of an ENUM, children of UNION and RECORD;
            of an ARRAY 1 if its items take no bytes.
        first: int64[nodes], where in ``children`` the node's begin; of an ENUM where in
            ``symbols``.
        fits: bool[nodes], whether the column can take such a value.
        scale: float64[nodes], what a number is multiplied with in ``Cells.doubles``.
        children: int64, nodes.
        symbols: int64, the reader's number of each symbol; -1 for one it does not have.
        fields: int64[fields], the nodes of the record's fields.
        slots: int64[fields], the column of each; -1 for a field that nobody reads.
    """

    op: Ints
    size: Ints
    first: Ints
    fits: Bools
    scale: Floats
    children: Ints
    symbols: Ints
    fields: Ints
    slots: Ints


class Cells(NamedTuple):
    """What was read, all of the shape [columns, records]; what a type does not use stays 0.

    Attributes:
        ints: integers; the number of a symbol; where a text begins.
        doubles: numbers and booleans.
        sizes: bytes of a text.
        is_null: whether null stands there.
    """

    ints: Ints
    doubles: Floats
    sizes: Ints
    is_null: Bools


@numba.njit(cache=True, nogil=True)
def _varint(data: Bytes, at: int, end: int) -> tuple[Any, int]:
    """(Value, position behind it); the position is a fault if it is negative."""
    bits = np.uint64(0)
    for place in range(10):
        if at >= end:
            return 0, CUT
        byte = data[at]
        at += 1
        if place == 9 and byte > 1:
            return 0, LONG_NUMBER
        bits |= np.uint64(byte & 0x7F) << np.uint64(7 * place)
        if byte < 0x80:
            return np.int64(bits >> np.uint64(1)) ^ -np.int64(bits & np.uint64(1)), at
    return 0, LONG_NUMBER


@numba.njit(cache=True, nogil=True)
def _text(data: Bytes, at: int, end: int) -> tuple[int, int]:
    """(Size, position of its first byte) of a text or bytes that lie in the record as a whole."""
    size, at = _varint(data, at, end)
    if at < 0:
        return 0, at
    if size < 0:
        return 0, NO_SIZE
    if size > end - at:
        return 0, CUT
    return size, at


@numba.njit(cache=True, nogil=True)
def _branch(data: Bytes, at: int, end: int, branches: int) -> tuple[int, int]:
    """(Number of a union's branch, position)."""
    branch, at = _varint(data, at, end)
    if at >= 0 and (branch < 0 or branch >= branches):
        return 0, NO_BRANCH
    return branch, at


@numba.njit(cache=True, nogil=True)
def _skip_leaf(data: Bytes, at: int, end: int, op: int, size: int) -> int:
    """The position behind a value that has no parts."""
    if op == NULL:
        return at
    if op in (INT, LONG, ENUM):
        return _varint(data, at, end)[1]
    if op == TEXT:
        size, at = _text(data, at, end)
        return at + size if at >= 0 else at
    if op == BOOLEAN:
        size = 1
    elif op == FLOAT:
        size = 4
    elif op == DOUBLE:
        size = 8
    return at + size if size <= end - at else CUT


@numba.njit(cache=True, nogil=True)
def _block(data: Bytes, at: int, end: int, is_empty: bool) -> tuple[int, int]:  # noqa: FBT001
    """(Items to read, position) at the head of a block; -1 items are the end of the list.

    A block that says how many bytes it has is passed over, as is one whose items have none.
    """
    items, at = _varint(data, at, end)
    if at < 0:
        return 0, at
    if items == 0:
        return -1, at
    if items < 0:
        size, at = _text(data, at, end)
        return 0, at + size if at >= 0 else at
    return 0 if is_empty else items, at


@numba.njit(cache=True, nogil=True)
def _skip(data: Bytes, at: int, end: int, node: int, tree: Tree, todo: Ints, left: Ints) -> int:
    """The position behind a value that nobody reads.

    ``todo`` and ``left`` are the stack: nodes, and how much of each is done (RECORD) or left
    (ARRAY, MAP).
    """
    todo[0], left[0] = node, 0
    depth = 1
    while depth > 0 and at >= 0:
        if depth + 2 > STACK_MAX:
            return TOO_DEEP
        depth -= 1
        node = todo[depth]
        op, first, size, part = tree.op[node], tree.first[node], tree.size[node], left[depth]
        child = -1
        if op < UNION:
            at = _skip_leaf(data, at, end, op, size)
        elif op == UNION:
            child, at = _branch(data, at, end, size)
        elif op == RECORD:
            if part < size:
                todo[depth], left[depth] = node, part + 1
                depth += 1
                child = part
        else:
            if part == 0:
                part, at = _block(data, at, end, size == 1)
            if part >= 0:
                todo[depth], left[depth] = node, max(part - 1, 0)
                depth += 1
            if part > 0:
                child = 0
                if op == MAP and at >= 0:
                    at = _skip_leaf(data, at, end, TEXT, 0)
        if child >= 0:
            todo[depth], left[depth] = tree.children[first + child], 0
            depth += 1
    return at


@numba.njit(cache=True, nogil=True)
def _fixed_number(data: Bytes, at: int, end: int, op: int) -> tuple[int, float]:
    """(Position, value) of a boolean or a floating-point number."""
    size = 1 if op == BOOLEAN else 4 if op == FLOAT else 8
    if end - at < size:
        return CUT, 0.0
    if op == BOOLEAN:
        if data[at] > 1:
            return NO_BOOLEAN, 0.0
        return at + 1, np.float64(data[at])
    if op == FLOAT:
        return at + 4, np.float64(data[at : at + 4].view(np.float32)[0])
    return at + 8, data[at : at + 8].view(np.float64)[0]


@numba.njit(cache=True, nogil=True)
def _symbol(data: Bytes, at: int, end: int, node: int, tree: Tree) -> tuple[int, int]:
    """(The reader's number of a symbol, position)."""
    written, at = _varint(data, at, end)
    if at < 0:
        return 0, at
    if written < 0 or written >= tree.size[node]:
        return 0, NO_SYMBOL
    symbol = tree.symbols[tree.first[node] + written]
    return symbol, at if symbol >= 0 else NO_SYMBOL


@numba.njit(cache=True, nogil=True)
def _read(
    data: Bytes, at: int, end: int, node: int, tree: Tree, cells: Cells, slot: int, row: int
) -> int:
    """Put a value into its cell; return the position behind it."""
    op = tree.op[node]
    if op == UNION:
        branch, at = _branch(data, at, end, tree.size[node])
        if at < 0:
            return at
        node = tree.children[tree.first[node] + branch]
        op = tree.op[node]
    if not tree.fits[node]:
        return OTHER_TYPE
    if op == NULL:
        cells.is_null[slot, row] = True
    elif op in (INT, LONG):
        value, at = _varint(data, at, end)
        cells.ints[slot, row] = value
        cells.doubles[slot, row] = np.float64(value) * tree.scale[node]
    elif op == TEXT:
        size, at = _text(data, at, end)
        cells.ints[slot, row] = at
        cells.sizes[slot, row] = size
        if at >= 0:
            at += size
    elif op == ENUM:
        cells.ints[slot, row], at = _symbol(data, at, end, node, tree)
    else:
        at, cells.doubles[slot, row] = _fixed_number(data, at, end, op)
    return at


@numba.njit(cache=True, nogil=True)
def read_records(
    data: Bytes, starts: Ints, ends: Ints, tree: Tree, cells: Cells, faults: Ints, places: Ints
) -> None:
    """Read all records of a chunk.

    Args:
        data: the chunk.
        starts: int64[n], where each record begins.
        ends: int64[n], where it ends.
        tree: how it was written.
        cells: of n records, zeros; they are filled.
        faults: int64[n], zeros; what is wrong with the record, if anything is.
        places: int64[n], zeros; the field at which it is wrong.
    """
    todo = np.empty(STACK_MAX, np.int64)
    left = np.empty(STACK_MAX, np.int64)
    fields = len(tree.fields)
    for row in range(len(starts)):
        at, end = starts[row], ends[row]
        for field in range(fields):
            node, slot = tree.fields[field], tree.slots[field]
            if slot >= 0:
                at = _read(data, at, end, node, tree, cells, slot, row)
            else:
                at = _skip(data, at, end, node, tree, todo, left)
            if at < 0:
                faults[row], places[row] = at, field
                break
        if at >= 0 and at != end:
            faults[row] = LEFT_OVER
