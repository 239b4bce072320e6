"""Reads what a replay has gathered in a SQLite store of ours, entity by entity, as Redis has it."""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from contracts.feast_redis import encode_timestamp, redis_field, redis_timestamp_field
from contracts.plan import View
from dataflows.stores.sqlite_file import quoted, table_of, tables_in

# Entity key, then field, value, field, value ... of its hash.
EntityFields = tuple[bytes, list[bytes]]
_ROWS_AT_ONCE = 1_000


@dataclass(frozen=True)
class _Table:
    name: str
    view: View


class GatheredRows:
    """The rows of some views in a file; one thread. Holds a bounded number of rows in memory."""

    def __init__(self, path: Path | None, project: str, views: Sequence[View]) -> None:
        """Open the file to read.

        Args:
            path: a file that SqliteOnlineWriter has written; None for no rows.
            project: Feast project.
            views: whose rows; a view without a table has none.

        Raises:
            sqlite3.Error: the file cannot be read.
        """
        where = ":memory:" if path is None else f"{path.absolute().as_uri()}?mode=ro"
        self._connection = sqlite3.connect(where, uri=True)
        there = tables_in(self._connection)
        self._tables = [
            _Table(quoted(table), view)
            for view in views
            if (table := table_of(project, view.name)) in there
        ]

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def entities(self) -> Iterator[EntityFields]:
        """Every entity once, with the fields of all views that have a row of it."""
        streams = [self._rows(table) for table in self._tables]
        # Each stream is in the order of its keys, as the tables are.
        for key, rows in groupby(heapq.merge(*streams, key=itemgetter(0)), key=itemgetter(0)):
            fields: list[bytes] = []
            for _, more in rows:
                fields += more
            yield key, fields

    def missing(self, entities: Sequence[bytes]) -> list[bytes]:
        """Those of some entities of which no view has a row."""
        return [
            entity for entity in entities if not any(self._has(t, entity) for t in self._tables)
        ]

    def _has(self, table: _Table, entity: bytes) -> bool:
        query = f"SELECT 1 FROM {table.name} WHERE entity_key = ? LIMIT 1"
        return self._connection.execute(query, (entity,)).fetchone() is not None

    def _rows(self, table: _Table) -> Iterator[EntityFields]:
        """The rows of one view, in the order of their keys."""
        view = table.view
        cells = ", ".join(
            f"max(CASE feature_name WHEN {_text(aggregate.feature)} THEN value END)"
            for aggregate in view.aggregates
        )
        stamp = redis_timestamp_field(view.name)
        names = [redis_field(view.name, aggregate.feature) for aggregate in view.aggregates]
        with closing(self._connection.cursor()) as cursor:
            cursor.execute(
                f"SELECT entity_key, max(event_us), {cells} FROM {table.name}"
                " GROUP BY entity_key ORDER BY entity_key"
            )
            while chunk := cursor.fetchmany(_ROWS_AT_ONCE):
                for key, stamp_us, *values in chunk:
                    fields = [stamp, encode_timestamp(stamp_us)]
                    for name, value in zip(names, values, strict=True):
                        fields += (name, value or b"")
                    yield key, fields


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
