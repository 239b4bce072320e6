"""How values lie in the file that a replay gathers them in: one row for each entity of a view.

What stands in a live SQLite store, a row for each value in three B-trees, costs several times as
much to write, and a replay writes most rows again and again. Values are Feast's bytes already.
Those that are no texts lie in one blob, each in a slot of its own: a byte that says how many bytes
count, then these, then zeros; so one statement of SQLite takes them apart (``sqlite_refill``).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from contracts.feast_bytes import TAG_FLOAT64, TRUE
from contracts.feast_columns import encode_string_column, int64_cells
from contracts.feature_schema import ValueType
from contracts.plan import View
from dataflows.stores.online_writer import OnlineStoreError
from dataflows.stores.sqlite_file import quoted, table_of, tables_in

# To be raised whenever a file of before cannot be read any more.
FORMAT = 1
# No view's: no Feast project has a dot in its name.
_LAYOUTS = "headwater.gathered"
# Bytes of the longest value.
_SIZES = {"float64": 9, "int64": 11, "bool": 2}

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Slot:
    """Where one feature of a row stands.

    Attributes:
        feature: its name.
        dtype: its type.
        at: of a text the number of its column; else the byte of the blob that its length is in.
    """

    feature: str
    dtype: ValueType
    at: int

    @property
    def size(self) -> int:
        """How many bytes stand behind that of the length; 0 for a text."""
        return _SIZES.get(self.dtype, 0)


@dataclass(frozen=True)
class Layout:
    """A table of gathered rows: ``entity_key, event_us, numbers, text0, text1 ...``."""

    table: str
    slots: tuple[Slot, ...]

    @property
    def numbers_size(self) -> int:
        """Bytes of the blob with all that is no text."""
        return sum(slot.size + 1 for slot in self.slots if slot.size)

    @property
    def texts(self) -> list[str]:
        """The columns of texts."""
        return [f"text{slot.at}" for slot in self.slots if not slot.size]

    def columns(self, values: npt.NDArray[np.float64], texts: Sequence[str]) -> list[list[bytes]]:
        """The blobs of some rows, and each of their texts.

        Args:
            values: float64[n, F], n > 0, a column for each slot; NaN is null.
            texts: what the values of string features are places in.

        Raises:
            ValueError: a value does not fit the feature's type.
        """
        blobs = np.zeros((len(values), self.numbers_size), np.uint8)
        columns: list[list[bytes]] = []
        for slot, column in zip(self.slots, values.T, strict=True):
            if not slot.size:
                columns.append(encode_string_column(column, texts))
                continue
            cells, lengths = _cells(slot.dtype, np.ascontiguousarray(column))
            blobs[:, slot.at] = lengths
            blobs[:, slot.at + 1 : slot.at + 1 + cells.shape[1]] = cells
        return [_as_bytes(blobs), *columns]

    def values(
        self, blobs: Sequence[bytes], texts: Sequence[Sequence[bytes]]
    ) -> list[Sequence[bytes]]:
        """Feast's bytes of each feature: what ``columns`` was given, column by column."""
        cells = np.frombuffer(b"".join(blobs), np.uint8).reshape(len(blobs), self.numbers_size)
        columns: list[Sequence[bytes]] = []
        for slot in self.slots:
            if not slot.size:
                columns.append(texts[slot.at])
                continue
            lengths = cells[:, slot.at]
            found = _as_bytes(np.ascontiguousarray(cells[:, slot.at + 1 :][:, : slot.size]))
            for row in np.flatnonzero(lengths < slot.size).tolist():
                found[row] = found[row][: lengths[row]]
            columns.append(found)
        return columns


def layout_of(project: str, view: View) -> Layout:
    """How the rows of a view are gathered."""
    return _layout(table_of(project, view.name), [(a.feature, a.dtype) for a in view.aggregates])


def make_gathered_table(connection: sqlite3.Connection, layout: Layout) -> None:
    """Make the table if it is missing, and note its layout. Raise sqlite3.Error."""
    texts = "".join(f", {name} BLOB" for name in layout.texts)
    features = json.dumps([(slot.feature, slot.dtype) for slot in layout.slots])
    layouts, table = quoted(_LAYOUTS), quoted(layout.table)
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {layouts} (name TEXT PRIMARY KEY, features TEXT NOT NULL)"
    )
    connection.execute(f"INSERT OR REPLACE INTO {layouts} VALUES (?, ?)", (layout.table, features))
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {table} (entity_key BLOB PRIMARY KEY,"
        f" event_us INTEGER, numbers BLOB{texts}) WITHOUT ROWID"
    )


def gathered_layouts(connection: sqlite3.Connection, schema: str = "main") -> dict[str, Layout]:
    """Table -> how its rows lie, of all that the file has; none of a file that gathers nothing.

    The file says so itself: definitions may have changed since a replay that was killed.
    """
    if _LAYOUTS not in tables_in(connection, schema):
        return {}
    found = connection.execute(f"SELECT name, features FROM {schema}.{quoted(_LAYOUTS)}")
    return {name: _layout(name, json.loads(features)) for name, features in found.fetchall()}


def layouts_of_views(
    connection: sqlite3.Connection, project: str, views: Sequence[View], schema: str = "main"
) -> dict[str, Layout]:
    """View -> how its rows lie, of those that have a table.

    Raises:
        OnlineStoreError: values were gathered in another form.
        sqlite3.Error: the file cannot be read.
    """
    known, there = gathered_layouts(connection, schema), tables_in(connection, schema)
    found = {}
    for view in views:
        table = table_of(project, view.name)
        if table in known:
            found[view.name] = known[table]
        elif table in there:
            raise OnlineStoreError(
                f"what the replay gathered of view {view.name!r} is from another version of "
                "Headwater: end the replay with that one, or remove the file with its values "
                "(*.replay) and start `headwater replay` again"
            )
    return found


def _layout(table: str, features: Sequence[tuple[str, ValueType]]) -> Layout:
    slots, numbers, texts = [], 0, 0
    for feature, dtype in features:
        if dtype == "string":
            slots.append(Slot(feature, dtype, texts))
            texts += 1
        else:
            slots.append(Slot(feature, dtype, numbers))
            numbers += slots[-1].size + 1
    return Layout(table, tuple(slots))


def _cells(
    dtype: ValueType, values: npt.NDArray[np.float64]
) -> tuple[Bytes, npt.NDArray[np.int64]]:
    """Feast's bytes side by side, and how many of each count."""
    if dtype == "int64":
        return int64_cells(values)
    null = np.isnan(values)
    if dtype == "float64":
        cells = np.empty((len(values), 9), np.uint8)
        cells[:, 0] = TAG_FLOAT64
        cells[:, 1:] = values.astype("<f8", copy=False).view(np.uint8).reshape(-1, 8)
    else:
        cells = np.empty((len(values), 2), np.uint8)
        cells[:, 0] = TRUE[0]
        cells[:, 1] = values != 0
    cells[null] = 0
    return cells, np.where(null, 0, cells.shape[1])


def _as_bytes(cells: Bytes) -> list[bytes]:
    if not cells.shape[1]:
        return [b""] * len(cells)
    found: list[bytes] = cells.view(f"V{cells.shape[1]}").ravel().tolist()
    return found
