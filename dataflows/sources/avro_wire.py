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

NULL, BOOLEAN, INT, LONG, FLOAT, DOUBLE, TEXT, FIXED, ENUM, UNION, RECORD, ARRAY, MAP = range(13)

# Faults, as negative positions.
CUT, LEFT_OVER, LONG_NUMBER, NO_BRANCH, NO_SYMBOL, NO_BOOLEAN, NO_SIZE, TOO_DEEP, OTHER_TYPE = (
    range(-9, 0)
)
STACK_MAX = 256


# How a column takes what stands there.
NOT, AS_INTEGER, AS_DOUBLE, AS_TEXT, AS_SYMBOL, AS_NULL = range(6)
# Columns of ``Tree.nodes``.
OP, SIZE, FIRST, HOW, FACTOR, NODE_WIDTH = range(6)
# Of ``Cells``: a value, and a text's size or that there is null.
VALUE, EXTRA, CELL_WIDTH = range(3)
IS_NULL = -1


class Tree(NamedTuple):
    """The types of a schema as numbered nodes.

    Attributes:
        nodes: int64[nodes, 5]. OP is what stands in the record. SIZE is the bytes of a FIXED, the
            symbols of an ENUM, the children of UNION and RECORD, and 1 for an ARRAY whose items
            take no bytes. FIRST is where in ``links`` the children begin, or the symbols. HOW the
            column takes the value, and by which FACTOR a number is multiplied for AS_DOUBLE.
        links: int64, nodes that are children; and for each symbol the reader's number of it, -1
            for one that the reader does not have.
        fields: int64[fields, 2], the nodes of the record's fields, and the column of each; -1 for
            a field that nobody reads.
    """

    nodes: Ints
    links: Ints
    fields: Ints


class Cells(NamedTuple):
    """What was read: two views of one memory, of the shape [columns, records, CELL_WIDTH].

    Attributes:
        ints: at VALUE integers, numbers of symbols, and where texts begin; at EXTRA the sizes of
            texts, and IS_NULL.
        doubles: at VALUE numbers and booleans.
    """

    ints: Ints
    doubles: Floats


def empty_cells(columns: int, records: int) -> Cells:
    """Cells to be filled."""
    ints = np.zeros((columns, records, CELL_WIDTH), np.int64)
    return Cells(ints, ints.view(np.float64))


@numba.njit(cache=True, nogil=True, inline="always")
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


@numba.njit(cache=True, nogil=True, inline="always")
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


@numba.njit(cache=True, nogil=True, inline="always")
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
def _skip(data: Bytes, at: int, end: int, node: int, nodes: Ints, links: Ints, stack: Ints) -> int:
    """The position behind a value that nobody reads.

    ``stack`` is int64[STACK_MAX, 2]: nodes, and how much of each is done (RECORD) or is left
    (ARRAY, MAP).
    """
    stack[0, 0], stack[0, 1] = node, 0
    depth = 1
    while depth > 0 and at >= 0:
        if depth + 2 > STACK_MAX:
            return TOO_DEEP
        depth -= 1
        node, part = stack[depth]
        op, size = nodes[node, OP], nodes[node, SIZE]
        child = -1
        if op < UNION:
            at = _skip_leaf(data, at, end, op, size)
        elif op == UNION:
            child, at = _branch(data, at, end, size)
        elif op == RECORD:
            if part < size:
                stack[depth, 1] = part + 1
                depth += 1
                child = part
        else:
            if part == 0:
                part, at = _block(data, at, end, op == ARRAY and size == 1)
            if part >= 0:
                stack[depth, 1] = max(part - 1, 0)
                depth += 1
            if part > 0:
                child = 0
                if op == MAP and at >= 0:
                    at = _skip_leaf(data, at, end, TEXT, 0)
        if child >= 0:
            stack[depth, 0], stack[depth, 1] = links[nodes[node, FIRST] + child], 0
            depth += 1
    return at


@numba.njit(cache=True, nogil=True, inline="always")
def _fixed_number(data: Bytes, at: int, end: int, op: int) -> tuple[float, int]:
    """(Value, position) of a boolean or a floating-point number."""
    size = 1 if op == BOOLEAN else 4 if op == FLOAT else 8
    if end - at < size:
        return 0.0, CUT
    if op == DOUBLE:
        return data[at : at + 8].view(np.float64)[0], at + 8
    if op == FLOAT:
        return np.float64(data[at : at + 4].view(np.float32)[0]), at + 4
    return np.float64(data[at]), at + 1 if data[at] < 2 else NO_BOOLEAN


@numba.njit(cache=True, nogil=True, inline="always")
def _symbol(data: Bytes, at: int, end: int, node: int, nodes: Ints, links: Ints) -> tuple[int, int]:
    """(The reader's number of a symbol, position)."""
    written, at = _varint(data, at, end)
    if at >= 0:
        if written < 0 or written >= nodes[node, SIZE]:
            return 0, NO_SYMBOL
        written = links[nodes[node, FIRST] + written]
        if written < 0:
            return 0, NO_SYMBOL
    return written, at


@numba.njit(cache=True, nogil=True, inline="always")
def _read(
    data: Bytes,
    at: int,
    end: int,
    node: int,
    nodes: Ints,
    links: Ints,
    ints: Ints,
    doubles: Floats,
    slot: int,
    row: int,
) -> int:
    """Put a value into its cell; return the position behind it."""
    if nodes[node, OP] == UNION:
        branch, at = _branch(data, at, end, nodes[node, SIZE])
        if at < 0:
            return at
        node = links[nodes[node, FIRST] + branch]
    op, how = nodes[node, OP], nodes[node, HOW]
    if how == AS_TEXT:
        size, at = _text(data, at, end)
        ints[slot, row, VALUE] = at
        ints[slot, row, EXTRA] = size
        if at >= 0:
            at += size
    elif how == AS_NULL:
        ints[slot, row, EXTRA] = IS_NULL
    elif how == AS_SYMBOL:
        ints[slot, row, VALUE], at = _symbol(data, at, end, node, nodes, links)
    elif how == NOT:
        return OTHER_TYPE
    elif op == INT or op == LONG:  # noqa: SIM109
        value, at = _varint(data, at, end)
        if how == AS_INTEGER:
            ints[slot, row, VALUE] = value
        else:
            doubles[slot, row, VALUE] = np.float64(value) * nodes[node, FACTOR]
    else:
        doubles[slot, row, VALUE], at = _fixed_number(data, at, end, op)
    return at


def read_records(
    data: Bytes, starts: Ints, ends: Ints, tree: Tree, cells: Cells
) -> tuple[Ints, Ints]:
    """Read all records of a chunk.

    Args:
        data: the chunk.
        starts: int64[n], where each record begins.
        ends: int64[n], where it ends.
        tree: how it was written.
        cells: of n records; they are filled.

    Returns:
        int64[n], what is wrong with each record (0 if nothing is); int64[n], at which field.
    """
    faults, places = np.zeros(len(starts), np.int64), np.zeros(len(starts), np.int64)
    # Arrays one by one: numba counts references to all arrays of a tuple at every call.
    _read_records(data, starts, ends, *tree, *cells, faults, places)
    return faults, places


@numba.njit(cache=True, nogil=True)
def _read_records(
    data: Bytes,
    starts: Ints,
    ends: Ints,
    nodes: Ints,
    links: Ints,
    fields: Ints,
    ints: Ints,
    doubles: Floats,
    faults: Ints,
    places: Ints,
) -> None:
    stack = np.empty((STACK_MAX, 2), np.int64)
    for row in range(len(starts)):
        at, end = starts[row], ends[row]
        for field in range(len(fields)):
            node, slot = fields[field, 0], fields[field, 1]
            if slot >= 0:
                at = _read(data, at, end, node, nodes, links, ints, doubles, slot, row)
            else:
                at = _skip(data, at, end, node, nodes, links, stack)
            if at < 0:
                faults[row], places[row] = at, field
                break
        if at >= 0 and at != end:
            faults[row] = LEFT_OVER
